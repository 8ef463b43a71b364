package plan

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	pid := func() string {
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		cmd.Env = []string{ConfigEnv + "=abc"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return strconv.Itoa(cmd.Process.Pid)
	}
	next := pid()
	write("systemctl", slowSystemctl, 0o755)
	write("pid", pid(), 0o600)
	write("next", next, 0o600)
	h := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.Cmd.Script)
		cmd.Env = append(os.Environ(), "DIR="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return &remote.Result{Stdout: out}, err
	})
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc", NoBlock: true, Wait: 5 * time.Second}
	if err := s.apply(context.Background(), Env{Host: h}, &Change{Op: Restart}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "pid")); err != nil || string(b) != next {
		t.Errorf("the restart counts as begun with process %s, the next one is %s: %v", b, next, err)
	}
}
