package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"hactl/inventory"
)

// Conn is a Host behind a real sshd: one TCP connection, sessions multiplexed
// on it. A lost connection is dialled again by the next operation; what was
// running when it was lost is never run again silently.
type Conn struct {
	t    target
	opts Options
	jump *bastion // nil without one
	sudo *sudo    // nil when the user needs none
	id   string   // tells this connection's commands from others' on the host

	turn  chan struct{} // holds one token: who has it may replace link
	link  *link         // guarded by turn
	spare []*link       // earlier links that still carry the lock; guarded by turn

	relock chan struct{} // holds one token: who has it may take a lost lock again

	mu     sync.Mutex
	lock   *heldLock // guarded by mu
	closed bool      // guarded by mu
}

var (
	_ Host   = (*Conn)(nil)
	_ Holder = (*Conn)(nil)
)

// Connect logs in to one host of the inventory. Failures are
// [*UnreachableError]s with a hint.
func Connect(ctx context.Context, inv *inventory.Inventory, h *inventory.Host, opts Options) (*Conn, error) {
	o := opts.withDefaults(ctx)
	t, err := targetOf(inv, h, o.Environment)
	if err != nil {
		return nil, err
	}
	c := newConn(inv, h, t, o)
	if _, err := c.live(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func newConn(inv *inventory.Inventory, h *inventory.Host, t target, o Options) *Conn {
	c := &Conn{t: t, opts: o, id: rand.Text(), sudo: newSudo(inv, h, t.user, o),
		turn: make(chan struct{}, 1), relock: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	c.relock <- struct{}{}
	if t.via != nil {
		c.jump = o.bastions.join(t.via, o)
	}
	return c
}

// ConnectAll logs in to the hosts side by side, at most 32 at a time, through
// shared bastion connections. Every host is in exactly one of the two maps.
func ConnectAll(ctx context.Context, inv *inventory.Inventory, hosts []*inventory.Host, opts Options) (map[string]Host, map[string]error) {
	o := opts.withDefaults(ctx)
	conns := make([]*Conn, len(hosts))
	errs := make([]error, len(hosts))
	places := make(chan struct{}, connectLimit)
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			conns[i], errs[i] = Connect(ctx, inv, h, o)
		})
	}
	wg.Wait()
	up, down := map[string]Host{}, map[string]error{}
	for i, h := range hosts {
		if errs[i] != nil {
			down[h.Name] = errs[i]
		} else {
			up[h.Name] = conns[i]
		}
	}
	return up, down
}

// CloseAll closes those of the hosts that are connections, side by side.
func CloseAll(hosts map[string]Host) {
	var wg sync.WaitGroup
	for _, h := range hosts {
		if c, ok := h.(interface{ Close() }); ok {
			wg.Go(c.Close)
		}
	}
	wg.Wait()
}

// Name is the name in the inventory.
func (c *Conn) Name() string { return c.t.name }

// Close ends the connection and what still runs on it. A lock held through it
// is released.
func (c *Conn) Close() {
	c.mu.Lock()
	already, lock := c.closed, c.lock
	c.closed, c.lock = true, nil
	c.mu.Unlock()
	if already {
		return
	}
	if lock != nil {
		lock.end()
	}
	<-c.turn
	for _, l := range append(c.spare, c.link) {
		if l != nil {
			l.fail(errClosed)
		}
	}
	c.turn <- struct{}{}
	if c.jump != nil {
		c.opts.bastions.leave(c.jump)
	}
}

var errClosed = errors.New("connection closed by hactl")

// live returns a link that works, dialling when there is none.
func (c *Conn) live(ctx context.Context) (*link, error) {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, c.cut("wait for the connection", ctx.Err())
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, c.cut("use the connection", errClosed)
	}
	if c.link != nil && c.link.alive() {
		return c.link, nil
	}
	return c.redial(ctx)
}

// redial replaces the link; the caller has the turn.
func (c *Conn) redial(ctx context.Context) (*link, error) {
	l, err := c.dialLink(ctx)
	if err != nil {
		return nil, err
	}
	c.link = l
	return l, nil
}

func (c *Conn) dialLink(ctx context.Context) (*link, error) {
	dial := dialer(c.opts.Dial)
	if c.jump != nil {
		dial = c.jump.dial
	}
	client, conn, err := c.opts.dialSSH(ctx, &c.t, dial)
	if err != nil {
		return nil, err
	}
	return newLink(client, conn, c.opts.silence()), nil
}

// beside opens a second connection for everything but the lock, where sshd
// allows a single session and the lock has it.
func (c *Conn) beside(ctx context.Context, full *link) error {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return c.cut("wait for the connection", ctx.Err())
	}
	if c.link != full {
		return nil // somebody else did
	}
	c.spare = append(c.spare, full)
	_, err := c.redial(ctx)
	return err
}

func (c *Conn) cut(op string, err error) *UnreachableError {
	return &UnreachableError{Host: c.t.name, Op: op, Err: err, Hint: HintOf(err)}
}
