package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
)

// Dial implements [Host]: the connection starts on the host, so 127.0.0.1 is the
// host's own. A closed port is an ordinary error; only a lost ssh
// connection is an [*UnreachableError].
func (c *Conn) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	op := fmt.Sprintf("dial %s from %s", addr, c.t.name)
	l, err := c.live(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := l.client.DialContext(ctx, network, addr)
	if err == nil {
		return withDeadlines(ch), nil
	}
	var refused *ssh.OpenChannelError
	switch {
	case errors.As(err, &refused) && refused.Reason == ssh.Prohibited:
		return nil, Hint(c.cut(op, err), "set AllowTcpForwarding yes (or local) in sshd_config on %s", c.t.name)
	case errors.As(err, &refused):
		return nil, fmt.Errorf("%s: %w", op, err)
	case !l.alive():
		return nil, c.cut(op, l.cause)
	}
	return nil, c.cut(op, err)
}

// tunnelConn gives an ssh channel the deadlines that it lacks and that http and
// grpc count on: net.Pipe has them, two copies connect the two. Close is the
// pipe's: the copy then sees EOF, sends what it still has and closes the channel.
type tunnelConn struct {
	net.Conn // our end of the pipe
	ch       net.Conn
}

func withDeadlines(ch net.Conn) net.Conn {
	ours, theirs := net.Pipe()
	for _, way := range [][2]net.Conn{{theirs, ch}, {ch, theirs}} {
		go func() {
			// Either side ending ends both; the reader sees EOF.
			_, _ = io.Copy(way[0], way[1])
			_ = theirs.Close()
			_ = ch.Close()
		}()
	}
	return &tunnelConn{Conn: ours, ch: ch}
}

// LocalAddr is the channel's.
func (t *tunnelConn) LocalAddr() net.Addr { return t.ch.LocalAddr() }

// RemoteAddr is the address that was dialled.
func (t *tunnelConn) RemoteAddr() net.Addr { return t.ch.RemoteAddr() }
