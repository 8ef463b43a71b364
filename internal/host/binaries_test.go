package host

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/plan"
)

// The look is run by a real shell on files of this machine; its cache of hashes
// is moved into the test's folder.
func TestBinariesAreToldApart(t *testing.T) {
	dir := t.TempDir()
	place := func(a bundle.Artifact) string { return strings.Replace(at(a), plan.Programs, dir, 1) }
	put := func(a bundle.Artifact, content string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(place(a)), 0o755), os.WriteFile(place(a), []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
	var want []bundle.Artifact
	for _, name := range []string{"good", "other", "plain", "absent", "below", "d good"} {
		want = append(want, bundle.Artifact{Name: name, Version: "v1", Dest: "/usr/bin/" + name, SHA256: sumOf(name)})
	}
	put(want[0], "good", 0o755)
	put(want[1], "changed", 0o755)
	put(want[2], "plain", 0o644)
	if err := os.WriteFile(dir+"/below", nil, 0o600); err != nil { // where a folder should be
		t.Fatal(err)
	}
	put(want[5], "d good", 0o755) // a path with a space
	script := strings.NewReplacer(sumsFile, dir+"/sums", plan.Programs, dir).Replace(binariesScript(want))
	look := func() string {
		var got []string
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, a := range want {
			c, err := binaryChange(a, plan.Answer{Out: strings.ReplaceAll(string(out), dir, plan.Programs)})
			switch {
			case err != nil:
				t.Fatal(err)
			case c == nil:
				got = append(got, a.Name+" ok")
			default:
				got = append(got, a.Name+" "+string(c.Op))
			}
		}
		return strings.Join(got, ", ")
	}
	const first = "good ok, other update, plain update, absent create, below create, d good ok"
	for range 2 { // the second time from the cache
		if s := look(); s != first {
			t.Error(s)
		}
	}
	sums, err := os.ReadFile(dir + "/sums")
	if n := strings.Count(string(sums), "\n"); err != nil || n != 4 {
		t.Errorf("%d hashes kept, %v:\n%s", n, err, sums)
	}
	if err := os.Rename(place(want[0]), dir+"/was"); err != nil {
		t.Fatal(err)
	}
	put(want[0], "evil", 0o755) // of the same size
	if s := look(); s != strings.Replace(first, "good ok", "good update", 1) {
		t.Error(s)
	}
	loop := dir + "/loop"
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	looping := strings.ReplaceAll(binariesScript([]bundle.Artifact{{Name: "loop", Version: "v1", SHA256: sumOf("loop"), Dest: "/usr/bin/loop"}}), plan.Programs, dir)
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", looping).CombinedOutput(); err == nil {
		t.Errorf("a file that cannot be looked at: %s", out)
	}
}

func sumOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
