package remote

import (
	"context"
	"fmt"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// bastions shares one connection to each jump host among the hosts behind it.
type bastions struct {
	mu  sync.Mutex
	all map[string]*bastion
}

func newBastions() *bastions { return &bastions{all: map[string]*bastion{}} }

// bastion is a jump host; it is dialled when first needed and again after it was
// lost.
type bastion struct {
	t    target
	opts Options

	users int      // guarded by bastions.mu
	up    *bastion // the jump host in front of this one, or nil; set while users > 0

	turn   chan struct{} // holds one token: who has it may dial
	client *ssh.Client   // guarded by turn
	dead   chan struct{}
}

// join returns the bastion of t for one more user.
func (bs *bastions) join(t *target, o Options) *bastion {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.joined(t, o)
}

// joined is join; the caller has the lock.
func (bs *bastions) joined(t *target, o Options) *bastion {
	id := fmt.Sprintf("%s@%s %s %s %s", t.user, t.addr, t.key, t.knownHosts, t.hostKey)
	for up := t.via; up != nil; up = up.via {
		id += fmt.Sprintf(" via %s@%s", up.user, up.addr)
	}
	b := bs.all[id]
	if b == nil {
		b = &bastion{t: *t, opts: o, turn: make(chan struct{}, 1)}
		b.turn <- struct{}{}
		bs.all[id] = b
	}
	if b.users++; b.users == 1 && t.via != nil {
		b.up = bs.joined(t.via, o)
	}
	return b
}

// leave closes the connection behind its last user.
func (bs *bastions) leave(b *bastion) {
	bs.mu.Lock()
	b.users--
	last := b.users == 0
	bs.mu.Unlock()
	if !last {
		return
	}
	<-b.turn
	if b.client != nil {
		_ = b.client.Close() // nobody is left to hear of it
		b.client = nil
	}
	b.turn <- struct{}{}
	if b.up != nil {
		bs.leave(b.up)
	}
}

// dial opens a stream to addr from the bastion.
func (b *bastion) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	client, err := b.connected(ctx)
	if err != nil {
		return nil, err
	}
	return client.DialContext(ctx, network, addr)
}

func (b *bastion) connected(ctx context.Context) (*ssh.Client, error) {
	select {
	case <-b.turn:
		defer func() { b.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.client != nil {
		select {
		case <-b.dead:
		default:
			return b.client, nil
		}
	}
	dial := dialer(b.opts.Dial)
	if b.up != nil {
		dial = b.up.dial
	}
	client, conn, err := b.opts.dialSSH(ctx, &b.t, dial)
	if err != nil {
		return nil, err
	}
	l := newLink(client, conn, b.opts.silence())
	b.client, b.dead = client, l.dead
	return client, nil
}
