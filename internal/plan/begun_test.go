package plan

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"hactl/internal/remote"
)

// slowSystemctl replaces the process a while after it was told to.
const slowSystemctl = `#!/bin/sh
cd "$DIR" || exit 1
case "$*" in
*MainPID*) cat pid ;;
*restart*) { sleep 0.4; cp next pid; } >/dev/null 2>&1 & ;;
esac
`

// A queued restart has not begun while the process of before is there, which may
// have been started with the same HACTL_CONFIG.
func TestQueuedRestartHasBegunOnceTheProcessIsAnother(t *testing.T) {
	h := withSystemctl(t, slowSystemctl)
	next := h.process(t, "sleep", "60")
	h.write(t, "pid", h.process(t, "sleep", "60"))
	h.write(t, "next", next)
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc", NoBlock: true, Wait: 5 * time.Second}
	if err := s.apply(t.Context(), Env{Host: h}, &Change{Op: Restart}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "pid")); err != nil || string(b) != next {
		t.Errorf("the restart counts as begun with process %s, the next one is %s: %v", b, next, err)
	}
}

// showSystemctl says that the unit runs, the first time by the process in the file
// first, if there is one, and then by the one in the file pid.
const showSystemctl = `#!/bin/sh
cd "$DIR" || exit 1
[ ! -e first ] || mv first now
printf 'Id=x.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\nMainPID=%s\n' "$(cat now 2>/dev/null || cat pid)"
rm -f now
`

// TestLookWaitsForTheUnitsProgram has the two moments in which the main process
// that systemd names does not have the unit's environment.
func TestLookWaitsForTheUnitsProgram(t *testing.T) {
	check := func(t *testing.T, h *shellHost, config string) (*Change, time.Duration, error) {
		t.Helper()
		s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: config}
		begin := time.Now()
		seen, err := look(t.Context(), h, s.Step().Look)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.check(seen[s.key()])
		return c, time.Since(begin), err
	}
	t.Run("forked and not yet that program", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		// A script's process has its file's name until it becomes another program.
		h.write(t, "(x)", "#!/bin/sh\nsleep 0.4\n"+ConfigEnv+"=new exec sleep 60\n")
		h.write(t, "pid", h.process(t, filepath.Join(h.dir, "(x)")))
		if c, _, err := check(t, h, "new"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("ended in between", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "first", strconv.Itoa(1<<30))
		h.write(t, "pid", h.process(t, "sleep", "60"))
		if c, _, err := check(t, h, "abc"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("ended and not yet followed by another", func(t *testing.T) {
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
		h.write(t, "pid", h.process(t, "sleep", "60"))
		if c, _, err := check(t, h, "abc"); c != nil || err != nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("stays systemd's own", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "(x)", "#!/bin/sh\nsleep 60\n")
		h.write(t, "pid", h.process(t, filepath.Join(h.dir, "(x)")))
		c, took, err := check(t, h, "new")
		if c != nil || err == nil {
			t.Errorf("%+v, %v: what it will be is not known", c, err)
		}
		if took < 9*time.Second || took > 40*time.Second {
			t.Errorf("it was waited for %s, 10 s is the bound", took)
		}
	})
	t.Run("another program is not waited for", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "pid", h.process(t, "sleep", "60"))
		c, took, err := check(t, h, "new")
		if c == nil || c.Op != Restart || took > 4*time.Second {
			t.Errorf("%+v after %s, %v", c, took, err)
		}
	})
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
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Wait: 5 * time.Second}
	for dies, fine := range map[string]bool{"0": true, "3": true, "1000": false} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			h := withSystemctl(t, dyingSystemctl)
			h.write(t, "dies", dies)
			begin := time.Now()
			if err := s.ready(t.Context(), Env{Host: h}); (err == nil) != fine {
				t.Errorf("%v", err)
			}
			if took := time.Since(begin); took < time.Second {
				t.Errorf("ready after %s", took)
			}
		})
	}
}

// shellHost runs scripts on this machine, with another systemctl.
type shellHost struct {
	remote.Host
	dir string
}

func withSystemctl(t *testing.T, systemctl string) *shellHost {
	t.Helper()
	h := &shellHost{dir: t.TempDir()}
	h.Host = remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.Cmd.Script)
		cmd.Env = append(os.Environ(), "DIR="+h.dir, "PATH="+h.dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return &remote.Result{Stdout: out}, err
	})
	h.write(t, "systemctl", systemctl)
	return h
}

func (h *shellHost) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o755); err != nil { //nolint:gosec // scripts
		t.Fatal(err)
	}
}

// process starts a process with HACTL_CONFIG=abc, which ends with the test.
func (h *shellHost) process(t *testing.T, argv ...string) (pid string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{ConfigEnv + "=abc", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	return strconv.Itoa(cmd.Process.Pid)
}
