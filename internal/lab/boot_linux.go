package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hactl/internal/remote"
)

//go:embed boot.sh
var bootScript string

// start starts a host, which has its network already, and returns when its init runs; it
// does not wait for sshd. The host has no tie to this process's terminal.
func (l *Lab) start(h hostState) (*exec.Cmd, error) {
	groups, err := hierarchies()
	if err != nil {
		return nil, err
	}
	dir := l.Path("hosts", h.Name)
	console, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	cmd := exec.Command("nsenter", "--net="+netnsPath(l.netns(h.Name)), "sh", "-c", bootScript, "boot", dir, filepath.Join(l.state.Base, "root")) //nolint:noctx // the host outlives the context
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
		"LAB_SCRIPT=" + bootScript, "LAB_HOSTNAME=" + h.Name, "LAB_CGROUPS=" + mountNames(groups), "LAB_PRELOAD=" + l.state.Preload,
	}
	switch {
	case l.state.os() == EL9:
		cmd.Env = append(cmd.Env, "LAB_RPMS="+filepath.Join(l.state.Base, "rpms"))
	case l.state.Bare:
		cmd.Env = append(cmd.Env, "LAB_APT="+filepath.Join(l.state.Base, "apt"))
	}
	return cmd, l.launch(h, cmd, groups)
}

// launch starts the process of a host, which reads a line before it does anything. By then
// it is on record and in its cgroups.
func (l *Lab) launch(h hostState, cmd *exec.Cmd, groups []hierarchy) error {
	gate, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer gate.Close()
	// Recorded before the host is let go: from here on Down finds it.
	err = l.recordPID(h.Name, cmd.Process.Pid)
	if err == nil {
		err = enterGroups(groups, l.cgroup(h.Name), cmd.Process.Pid, l.state.CPUs)
	}
	if err != nil {
		cmd.Process.Kill() //nolint:errcheck // it may be gone already
		return err
	}
	_, err = gate.Write([]byte("go\n"))
	return err
}

// bootTimeout bounds the way from init to an answering sshd. On an idle machine it
// takes two seconds, in an emulated machine 90.
func (l *Lab) bootTimeout() time.Duration {
	if l.state.VM {
		return 10 * time.Minute
	}
	return 90 * time.Second
}

// awaitSSH waits until the host's sshd greets.
func (l *Lab) awaitSSH(ctx context.Context, h hostState) error {
	ctx, cancel := context.WithTimeout(ctx, l.bootTimeout())
	defer cancel()
	for {
		if l.answers(ctx, h.Host) {
			return nil
		}
		if _, alive := l.pid(h.Name); !alive {
			return remote.Hint(fmt.Errorf("boot %s: its %s ended: %s", h.Name, l.process(), l.consoleTail(h.Name)), "see %s", l.Path("hosts", h.Name, "console.log"))
		}
		select {
		case <-ctx.Done():
			return l.noSSH(h, ctx.Err())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (l *Lab) noSSH(h hostState, why error) error {
	err := fmt.Errorf("boot %s: sshd does not answer: %w", h.Name, why)
	if l.state.VM { // a command would come by ssh, too
		return remote.Hint(err, "see %s", l.Path("hosts", h.Name, "console.log"))
	}
	return remote.Hint(err, "hactl lab exec --name %s %s -- journalctl -b", l.state.Name, h.Name)
}

// process is what a host is on this machine.
func (l *Lab) process() string {
	if l.state.VM {
		return "qemu"
	}
	return "init"
}

func (l *Lab) consoleTail(name string) string {
	b, err := os.ReadFile(l.Path("hosts", name, "console.log"))
	if err != nil {
		return err.Error()
	}
	return lastLine(b)
}

// recordPID notes the host's init with its start time: a number alone may
// belong to another process after a restart of the machine.
func (l *Lab) recordPID(name string, pid int) error {
	start, _, err := procStat(pid)
	if err != nil {
		return err
	}
	return writeAtomic(l.Path("hosts", name, "pid"), fmt.Appendf(nil, "%d %s\n", pid, start), 0o600)
}

// pid returns the host's init as a PID of this machine.
func (l *Lab) pid(name string) (pid int, alive bool) {
	b, err := os.ReadFile(l.Path("hosts", name, "pid"))
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return 0, false
	}
	if pid, err = strconv.Atoi(f[0]); err != nil {
		return 0, false
	}
	start, state, err := procStat(pid)
	return pid, err == nil && start == f[1] && state != "Z" && state != "X"
}

// procStat returns the start time (clock ticks since the machine's boot) and
// the state letter of a process.
func procStat(pid int) (start, state string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The second field is the command in parentheses and may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return "", "", errors.New("short /proc stat")
	}
	return f[19], f[0], nil
}
