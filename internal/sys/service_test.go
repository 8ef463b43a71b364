package sys

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The time of such a machine passes only in its "sleep", which notes what it was told to
// sleep, and runs the file "then" once so many sleeps are over as the file "after"
// says.
const fakeSleep = `#!/bin/sh
cd "${0%/*}" || exit 1
echo "$1" >>slept
[ ! -e after ] || [ "$(wc -l <slept)" -lt "$(cat after)" ] || { rm after; . ./then; }
`

// slept is how long the host's scripts have slept.
func (h *machine) slept(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "slept"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var sum time.Duration
	for _, f := range strings.Fields(string(b)) {
		d, err := time.ParseDuration(f + "s")
		if err != nil {
			t.Fatal(err)
		}
		sum += d
	}
	return sum
}

// later has the host run the script after so many sleeps.
func (h *machine) later(t *testing.T, sleeps int, script string) {
	t.Helper()
	h.write(t, "then", script)
	h.write(t, "after", strconv.Itoa(sleeps))
}

const variable = "HACTL_CONFIG"

// pidSystemctl has the unit's main process in the file pid.
const pidSystemctl = `#!/bin/sh
cd "${0%/*}" || exit 1
case "$*" in *MainPID*) cat pid ;; esac
`

// A queued restart has not begun while the process of before is there, which may
// have been started with the same HACTL_CONFIG.
func TestServiceHasBegunOnceItsProcessIsAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		assignment string
		after      int // sleeps until the process is another; 0: never
		slept      time.Duration
	}{
		"after four looks":    {variable + "=abc", 4, 400 * time.Millisecond},
		"never":               {variable + "=abc", 0, 1900 * time.Millisecond},
		"another's variables": {variable + "=ab", 4, 1900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := withSystemctl(t, pidSystemctl)
			next, before := h.process(t, "cat"), h.process(t, "cat")
			h.write(t, "pid", before)
			if c.after > 0 {
				h.later(t, c.after, "echo "+next+" >pid")
			}
			out, err := run(t, "wait_until 2 'it did not start' has_begun x.service "+before+" "+c.assignment, h.dir)
			if ended := c.slept < time.Second; (err == nil) != ended || !ended && out != "it did not start within 2 s" || h.slept(t) != c.slept {
				t.Errorf("%q, %v after %s", out, err, h.slept(t))
			}
		})
	}
}

// showSystemctl says that the unit runs, the first time by the process in the file
// first, if there is one, and then by the one in the file pid. The file reload holds
// NeedDaemonReload of the unit and of init.scope.
const showSystemctl = `#!/bin/sh
cd "${0%/*}" || exit 1
read -r unit all 2>/dev/null <reload
case "$*" in *init.scope*) printf '%s\n\n%s\n\n%s\n' "${all:-no}" "${unit:-no}" "${all:-no}"; exit ;; esac
[ ! -e first ] || mv first now
printf 'Id=x.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=%s\nMainPID=%s\n' "${unit:-no}" "$(cat now 2>/dev/null || cat pid)"
rm -f now
`

// config is the HACTL_CONFIG of the process that runs for x.service, as the machine tells it.
func config(t *testing.T, h *machine) (string, error) {
	t.Helper()
	s, err := ask(t, ServiceOf("x.service", variable, ""), h.dir)
	return s.Config, err
}

// TestLookWaitsForTheUnitsProgram has the two moments in which the main process
// that systemd names does not have the unit's environment.
func TestLookWaitsForTheUnitsProgram(t *testing.T) {
	t.Parallel()
	t.Run("forked and not yet that program", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		// A script's process has its file's name until it becomes another program.
		h.write(t, "(x)", "#!/bin/sh\nread -r _ <begin\n"+variable+"=new exec cat\n")
		if err := syscall.Mkfifo(filepath.Join(h.dir, "begin"), 0o600); err != nil {
			t.Fatal(err)
		}
		pid := h.process(t, filepath.Join(h.dir, "(x)"))
		h.write(t, "pid", pid)
		h.later(t, 4, "echo >begin; until [ $(cat /proc/"+pid+"/comm) = cat ]; do :; done")
		if c, err := config(t, h); c != "new" || err != nil {
			t.Errorf("%q, %v", c, err)
		}
		if got := h.slept(t); got != 400*time.Millisecond {
			t.Errorf("waited for %s", got)
		}
	})
	t.Run("ended in between", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		h.write(t, "first", strconv.Itoa(1<<30))
		h.write(t, "pid", h.process(t, "cat"))
		if c, err := config(t, h); c != "abc" || err != nil {
			t.Errorf("%q, %v", c, err)
		}
	})
	t.Run("ended and not yet followed by another", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		dead := exec.CommandContext(t.Context(), "true")
		if err := dead.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = dead.Wait() }() // until then it has a name, and no environment
		for left := []byte("?"); len(left) > 0; {
			left, _ = os.ReadFile(filepath.Join("/proc", strconv.Itoa(dead.Process.Pid), "environ"))
		}
		h.write(t, "first", strconv.Itoa(dead.Process.Pid))
		h.write(t, "pid", h.process(t, "cat"))
		if c, err := config(t, h); c != "abc" || err != nil {
			t.Errorf("%q, %v", c, err)
		}
	})
	t.Run("stays systemd's own", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		h.write(t, "(x)", "#!/bin/sh\nread -r _\n")
		pid := h.process(t, filepath.Join(h.dir, "(x)"))
		h.write(t, "pid", pid)
		c, err := config(t, h)
		if c != "" || err == nil {
			t.Fatalf("%q, %v: what it will be is not known", c, err)
		}
		if want := "exit status 1: process " + pid + " ((x)) did not become the program of x.service within 10 s"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
		if got := h.slept(t); got != 9900*time.Millisecond {
			t.Errorf("waited for %s, the bound is a hundred looks", got)
		}
	})
	t.Run("another program is not waited for", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		h.write(t, "pid", h.process(t, "cat"))
		if c, err := config(t, h); c != "abc" || err != nil || h.slept(t) != 0 {
			t.Errorf("%q after %s, %v", c, h.slept(t), err)
		}
	})
}

// Since systemd 255 NeedDaemonReload is yes of every unit once one was enabled and
// systemd has not read its units anew. Enabling one service made another look as if
// its unit had changed.
func TestReloadThatAllUnitsNeedIsNotThatOfTheUnit(t *testing.T) {
	t.Parallel()
	for reload, want := range map[string]bool{"no no": false, "yes no": true, "yes yes": false} {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "pid", h.process(t, "cat"))
		h.write(t, "reload", reload+"\n")
		if got, err := ask(t, ServiceOf("x.service", variable, ""), h.dir); err != nil || got.Reload != want {
			t.Errorf("%s: %+v, %v", reload, got, err)
		}
	}
}

func TestServiceHasWhatItsProcessWasStartedWith(t *testing.T) {
	t.Parallel()
	h := withSystemctl(t, showSystemctl)
	h.write(t, "pid", h.process(t, "cat"))
	sum := strings.Repeat("ab", 32)
	h.write(t, "started", sum+"  /etc/a\n"+sum+"  /etc/b\n")
	for file, want := range map[string]int{"": 0, h.dir + "/no": 0, h.dir + "/started": 2} {
		got, err := ask(t, ServiceOf("x.service", variable, file), h.dir)
		if err != nil || got.Config != "abc" || !got.Runs() || got.Enabled != "enabled" || len(got.Started) != want || want > 0 && got.Started["/etc/b"] != sum {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	if got, err := ask(t, ServiceOf("x.service", "OTHER", ""), h.dir); err != nil || got.Config != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// dyingSystemctl has a unit of Type=simple whose process is another at each of the
// first looks, as many as the file dies says.
const dyingSystemctl = `#!/bin/sh
cd "${0%/*}" || exit 1
case "$*" in
*Type*) echo simple ;;
*MainPID*) n=$(cat dies); [ "$n" = 0 ] || echo $((n - 1)) >dies; echo $((70 + n)) ;;
esac
`

// A unit of Type=simple is active as soon as it is forked: one that dies at its
// start is not ready.
func TestSteadyServiceStaysForAWhile(t *testing.T) {
	t.Parallel()
	const bound = 5 * time.Second
	for dies, want := range map[string]time.Duration{
		"0":    time.Second,
		"3":    3*time.Second + 200*time.Millisecond, // two looks at each of three processes
		"1000": 0,                                    // never
	} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			h := withSystemctl(t, dyingSystemctl)
			h.write(t, "dies", dies)
			_, err := run(t, "wait_until 5 '' is_steady x.service", h.dir)
			if (err == nil) != (want > 0) {
				t.Fatalf("%v", err)
			}
			if got := h.slept(t); want > 0 && got != want || want == 0 && (got < bound-time.Second || got > bound+time.Second) {
				t.Errorf("slept %s", got)
			}
		})
	}
}

// machine runs scripts on this machine, with another systemctl and another sleep.
type machine struct{ dir string }

func withSystemctl(t *testing.T, systemctl string) *machine {
	t.Helper()
	h := &machine{dir: t.TempDir()}
	h.write(t, "systemctl", systemctl)
	h.write(t, "sleep", fakeSleep)
	return h
}

func (h *machine) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o755); err != nil { //nolint:gosec // scripts
		t.Fatal(err)
	}
}

// process starts a process with HACTL_CONFIG=abc, which ends with the test. What it
// reads from stdin never comes.
func (h *machine) process(t *testing.T, argv ...string) (pid string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{variable + "=abc", "PATH=" + os.Getenv("PATH")}
	cmd.Dir = h.dir
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	return strconv.Itoa(cmd.Process.Pid)
}
