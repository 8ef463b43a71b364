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
	check := func(t *testing.T, h *shellHost, config string) (*Change, time.Duration) {
		t.Helper()
		s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: config}
		begin := time.Now()
		seen, err := look(t.Context(), h, s.Step().Look)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.check(seen[s.key()])
		if err != nil {
			t.Fatal(err)
		}
		return c, time.Since(begin)
	}
	t.Run("forked and not yet that program", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		// A script's process has its file's name until it becomes another program.
		h.write(t, "(x)", "#!/bin/sh\nsleep 0.4\n"+ConfigEnv+"=new exec sleep 60\n")
		h.write(t, "pid", h.process(t, filepath.Join(h.dir, "(x)")))
		if c, _ := check(t, h, "new"); c != nil {
			t.Errorf("%+v", c)
		}
	})
	t.Run("ended in between", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "first", strconv.Itoa(1<<30))
		h.write(t, "pid", h.process(t, "sleep", "60"))
		if c, _ := check(t, h, "abc"); c != nil {
			t.Errorf("%+v", c)
		}
	})
	t.Run("stays systemd's own", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "(x)", "#!/bin/sh\nsleep 60\n")
		h.write(t, "pid", h.process(t, filepath.Join(h.dir, "(x)")))
		c, took := check(t, h, "new")
		if c == nil || c.Op != Restart {
			t.Errorf("%+v", c)
		}
		if took < 4*time.Second || took > 30*time.Second {
			t.Errorf("it was waited for %s, 5 s is the bound", took)
		}
	})
	t.Run("another program is not waited for", func(t *testing.T) {
		h := withSystemctl(t, showSystemctl)
		h.write(t, "pid", h.process(t, "sleep", "60"))
		c, took := check(t, h, "new")
		if c == nil || c.Op != Restart || took > 4*time.Second {
			t.Errorf("%+v after %s", c, took)
		}
	})
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
