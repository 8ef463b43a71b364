package remote

import (
	"context"
)

// Echo has the host's sshd answer a request that starts no program. How long that takes
// is how long the way and a process that only has to wake up take. It waits for its turn
// behind other requests of the connection, and does not dial anew.
func (c *Conn) Echo(ctx context.Context) error {
	l, err := c.live(ctx)
	if err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() {
		// A refusal is an answer too.
		_, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EchoOf is the Echo of the connection behind h, or nil when there is none.
func EchoOf(h Host) func(context.Context) error {
	for {
		switch x := h.(type) {
		case *Conn:
			return x.Echo
		case interface{ wrapped() Host }:
			h = x.wrapped()
		default:
			return nil
		}
	}
}

func (i inner) wrapped() Host { return i.Host }
