package remote

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// Counting is a Host that counts round trips: one for each Run and Put, one for a Send
// of what the host has already and two for one of what it has not, and one for each
// address that is dialled. That a connection to it is dialled again, when the server
// has closed the one before, is not counted: it differs from run to run.
type Counting struct {
	inner
	trips   atomic.Int64
	dialled sync.Map // addresses
}

// NewCounting wraps h.
func NewCounting(h Host) *Counting { return &Counting{inner: inner{h}} }

// Trips returns the round trips so far.
func (c *Counting) Trips() int { return int(c.trips.Load()) }

// Run implements [Host].
func (c *Counting) Run(ctx context.Context, cmd Cmd) (*Result, error) {
	c.trips.Add(1)
	return c.Host.Run(ctx, cmd)
}

// Put implements [Host].
func (c *Counting) Put(ctx context.Context, files ...File) error {
	c.trips.Add(1)
	return c.Host.Put(ctx, files...)
}

// Send implements [Host].
func (c *Counting) Send(ctx context.Context, u Upload) (bool, error) {
	c.trips.Add(1)
	sent, err := c.Host.Send(ctx, u)
	if sent {
		c.trips.Add(1)
	}
	return sent, err
}

// Dial implements [Host].
func (c *Counting) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, before := c.dialled.LoadOrStore(network+" "+addr, true); !before {
		c.trips.Add(1)
	}
	return c.Host.Dial(ctx, network, addr)
}

// inner is a wrapped Host. It passes on what the Host interface does not have:
// the lock and Close.
type inner struct{ Host }

// Hold implements [Holder] where the host does.
func (i inner) Hold(ctx context.Context, holder string) (func(), error) {
	return Lock(ctx, i.Host, holder)
}

// SSHPort implements what [SSHPort] asks for.
func (i inner) SSHPort() int { return SSHPort(i.Host) }

// Close closes the host where it can be closed.
func (i inner) Close() { CloseAll(map[string]Host{"": i.Host}) }
