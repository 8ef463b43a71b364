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
	allowed := map[string]bool{"internal/remote/run.go": true, "internal/remote/fake.go": true, "internal/drill/injection.go": true,
		"internal/fakehost/host.go": true, "internal/fakehost/folder_host.go": true, "internal/fakehost/memory.go": true} // hosts of tests, too
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
	for name, bounds := range map[string]int{"about_process": 2, "wait_until": 1, "hold_lock": 3, "break_lock": 2, "await_images": 0} {
		if got := Functions(name); strings.Count(got, wait.Shell) != bounds {
			t.Errorf("%s is not stretched by %s:\n%s", name, wait.Shell, got)
		}
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

func TestWaitEndsWhenItIsTrueOrItsTimeIsOver(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/it"
	if out, err := run(t, "( sleep 0.3; : >'"+file+"' ) & wait_until 60 'no file' [ -e '"+file+"' ] && echo there"); err != nil || out != "there" {
		t.Errorf("%q, %v", out, err)
	}
	for env, want := range map[string]string{"": "no such thing within 1 s", "HACTL_SLOW_HOSTS=2; ": "no such thing within 2 s"} {
		out, err := run(t, env+"never() { echo \"$*\" >>'"+file+"'; return 1; }\n: >'"+file+"'; wait_until 1 'no such thing' never x y; echo $?; sort '"+file+"' | uniq -c")
		lines := strings.Split(out, "\n")
		if err != nil || len(lines) != 3 || lines[0] != want || lines[1] != "1" || !strings.HasSuffix(lines[2], "0 x y") || !wait.Said(want) {
			t.Errorf("%q: %q, %v", env, out, err)
		}
	}
}

func TestStateOfAUnitIsWhatSystemdSays(t *testing.T) {
	t.Parallel()
	bin := program(t, "systemctl", `case $* in
"show -p ActiveState --value -- "*) case $6 in x) echo active ;; starts) echo activating ;; ended) echo failed ;; *) echo inactive ;; esac ;;
"show -p LoadState --value -- x") echo loaded ;;
"show -p LoadState --value -- "*) echo not-found ;;
"show -p MainPID --value -- x") echo 7 ;;
"show -p MainPID --value -- mute") exit 1 ;;
"show -p MainPID --value -- "*) echo 0 ;;
"is-active --quiet -- x" | "is-enabled --quiet -- x" | "stop -- x") ;;
"is-"*) echo no >&2; exit 3 ;;
"stop -- gone") exit 5 ;;
*) exit 1 ;;
esac`)
	for call, want := range map[string]string{
		"is_running x": "yes", "is_running y": "no", "is_stopped x": "no", "is_stopped starts": "no", "is_stopped ended": "yes", "is_stopped y": "yes",
		"is_loaded x": "yes", "is_loaded y": "no", "is_enabled x": "yes", "is_enabled y": "no", "has_process x": "yes", "has_process y": "no", "has_process mute": "no",
		"stop_unit x": "yes", "stop_unit gone": "yes", "stop_unit y": "no",
	} {
		if out, err := run(t, "if "+call+" 2>/dev/null; then echo yes; else echo no; fi", bin); err != nil || out != want {
			t.Errorf("%s: %q, %v, want %s", call, out, err, want)
		}
	}
}

func TestNoneRunsIsOfAllNames(t *testing.T) {
	t.Parallel()
	if out, err := run(t, "none_runs no-such-1 no-such-2 && ! none_runs no-such-1 $(cat /proc/$$/comm) && echo right"); err != nil || out != "right" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestLogOfAMemberIsAFileOfItsLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, files := range map[string][]string{"log": {"member/wal/0.wal"}, "begun": {"member/wal/0.tmp"}, "a name with it": {"member/wal/0.wal.tmp"}, "none": {"member/snap/db"}} {
		for _, f := range files {
			path := filepath.Join(dir, name, f)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := run(t, "if has_log '"+dir+"/"+name+"'; then echo yes; else echo no; fi")
		if want := map[bool]string{true: "yes", false: "no"}[name == "log"]; err != nil || out != want {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if out, err := run(t, "has_log '"+strings.Repeat("x", 300)+"'; echo $?"); err == nil {
		t.Errorf("one that could not be looked at: %q", out)
	}
}

func TestPackagesAreThoseOfThePackageManager(t *testing.T) {
	t.Parallel()
	dpkg := program(t, "dpkg-query", `case $2 in -f=*) shift 2; for p; do case $p in curl) echo "curl installed" ;; old) echo "old config-files" ;; esac; done; [ $# -gt 0 ] || echo "base-files installed"; exit 1 ;; esac; echo curl`)
	rpm := program(t, "rpm", `case $* in "-qa --qf %{NAME}\n") echo curl-minimal ;; "-q --quiet curl-minimal" | "-q --quiet --whatprovides curl") ;; *) exit 1 ;; esac`)
	for manager, want := range map[string]string{
		"apt": "have: curl\nlack: old socat\nlist: curl",
		"dnf": "have: curl-minimal\nlack: old socat\nlist: curl-minimal",
	} {
		m := PackagesOf(manager)
		out, err := run(t, "echo have: $("+m+"_have curl curl-minimal old); echo \"lack:$("+m+"_lack curl old socat)\"; echo list: $("+m+"_list)", map[string]string{"apt": dpkg, "dnf": rpm}[manager])
		if err != nil || out != want {
			t.Errorf("%s: %q, %v, want %q", manager, out, err, want)
		}
		// A list that is empty must not stand for all packages.
		if out, err := run(t, m+"_have; "+m+"_lack", map[string]string{"apt": dpkg, "dnf": rpm}[manager]); err != nil || out != "" {
			t.Errorf("%s: of no names: %q, %v", manager, out, err)
		}
	}
}

func TestAddressIsFollowedWithTheTimeNowAndThen(t *testing.T) {
	t.Parallel()
	bin := program(t, "ip", `case $* in *monitor*) ;; "-o address show to 192.0.2.1") echo "1: lo    inet 192.0.2.1/32 scope global lo" ;; *) exit 1 ;; esac`)
	out, err := run(t, "follow_address 192.0.2.1 10", bin, program(t, "sleep", ":"))
	timed := 0
	for i, line := range strings.Split(out, "\n") {
		if line == "hactl" {
			continue
		}
		timed++
		if at, rest, _ := strings.Cut(strings.TrimPrefix(line, "hactl "), " "); rest != "1" || i >= 10 && i%4 > 0 {
			t.Errorf("line %d: %q", i, line)
		} else if _, err := ParseTime(at); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(out, "hactl"); err != nil || n != 20 || timed != 12 {
		t.Errorf("%d lines, %d with the time, %v", n, timed, err)
	}
}
