package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"hactl/internal/remote"
)

// joinScript moves itself into the cgroups named before "--" and becomes the
// command after it: what is started on a host counts as the host's.
const joinScript = `while [ "$1" != -- ]; do mkdir -p "$1"; for f in cpuset.cpus cpuset.mems; do
[ ! -w "$1/$f" ] || cat "$1/../$f" >"$1/$f"; done; echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"`

// ExecArgv returns the command line that runs argv as root on a host, past
// ssh: in all of the host's namespaces and in its cgroups. In a virtual machine it is ssh.
func (l *Lab) ExecArgv(host string, argv ...string) ([]string, error) {
	h, err := l.hostState(host)
	if err != nil {
		return nil, err
	}
	pid, alive := l.pid(h.Name)
	if !alive {
		return nil, remote.Hint(fmt.Errorf("%s is off", h.Name), "hactl lab fault --name %s boot %s", l.state.Name, h.Name)
	}
	// The caller's environment is the machine's, not the host's.
	argv = append([]string{"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm", "LC_ALL=C.UTF-8"}, argv...)
	if l.state.VM {
		return l.sshArgv(h, argv), nil
	}
	groups, err := hierarchies()
	if err != nil {
		return nil, err
	}
	out := []string{"sh", "-c", joinScript, "join"}
	for _, g := range groups {
		// A leaf of its own: cgroup v2 takes no process where controllers are passed on.
		out = append(out, filepath.Join(g.mount, l.cgroup(h.Name), "lab-exec"))
	}
	out = append(out, "--", "nsenter", "-t", strconv.Itoa(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wd", "--")
	return append(out, argv...), nil
}

// Exec prepares argv to run as root on a host.
func (l *Lab) Exec(ctx context.Context, host string, argv ...string) (*exec.Cmd, error) {
	full, err := l.ExecArgv(host, argv...)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, full[0], full[1:]...), nil
}

// Output runs a shell script as root on a host and returns what it printed.
func (l *Lab) Output(ctx context.Context, host, script string) (string, error) {
	cmd, err := l.Exec(ctx, host, "sh", "-c", script)
	if err != nil {
		return "", err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("on %s: %w: %s", host, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// HubArgv returns the command line that runs argv in the lab's hub, where the
// operator's machine would stand: the hosts and the VIP are in reach, nothing else is.
// Like them it has the share of a machine: an operator who starved beside busy
// hosts would take his own waiting for theirs.
func (l *Lab) HubArgv(argv ...string) ([]string, error) {
	path := netnsPath(l.netns(hub))
	if !exists(path) {
		return nil, remote.Hint(fmt.Errorf("lab %s is not running", l.state.Name), "hactl lab up --name %s", l.state.Name)
	}
	groups, err := hierarchies()
	if err != nil {
		return nil, err
	}
	out := []string{"sh", "-c", joinScript, "join"}
	for _, g := range groups {
		if !hasCPU(g) {
			continue
		}
		dir := filepath.Join(g.mount, l.cgroup(hub))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		weigh(g, dir)
		out = append(out, dir)
	}
	return append(append(out, "--", "nsenter", "--net="+path, "--"), argv...), nil
}

// HubExec prepares argv to run in the lab's hub, on this machine's files.
func (l *Lab) HubExec(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	full, err := l.HubArgv(argv...)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, full[0], full[1:]...), nil
}

// Become replaces this process by argv: signals, terminal and exit code are
// then the command's own. It returns only when it cannot.
func Become(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}
