package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Proc finds processes in a /proc.
type Proc struct{ Root string }

// proxyArgument is on the command line of the kube-proxy that kubeadm makes.
const proxyArgument = "--config=/var/lib/kube-proxy/config.conf"

// KubeProxy implements [Processes]: the process of that name which kubeadm's
// DaemonSet started, in a pod, in the network of the host. The kube-proxy of
// another cluster, in a container of this host, is in another network.
func (p Proc) KubeProxy() (*Process, error) {
	comms, err := filepath.Glob(filepath.Join(p.Root, "[0-9]*", "comm"))
	if err != nil {
		return nil, err
	}
	for _, comm := range comms {
		name, err := os.ReadFile(comm)
		if err != nil || string(bytes.TrimSpace(name)) != "kube-proxy" {
			continue // another one, or it ended meanwhile
		}
		dir := filepath.Dir(comm)
		ours, err := p.ours(dir)
		if err != nil {
			return nil, err
		}
		if ours {
			return p.process(dir)
		}
	}
	return nil, nil
}

func (p Proc) ours(dir string) (bool, error) {
	args, err1 := os.ReadFile(filepath.Join(dir, "cmdline"))
	group, err2 := os.ReadFile(filepath.Join(dir, "cgroup"))
	netns, err3 := os.Readlink(filepath.Join(dir, "ns", "net"))
	host, err4 := os.Readlink(filepath.Join(p.Root, "self", "ns", "net"))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return false, nil // it ended
		}
		return false, err
	}
	return strings.Contains(string(args), proxyArgument) && strings.Contains(string(group), "kubepods") && netns == host, nil
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture of the bundle.
const ticksPerSecond = 100

// process reads which process has this folder now; nil when it ended.
func (p Proc) process(dir string) (*Process, error) {
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, nil //nolint:nilerr // it ended
	}
	// The name in parentheses may hold anything; the 22nd field is the 20th after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("read %s/stat: %d fields", dir, len(fields))
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read %s/stat: %w", dir, err)
	}
	return &Process{pid, time.Duration(ticks) * time.Second / ticksPerSecond}, nil
}

// Uptime implements [Processes].
func (p Proc) Uptime() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(p.Root, "uptime"))
	if err != nil {
		return 0, err
	}
	text, _, _ := strings.Cut(string(b), " ")
	return time.ParseDuration(text + "s")
}

// End implements [Processes]. kube-proxy keeps nothing, and each of its changes to
// the tables is whole, so that it need not be asked to end.
func (p Proc) End(q Process) error {
	found, err := os.FindProcess(q.PID) // holds the process, whatever becomes of its number
	if err != nil {
		return err
	}
	defer func() { _ = found.Release() }()
	now, err := p.process(filepath.Join(p.Root, strconv.Itoa(q.PID)))
	if err != nil {
		return err
	}
	if now == nil || *now != q {
		return nil // it ended by itself
	}
	if err := found.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
