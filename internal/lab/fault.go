package lab

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// Fault is something that happens to a host.
type Fault string

// The faults.
const (
	Cut     Fault = "cut"     // the host's cable is pulled; it runs on
	Heal    Fault = "heal"    // the cable is plugged in again
	Off     Fault = "off"     // power cut: silent at once, every process killed, disks kept as they are
	Boot    Fault = "boot"    // power on, with the disks it had
	Replace Fault = "replace" // an empty machine on the same address, with another host key
)

// Faults lists all faults.
var Faults = []Fault{Cut, Heal, Off, Boot, Replace}

// The states of a host.
const (
	StateRunning = "running"
	StateCut     = "cut" // running, cable pulled
	StateOff     = "off"
)

// HostStatus is one line of hactl lab status.
type HostStatus struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	Address  string `json:"address"`
	Address6 string `json:"address6"`
	PID      int    `json:"pid,omitempty"` // of the host's init, on this machine
	State    string `json:"state"`
	SSH      bool   `json:"ssh"` // an SSH server greets
}

// InjectAll does f to several hosts at the same moment.
func (l *Lab) InjectAll(ctx context.Context, f Fault, hosts []string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range hosts {
		g.Go(func() error { return l.Inject(ctx, f, h) })
	}
	return g.Wait()
}
