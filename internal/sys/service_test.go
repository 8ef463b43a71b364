package plan

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/remote"
)

// A shellHost's time passes only in its "sleep", which notes what it was told to
// sleep, and runs the file "then" once so many sleeps are over as the file "after"
// says.
const fakeSleep = `#!/bin/sh
cd "$DIR" || exit 1
echo "$1" >>slept
[ ! -e after ] || [ "$(wc -l <slept)" -lt "$(cat after)" ] || { rm after; . ./then; }
`

// slept is how long the host's scripts have slept.
func (h *shellHost) slept(t *testing.T) time.Duration {
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
func (h *shellHost) later(t *testing.T, sleeps int, script string) {
	t.Helper()
	h.write(t, "then", script)
	h.write(t, "after", strconv.Itoa(sleeps))
}

// pidSystemctl has the unit's main process in the file pid.
const pidSystemctl = `#!/bin/sh
cd "$DIR" || exit 1
case "$*" in *MainPID*) cat pid ;; esac
`

// A queued restart has not begun while the process of before is there, which may
// have been started with the same HACTL_CONFIG.
func TestQueuedRestartHasBegunOnceTheProcessIsAnother(t *testing.T) {
	t.Parallel()
	h := withSystemctl(t, pidSystemctl)
	next := h.process(t, "cat")
	h.write(t, "pid", h.process(t, "cat"))
	h.later(t, 4, "echo "+next+" >pid")
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc", NoBlock: true, Wait: 5 * time.Second}
	if err := s.apply(t.Context(), Env{Host: h}, &Change{Op: Restart}); err != nil {
		t.Fatal(err)
	}
	if got := h.slept(t); got != 400*time.Millisecond {
		t.Errorf("begun after %s, the process was another after 400 ms", got)
	}
}

func TestQueuedRestartThatNeverBeginsIsAnErrorAfterItsWait(t *testing.T) {
	t.Parallel()
	h := withSystemctl(t, pidSystemctl)
	h.write(t, "pid", h.process(t, "cat"))
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc", NoBlock: true, Wait: 2 * time.Second}
	err := s.apply(t.Context(), Env{Host: h}, &Change{Op: Restart})
	if err == nil || h.slept(t) != 1900*time.Millisecond {
		t.Errorf("%v after %s", err, h.slept(t))
	}
}

// showSystemctl says that the unit runs, the first time by the process in the file
// first, if there is one, and then by the one in the file pid. The file reload holds
// NeedDaemonReload of the unit and of init.scope.
const showSystemctl = `#!/bin/sh
cd "$DIR" || exit 1
read -r unit all 2>/dev/null <reload
case "$*" in *init.scope*) printf '%s\n\n%s\n\n%s\n' "${all:-no}" "${unit:-no}" "${all:-no}"; exit ;; esac
[ ! -e first ] || mv first now
printf 'Id=x.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=%s\nMainPID=%s\n' "${unit:-no}" "$(cat now 2>/dev/null || cat pid)"
rm -f now
`

// looked runs the look of a service on the host, and its check.
func looked(t *testing.T, h *shellHost, config string) (*Change, error) {
	t.Helper()
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: config}
	seen, err := look(t.Context(), h, s.Step().Look)
	if err != nil {
		t.Fatal(err)
	}
	return s.check(seen[s.key()])
}

// TestLookWaitsForTheUnitsProgram has the two moments in which the main process
// that systemd names does not have the unit's environment.
func TestLookWaitsForTheUnitsProgram(t *testing.T) {
	t.Parallel()
	t.Run("forked and not yet that program", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		// A script's process has its file's name until it becomes another program.
		h.write(t, "(x)", "#!/bin/sh\nread -r _ <begin\n"+ConfigEnv+"=new exec cat\n")
		if err := syscall.Mkfifo(filepath.Join(h.dir, "begin"), 0o600); err != nil {
			t.Fatal(err)
		}
		pid := h.process(t, filepath.Join(h.dir, "(x)"))
		h.write(t, "pid", pid)
		h.later(t, 4, "echo >begin; until [ $(cat /proc/"+pid+"/comm) = cat ]; do :; done")
		if c, err := looked(t, h, "new"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
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
		if c, err := looked(t, h, "abc"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
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
		if c, err := looked(t, h, "abc"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("stays systemd's own", func(t *testing.T) {
		t.Parallel()
		h := withSystemctl(t, showSystemctl)
		h.write(t, "(x)", "#!/bin/sh\nread -r _\n")
		pid := h.process(t, filepath.Join(h.dir, "(x)"))
		h.write(t, "pid", pid)
		c, err := looked(t, h, "new")
		if c != nil || err == nil {
			t.Fatalf("%+v, %v: what it will be is not known", c, err)
		}
		if want := "exit 1: process " + pid + " ((x)) did not become the program of x.service within 10 s"; !strings.Contains(err.Error(), want) {
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
		c, err := looked(t, h, "new")
		if c == nil || c.Op != Restart || err != nil || h.slept(t) != 0 {
			t.Errorf("%+v after %s, %v", c, h.slept(t), err)
		}
	})
}

// Since systemd 255 NeedDaemonReload is yes of every unit once one was enabled and
// systemd has not read its units anew. Enabling one service made another look as if
// its unit had changed.
func TestReloadThatAllUnitsNeedIsNoReasonForARestart(t *testing.T) {
	t.Parallel()
	for reload, restart := range map[string]bool{"no no": false, "yes no": true, "yes yes": false} {
		t.Run(reload, func(t *testing.T) {
			t.Parallel()
			h := withSystemctl(t, showSystemctl)
			h.write(t, "pid", h.process(t, "cat"))
			h.write(t, "reload", reload+"\n")
			c, err := looked(t, h, "abc")
			if err != nil || (c != nil) != restart || c != nil && c.Op != Restart {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

// dyingSystemctl has a unit of Type=simple whose process is another at each of the
// first looks, as many as the file dies says.
const dyingSystemctl = `#!/bin/sh
cd "$DIR" || exit 1
case "$*" in
*Type*) echo simple ;;
*MainPID*) n=$(cat dies); [ "$n" = 0 ] || echo $((n - 1)) >dies; echo $((70 + n)) ;;
esac
`

// A unit of Type=simple is active as soon as it is forked: one that dies at its
// start is not ready.
func TestReadyUnitStaysForAWhile(t *testing.T) {
	t.Parallel()
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Wait: 5 * time.Second}
	for dies, want := range map[string]time.Duration{
		"0":    time.Second,
		"3":    3*time.Second + 200*time.Millisecond, // two looks at each of three processes
		"1000": 0,                                    // never
	} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			h := withSystemctl(t, dyingSystemctl)
			h.write(t, "dies", dies)
			err := s.ready(t.Context(), Env{Host: h})
			if (err == nil) != (want > 0) {
				t.Fatalf("%v", err)
			}
			if got := h.slept(t); want > 0 && got != want || want == 0 && (got < s.Wait-time.Second || got > s.Wait+time.Second) {
				t.Errorf("slept %s", got)
			}
		})
	}
}

// shellHost runs scripts on this machine, with another systemctl and another sleep.
type shellHost struct {
	remote.Host
	dir string
}

func withSystemctl(t *testing.T, systemctl string) *shellHost {
	t.Helper()
	h := &shellHost{dir: t.TempDir()}
	h.Host = remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.Cmd.Script)
		cmd.Dir = h.dir
		cmd.Env = append(os.Environ(), "DIR="+h.dir, "PATH="+h.dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return &remote.Result{Stdout: out}, err
	})
	h.write(t, "systemctl", systemctl)
	h.write(t, "sleep", fakeSleep)
	return h
}

func (h *shellHost) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o755); err != nil { //nolint:gosec // scripts
		t.Fatal(err)
	}
}

// process starts a process with HACTL_CONFIG=abc, which ends with the test. What it
// reads from stdin never comes.
func (h *shellHost) process(t *testing.T, argv ...string) (pid string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{ConfigEnv + "=abc", "PATH=" + os.Getenv("PATH")}
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
