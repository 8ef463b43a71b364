package lab

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
)

// Inject does f to one host. Doing again what is done already is no error.
func (l *Lab) Inject(ctx context.Context, f Fault, host string) error {
	if err := checkMachine(); err != nil {
		return err
	}
	h, err := l.hostState(host)
	if err != nil {
		return err
	}
	return l.locked(ctx, h.Name, func() error { return l.inject(ctx, f, h) })
}

func (l *Lab) inject(ctx context.Context, f Fault, h hostState) error {
	switch f {
	case Cut:
		return l.setPort(ctx, h.Name, "down")
	case Heal:
		return l.setPort(ctx, h.Name, "up")
	case Off:
		return l.sweep(ctx, h.Name)
	case Boot:
		if _, alive := l.pid(h.Name); alive {
			return nil
		}
		return l.powerOn(ctx, h)
	case Replace:
		return l.replace(ctx, h)
	default:
		return remote.Hint(fmt.Errorf("no fault %q", f), "faults are %v", Faults)
	}
}

// locked does one thing to a host at a time, over all processes.
func (l *Lab) locked(ctx context.Context, host string, do func() error) error {
	unlock, err := lockFile(ctx, l.Path("hosts", host, "lock"), func() { l.report("waiting for another hactl that works on " + host) })
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

func (l *Lab) setPort(ctx context.Context, name, to string) error {
	if _, alive := l.pid(name); !alive {
		return remote.Hint(fmt.Errorf("%s is off", name), "hactl lab fault --name %s boot %s", l.state.Name, name)
	}
	return ipBatch(ctx, l.netns(hub), "link set "+name+" "+to)
}

// replace puts an empty machine in the host's place: same name and addresses,
// another disk, machine-id and host key. known_hosts keeps the old key.
func (l *Lab) replace(ctx context.Context, h hostState) error {
	if err := l.sweep(ctx, h.Name); err != nil {
		return err
	}
	for _, d := range slices.Concat(diskFolders, machineParts) {
		if err := removeTree(l.Path("hosts", h.Name, d)); err != nil {
			return err
		}
	}
	if _, err := l.makeDisk(ctx, h); err != nil {
		return err
	}
	return l.powerOn(ctx, h)
}

// Status tells how each host is doing, in the order of Hosts.
func (l *Lab) Status(ctx context.Context) ([]HostStatus, error) {
	if err := checkMachine(); err != nil {
		return nil, err
	}
	out := make([]HostStatus, len(l.state.Hosts))
	var g errgroup.Group
	for i, h := range l.state.Hosts {
		g.Go(func() error {
			out[i] = l.statusOf(ctx, h)
			return nil
		})
	}
	return out, g.Wait()
}

func (l *Lab) statusOf(ctx context.Context, h hostState) HostStatus {
	s := HostStatus{Name: h.Name, Role: h.Role, Address: h.Address, Address6: h.Address6, State: StateOff}
	pid, alive := l.pid(h.Name)
	if !alive {
		return s
	}
	s.PID, s.State = pid, StateRunning
	if l.portState(ctx, h.Name) != "up" {
		s.State = StateCut
		return s
	}
	s.SSH = l.answers(ctx, h.Host)
	return s
}

func (l *Lab) hostState(name string) (hostState, error) {
	for _, h := range l.state.Hosts {
		if h.Name == name {
			return h, nil
		}
	}
	_, err := l.Host(name)
	return hostState{}, err
}
