package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// link is one live SSH connection: sessions under a limit, and a keepalive that
// ends it when the other side has gone silent.
type link struct {
	client *ssh.Client
	conn   *watchedConn
	dead   chan struct{} // closed when the connection is lost

	once  sync.Once
	cause error // why it is dead; set before dead is closed

	mu      sync.Mutex
	limit   int
	active  int           // sessions open or being opened
	pinned  int           // of these, sessions that stay (the lock)
	changed chan struct{} // closed and replaced when a session ends
}

// errPinned: sshd allows no session beside those that stay; another connection
// is needed.
var errPinned = errors.New("every session that sshd allows is taken by the lock")

func newLink(client *ssh.Client, conn *watchedConn, every time.Duration) *link {
	l := &link{client: client, conn: conn, dead: make(chan struct{}), limit: maxSessions, changed: make(chan struct{})}
	go func() {
		err := client.Wait()
		l.fail(fmt.Errorf("connection lost: %w", err))
	}()
	go l.keepAlive(every)
	return l
}

// fail declares the link dead for the given reason; the first reason stays.
func (l *link) fail(cause error) {
	l.once.Do(func() {
		l.cause = cause
		close(l.dead)
		// Closing the stream itself: Client.Close would wait to send a message
		// that nobody reads.
		_ = l.conn.Close()
	})
}

func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// keepAlive asks for a sign of life. Anything heard counts as one: on a slow
// line the reply queues behind an upload.
func (l *link) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	replied := make(chan struct{}, 1)
	waiting := false
	for {
		select {
		case <-l.dead:
			return
		case <-replied:
			waiting = false
			continue
		case <-tick.C:
		}
		if limit := keepAliveMissed * every; waiting && l.conn.quiet() >= limit {
			l.fail(fmt.Errorf("no answer for %s", limit))
			return
		}
		if waiting {
			continue
		}
		waiting = true
		go func() {
			// A refusal is an answer too; an error ends the link by itself.
			_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil)
			replied <- struct{}{}
		}()
	}
}

// session opens a session, waiting for a free place. Where sshd allows fewer
// sessions than we thought, it waits for one of ours to end. bounded is for what sshd
// has to answer. The returned func gives the place back.
func (l *link) session(ctx context.Context, pin bool, bounded bound) (*ssh.Session, func(), error) {
	for alone := 0; ; {
		if err := l.enter(ctx, pin); err != nil {
			return nil, nil, err
		}
		s, late, err := l.open(ctx, bounded)
		if err == nil {
			return s, sync.OnceFunc(func() { l.leave(pin) }), nil
		}
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) {
			l.leave(pin)
			if !late { // only a connection that is no more answers like that
				l.fail(fmt.Errorf("connection lost: %w", err))
			}
			return nil, nil, err
		}
		others, changed := l.refused(pin)
		if others == 0 {
			// sshd may still be clearing away the last session: try a few times.
			if alone++; alone > 12 {
				if l.hasPinned() {
					return nil, nil, errPinned
				}
				return nil, nil, Hint(fmt.Errorf("sshd refuses to open a session: %w", err), "check MaxSessions in the host's sshd_config")
			}
			changed = nil
		}
		if err := l.pause(ctx, changed, time.Duration(alone)*20*time.Millisecond); err != nil {
			return nil, nil, err
		}
	}
}

// bound gives a context whose time ends.
type bound func(context.Context) (context.Context, context.CancelFunc)

func unbounded(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} }

// open bounds NewSession, which knows no context: a host that hangs would hold
// it until the keepalive gives up. late says that the time was over.
func (l *link) open(ctx context.Context, bounded bound) (_ *ssh.Session, late bool, _ error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	type opened struct {
		s   *ssh.Session
		err error
	}
	ch := make(chan opened, 1)
	go func() {
		s, err := l.client.NewSession()
		ch <- opened{s, err}
	}()
	select {
	case o := <-ch:
		return o.s, ctx.Err() != nil, o.err
	case <-ctx.Done():
		go func() {
			if o := <-ch; o.err == nil {
				_ = o.s.Close() // the call is over
			}
		}()
		return nil, true, ctx.Err()
	}
}

func (l *link) enter(ctx context.Context, pin bool) error {
	for {
		l.mu.Lock()
		if l.limit <= l.pinned {
			l.mu.Unlock()
			return errPinned
		}
		if l.active < l.limit {
			l.active++
			if pin {
				l.pinned++
			}
			l.mu.Unlock()
			return nil
		}
		changed := l.changed
		l.mu.Unlock()
		if err := l.pause(ctx, changed, 0); err != nil {
			return err
		}
	}
}

func (l *link) leave(pin bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(pin)
}

func (l *link) giveBack(pin bool) {
	l.active--
	if pin {
		l.pinned--
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// refused gives the place back after sshd refused a session, lowers the limit to
// what it did allow, and returns how many of ours will end by themselves.
func (l *link) refused(pin bool) (others int, changed chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(pin)
	l.limit = max(l.active, l.pinned, 1)
	return l.active - l.pinned, l.changed
}

func (l *link) hasPinned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pinned > 0
}

// pause waits for changed, or for d when there is nothing to wait for.
func (l *link) pause(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	var timer <-chan time.Time
	if changed == nil {
		timer = time.After(d)
	}
	select {
	case <-changed:
	case <-timer:
	case <-l.dead:
		return l.cause
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
