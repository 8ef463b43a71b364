package remote

import (
	"context"
	"errors"
	"net"
	"sync"
)

// ErrCut is the cause of every error after a cut.
var ErrCut = errors.New("connection cut on purpose")

// When says on which side of its effect a call is cut.
type When bool

// The two sides of a cut.
const (
	Before When = false // the host never heard of the call
	After  When = true  // the host did it, hactl does not know
)

// Cut counts calls over all the hosts that it wraps, and from the n-th on lets
// none through: hactl dying at command n.
type Cut struct {
	// OnCut, when set, is called at the n-th call instead of failing it: a
	// process that kills itself there.
	OnCut func()

	n    int
	when When

	mu    sync.Mutex
	calls int
}

// NewCut cuts at the n-th call, counted from 1; with 0 it only counts.
func NewCut(n int, when When) *Cut { return &Cut{n: n, when: when} }

// Calls returns how many calls were made so far.
func (c *Cut) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Wrap returns h as the cut lets it be seen.
func (c *Cut) Wrap(h Host) Host { return &cutHost{inner{h}, c} }

// CutAt wraps one host so that its n-th call and all later ones fail.
func CutAt(h Host, n int, when When) Host { return NewCut(n, when).Wrap(h) }

// around does the call, or not; a nil Cut always does.
func (c *Cut) around(host string, do func() error) error {
	if c == nil {
		return do()
	}
	c.mu.Lock()
	c.calls++
	call := c.calls
	c.mu.Unlock()
	if c.n == 0 || call < c.n {
		return do()
	}
	if call == c.n && c.when == After {
		_ = do() // whatever came of it, hactl will not hear
	}
	if c.OnCut != nil {
		c.OnCut()
	}
	return &UnreachableError{Host: host, Op: "run", Err: ErrCut}
}

type cutHost struct {
	inner
	cut *Cut
}

func (h *cutHost) Run(ctx context.Context, cmd Cmd) (res *Result, err error) {
	err = h.cut.around(h.Name(), func() error {
		var err error
		res, err = h.Host.Run(ctx, cmd)
		return err
	})
	if errors.Is(err, ErrCut) {
		res = nil
	}
	return res, err
}

func (h *cutHost) Put(ctx context.Context, files ...File) error {
	return h.cut.around(h.Name(), func() error { return h.Host.Put(ctx, files...) })
}

func (h *cutHost) Send(ctx context.Context, u Upload) (sent bool, err error) {
	err = h.cut.around(h.Name(), func() error {
		var err error
		sent, err = h.Host.Send(ctx, u)
		return err
	})
	return sent && err == nil, err
}

func (h *cutHost) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.cut.around(h.Name(), func() error {
		var err error
		conn, err = h.Host.Dial(ctx, network, addr)
		return err
	})
	if err != nil && conn != nil {
		_ = conn.Close() // made, but nobody may have it
		conn = nil
	}
	return conn, err
}

// inner passes on what is not in the Host interface.
type inner struct{ Host }

// Hold implements [Holder] where the host does.
func (i inner) Hold(ctx context.Context, holder string) (func(), error) {
	return Lock(ctx, i.Host, holder)
}

// Close closes the host where it can be closed.
func (i inner) Close() { CloseAll(map[string]Host{"": i.Host}) }
