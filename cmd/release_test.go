package cmd

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A released hactl has no switch by which it kills itself: no file that is
// compiled into it reads a variable of the tests. A build for the crash tests does.
func TestReleasedBinaryHasNoFaultInjection(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "sweep": true} {
		if files := readsTestVariables(t, tags); (len(files) > 0) != want {
			t.Errorf("tags %q: files with HACTL_TEST_ variables: %q, want some: %v", tags, files, want)
		}
	}
}

// readsTestVariables returns the files of ours that are compiled into hactl with
// those build tags and name a HACTL_TEST_ variable.
func readsTestVariables(t *testing.T, tags string) (found []string) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags,
		"-f", `{{if not .Standard}}{{$d := .Dir}}{{if eq .Module.Path "hactl"}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`, "hactl/cmd/hactl", "hactl/cmd/hactl-prober", "hactl/cmd/hactl-network")
	out, err := list.Output()
	files := strings.Fields(string(out))
	if err != nil || len(files) < 100 {
		t.Fatalf("go list: %d files, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "HACTL_TEST_") {
			found = append(found, f)
		}
	}
	return found
}
