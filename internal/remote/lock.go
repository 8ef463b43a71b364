package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	lockFile = "/run/hactl.lock"
	// lockBeat and lockExpiry: the host lets go of the lock when it has heard
	// nothing for lockExpiry seconds. The keepalive gives up before that, so
	// hactl always knows first.
	lockBeat   = 5 * time.Second
	lockExpiry = 30

	exitLocked = 75
	exitBusy   = 76
)

// Holder is a Host that can keep a lock for as long as its connection lives.
type Holder interface {
	// Hold takes the host's lock in the name of holder, or returns a
	// [*LockedError] with the name of who has it. release may be called twice.
	Hold(ctx context.Context, holder string) (release func(), err error)
}

// LockedError says who has the host's lock.
type LockedError struct {
	Host   string
	Holder string // as it was given to Lock, with the pid on the host; from the host, cleaned
}

// Error names the host and the holder.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by %s", e.Host, orDefault(e.Holder, "a run without a name"))
}

// Lock makes this hactl the one writer on the host. The lock dies with release,
// with the connection and with this process, however it ends; on a host that
// lost the line it expires after 30 s. When the connection is lost and dialled
// again, the lock is taken again first, or the operation fails.
//
// holder is one line for a person: user@machine, pid, since when, command.
func Lock(ctx context.Context, host Host, holder string) (release func(), err error) {
	h, ok := host.(Holder)
	if !ok {
		return nil, fmt.Errorf("lock %s: this kind of host keeps no locks", host.Name())
	}
	return h.Hold(ctx, holder)
}

// heldLock is the session that holds the lock.
type heldLock struct {
	holder string
	stop   chan struct{} // closed to release
	ended  chan struct{} // closed when the session has ended; out and err are set then
	out    *outcome
	err    error

	link *link  // set before the session begins; read once the lock is held
	pid  string // of the holding process on the host; likewise
}

// lost reports whether the session is over. The link is asked too: it knows at
// once, and nothing may run on a new one in between.
func (h *heldLock) lost() bool { return isDone(h.ended) || !h.link.alive() }

func (h *heldLock) end() {
	select {
	case <-h.stop:
	default:
		close(h.stop)
	}
	select {
	case <-h.ended:
	case <-time.After(endGrace): // the host lets go by itself
	}
}

// Hold implements [Holder].
func (c *Conn) Hold(ctx context.Context, holder string) (func(), error) {
	holder = strings.Join(strings.Fields(Clean(holder)), " ")
	h, err := c.takeLock(ctx, holder)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.lock = h
	c.mu.Unlock()
	return c.letGo, nil
}

func (c *Conn) letGo() {
	c.mu.Lock()
	h := c.lock
	c.lock = nil
	c.mu.Unlock()
	if h != nil {
		h.end()
	}
}

func (c *Conn) held() *heldLock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lock
}

func (c *Conn) holdsLock() bool { return c.held() != nil }

// keepLock takes the lock again when its session was lost.
func (c *Conn) keepLock(ctx context.Context) error {
	if h := c.held(); h == nil || !h.lost() {
		return nil
	}
	select {
	case <-c.relock:
		defer func() { c.relock <- struct{}{} }()
	case <-ctx.Done():
		return c.cut("take the lock again", ctx.Err())
	}
	h := c.held()
	if h == nil || !h.lost() {
		return nil
	}
	again, err := c.takeLock(ctx, h.holder)
	var locked *LockedError
	if errors.As(err, &locked) && locked.Holder == h.holder+" pid="+h.pid {
		// Our own lock: the host has not noticed yet that the line is gone.
		if _, err = c.attempt(ctx, call{title: "release the lock of the lost connection", script: breakScript(c.opts.lockPath), timeout: DefaultTimeout}); err == nil {
			again, err = c.takeLock(ctx, h.holder)
		}
	}
	if err != nil {
		return fmt.Errorf("take the lock again after the connection was lost: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock != h { // released meanwhile
		go again.end()
		return nil
	}
	c.lock = again
	return nil
}

func isDone(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// takeLock starts the session that holds the lock and waits until it has it.
func (c *Conn) takeLock(ctx context.Context, holder string) (*heldLock, error) {
	const title = "take the lock"
	if err := c.sudo.settle(ctx, c.attempt); err != nil {
		return nil, c.asUnreachable(call{title: title}, err)
	}
	h := &heldLock{holder: holder, stop: make(chan struct{}), ended: make(chan struct{})}
	got := make(chan struct{})
	go func() {
		defer close(h.ended)
		h.out, h.err = c.attempt(context.WithoutCancel(ctx), call{
			title: title, script: lockScript(c.opts.lockPath, holder), stream: h.beat, pin: true,
			opened: func(l *link) { h.link = l },
			output: func(line string) {
				if pid, ok := strings.CutPrefix(line, "held "); ok && !isDone(got) {
					h.pid = pid
					close(got)
				}
			},
		})
	}()
	select {
	case <-got:
		return h, nil
	case <-h.ended:
		return nil, c.lockError(title, h)
	case <-ctx.Done():
		h.end()
		return nil, c.asUnreachable(call{title: title}, ctx.Err())
	}
}

// beat tells the host that hactl is still there.
func (h *heldLock) beat(w io.Writer) error {
	tick := time.NewTicker(lockBeat)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return nil
		case <-tick.C:
			if _, err := w.Write([]byte(".")); err != nil {
				return err
			}
		}
	}
}

func (c *Conn) lockError(title string, h *heldLock) error {
	switch {
	case h.err != nil:
		return h.err
	case h.out.exit == exitLocked:
		who := strings.Join(strings.Fields(Clean(string(h.out.stdout))), " ")
		return Hint(&LockedError{Host: c.t.name, Holder: who}, "wait for it to end, or add --force-unlock when it is dead")
	case h.out.exit == exitBusy:
		return Hint(fmt.Errorf("%s: a command of an earlier run is still at work on %s", title, c.t.name),
			"wait until it has ended; ps -ef | grep hactl-w on the host shows it")
	}
	return Hint(c.exitError(title, h.out), "flock (util-linux) must be on the host, and %s writable", c.opts.lockPath)
}

// writerTag begins the label of commands that run under the lock of that file.
func writerTag(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "hactl-w:" + hex.EncodeToString(sum[:4]) + ":"
}

// grepTag matches the tag and not itself.
func grepTag(path string) string { return strings.Replace(writerTag(path), "w", "[w]", 1) }

// lockScript holds the lock: see hold_lock in host.sh.
func lockScript(path, holder string) string {
	return "hold_lock " + Quote(path, holder, grepTag(path)) + fmt.Sprintf(" %d %d %d", exitLocked, exitBusy, lockExpiry)
}

// BreakLock ends whoever holds the host's lock and returns the name it left, or
// "" when nobody held it. Only a process that really has the lock file open is
// ended.
func BreakLock(ctx context.Context, host Host) (holder string, err error) {
	return breakLock(ctx, host, lockFile)
}

func breakLock(ctx context.Context, host Host, path string) (string, error) {
	res, err := host.Run(ctx, Cmd{Title: "break the lock", Script: breakScript(path)})
	var exit *ExitError
	if errors.As(err, &exit) {
		return "", Hint(err, "on the host, fuser -v %s shows who holds it", path)
	}
	if err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(Clean(string(res.Stdout))), " "), nil
}

func breakScript(path string) string { return "break_lock " + Quote(path) }
