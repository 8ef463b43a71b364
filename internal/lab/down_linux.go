package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Down ends the lab called name, also when nothing is left of it but what runs:
// its folder deleted, or its Up killed before there was one. It reports whether
// there was anything.
func Down(ctx context.Context, name, dir string) (found bool, err error) {
	l, err := Open(name, dir)
	if err == nil {
		return true, l.Down(ctx)
	}
	if !errors.Is(err, ErrNoLab) {
		return false, err
	}
	l = &Lab{Dir: filepath.Join(registry, ".none"), state: state{Name: name}, report: func(string) {}}
	for _, h := range remains(name) {
		if h != hub {
			l.state.Hosts = append(l.state.Hosts, hostState{Host: Host{Name: h}})
		}
	}
	found = len(remains(name)) > 0 || slices.Contains(Names(), name)
	if !found {
		return false, nil
	}
	return true, l.Down(ctx)
}

// Down ends every host and removes all that Up made: processes, namespaces,
// cgroups and the folder. It works on a half-made lab too and can be repeated.
func (l *Lab) Down(ctx context.Context) error {
	if err := checkMachine(); err != nil {
		return err
	}
	if err := os.MkdirAll(registry, 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(ctx, lockPath(l.state.Name), func() { l.report("waiting for another hactl that works on this lab") })
	if err != nil {
		return err
	}
	defer unlock()
	g, gctx := errgroup.WithContext(ctx)
	for _, h := range l.state.Hosts {
		g.Go(func() error { return l.sweep(gctx, h.Name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := deleteNetns(ctx, l.netns(hub)); err != nil {
		return err
	}
	groups, err := hierarchies()
	if err != nil {
		return err
	}
	for _, pid := range groupProcs(groups, l.cgroup(hub)) {
		if pid == os.Getpid() {
			continue
		}
		if err := killAndWait(ctx, pid); err != nil {
			return fmt.Errorf("end process %d in the hub: %w", pid, err)
		}
	}
	if err := removeGroup(ctx, groups, filepath.Dir(l.cgroup("x"))); err != nil {
		return err
	}
	if err := l.removeFolder(); err != nil {
		return err
	}
	return unregister(ctx, l.state.Name)
}

// sweep ends all that runs of a host and removes its network and cgroups; its
// disk stays. The network goes first, so that the other hosts see silence: the kernel of
// the dead processes must not close their connections.
func (l *Lab) sweep(ctx context.Context, name string) error {
	l.unplug(ctx, name)
	if pid, alive := l.pid(name); alive {
		if err := killAndWait(ctx, pid); err != nil {
			return fmt.Errorf("end %s: %w", name, err)
		}
	}
	groups, err := hierarchies()
	if err != nil {
		return err
	}
	// Killing init took the whole PID namespace along. What is left here was
	// started in the host's cgroups from outside, or was never recorded.
	for _, pid := range groupProcs(groups, l.cgroup(name)) {
		if err := killAndWait(ctx, pid); err != nil {
			return fmt.Errorf("end process %d of %s: %w", pid, name, err)
		}
	}
	if err := l.disconnect(ctx, name); err != nil {
		return err
	}
	if err := os.Remove(l.Path("hosts", name, "pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // its watch would boot it again
	}
	return removeGroup(ctx, groups, l.cgroup(name))
}

// killAndWait kills one process and waits until it is gone with its namespaces.
func killAndWait(ctx context.Context, pid int) error {
	start, _, err := procStat(pid)
	if err != nil {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		now, st, err := procStat(pid)
		if err != nil || now != start || st == "Z" || st == "X" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for killed process %d: %w", pid, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// removeFolder removes what is ours in the lab's folder, and the folder when
// nothing else is in it. The state goes last: with it, Down can be repeated.
func (l *Lab) removeFolder() error {
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		own := e.Name() == "hosts" || e.Name() == "ssh" || strings.HasPrefix(e.Name(), "inventory")
		if !own {
			continue
		}
		if err := removeTree(l.Path(e.Name())); err != nil {
			return err
		}
	}
	for _, name := range []string{"lab.json.tmp", "lab.json"} {
		if err := os.Remove(l.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(l.Dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
