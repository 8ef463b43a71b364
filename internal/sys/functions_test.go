package sys

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/wait"
)

func TestScriptGetsTheFunctionsThatItCallsAndNoOthers(t *testing.T) {
	t.Parallel()
	got := With("about_process x\n")
	for _, want := range []string{"show_units() {\n", "about_unit() {\n", "about_process() {\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is there %d times", want, strings.Count(got, want))
		}
	}
	if strings.Count(got, "() {") != 3 || strings.Contains(got, "# ") || strings.Contains(got, "\n ") || strings.Contains(got, "; ") || !strings.HasSuffix(got, "}\nabout_process x\n") {
		t.Errorf("it gets more:\n%s", got)
	}
	if got := With("systemctl restart x\n"); got != "systemctl restart x\n" {
		t.Errorf("one that calls none becomes %q", got)
	}
	for i, f := range functions {
		for _, later := range functions[i+1:] {
			if strings.Contains(f.text, later.name) {
				t.Errorf("%s stands above %s, which it calls", f.name, later.name)
			}
		}
	}
}

// Only a script that is kept in a file on a host asks for the functions itself: everywhere
// else it could be forgotten.
func TestOnePlaceGivesScriptsTheirFunctions(t *testing.T) {
	t.Parallel()
	allowed := map[string]bool{"internal/remote/run.go": true, "internal/remote/fake.go": true, "internal/drill/hit.go": true}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		if calls := strings.Contains(string(b), "sys.With("); calls != allowed[filepath.ToSlash(name)] {
			t.Errorf("%s calls sys.With: %t", name, calls)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWaitsOfFunctionsAreStretched(t *testing.T) {
	t.Parallel()
	if got := Functions("about_process"); strings.Count(got, wait.Shell) != 2 {
		t.Errorf("the wait for a unit's program is not stretched by %s:\n%s", wait.Shell, got)
	}
}

// run runs a script with its functions on this machine; first are folders of other programs.
func run(t *testing.T, script string, first ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", With(script))
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+strings.Join(append(first, os.Getenv("PATH")), ":"))
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestAbsentIsOnlyWhatIsKnownToBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "there", dir: "there", dir + "/no": "absent", file + "/no": "absent", strings.Repeat("x", 300): ""} {
		out, err := run(t, "if is_there '"+path+"'; then echo there; else echo absent; fi")
		if want == "" && (err == nil || !strings.Contains(out, "name too long")) || want != "" && (err != nil || out != want) {
			t.Errorf("%.20s: %q, %v, want %q", path, out, err, want)
		}
	}
}

func TestProcessIsFoundByNameAndCommandLine(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "hactl-sleeps")
	if out, err := exec.CommandContext(t.Context(), "cp", "/bin/sleep", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), name, "61.5")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pid := fmt.Sprint(cmd.Process.Pid)
	for call, want := range map[string]string{"hactl-sleeps": pid, "hactl-sleeps '61.5'": pid, "hactl-sleeps ' no-such-word'": "", "hactl-sleep": ""} {
		if out, err := run(t, "i=0; while p=$(pids_of "+call+"); [ \"$p\" != '"+want+"' ] && [ $i -lt 500 ]; do i=$((i+1)); sleep 0.02; done; echo $p"); err != nil || out != want {
			t.Errorf("pids_of %s: %q, %v, want %q", call, out, err, want)
		}
	}
	out, err := run(t, "b=$(identify 0 "+pid+"); echo $b; ! have_ended $b && have_ended "+pid+":1 && ! have_ended && ! are_stopped && ! are_stopped $b && kill -STOP "+pid+
		" || exit; until are_stopped $b; do sleep 0.02; done; kill -CONT "+pid)
	if err != nil || !strings.HasPrefix(out, pid+":") || strings.Contains(out, " ") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestBootIsThatOfTheKernelAndOfPID1(t *testing.T) {
	t.Parallel()
	kernel, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "this_boot; this_boot")
	first, second, _ := strings.Cut(out, "\n")
	if id, start, _ := strings.Cut(first, "."); err != nil || first != second || id != strings.TrimSpace(string(kernel)) || strings.Trim(start, "0123456789") != "" || start == "" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAddressThatCannotBeAskedForIsNotAbsent(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		"echo '1: lo    inet 192.0.2.1/32 scope global lo'": "yes",
		":":                   "no",
		"echo no >&2; exit 1": "no\nexit status 1",
	} {
		bin := t.TempDir()
		if err := os.WriteFile(bin+"/ip", []byte("#!/bin/sh\n[ \"$*\" = '-o address show to 192.0.2.1' ] || exit 9\n"+answer+"\n"), 0o755); err != nil { //nolint:gosec // it is to run
			t.Fatal(err)
		}
		out, err := run(t, "if has_address 192.0.2.1; then echo yes; else echo no; fi", bin)
		if err != nil {
			out += "\n" + err.Error()
		}
		if out != want {
			t.Errorf("%s: %q, want %q", answer, out, want)
		}
	}
}
