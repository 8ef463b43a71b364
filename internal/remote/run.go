package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"hactl/internal/sys"
	"hactl/internal/wait"
)

// endGrace is how long a command that is being ended may take to say so.
const endGrace = 2 * time.Second

// killGrace bounds the second connection that ends a command whose time is over.
// It is long, since a busy host is a usual reason for that: what is given up here
// runs on until the limit on the host.
const killGrace = 30 * time.Second

// call is one command on its way to the host.
type call struct {
	title   string
	script  string
	stdin   []byte
	stream  func(w io.Writer) error // instead of stdin
	timeout time.Duration           // 0: none beyond the context's
	slow    int                     // the factor of the run, for the script's own bounds
	output  func(line string)
	probe   bool // the sudo check itself
	pin     bool // the session stays: the lock
	opened  func(*link)
}

func (c call) mode() stdinMode {
	switch {
	case c.stream != nil:
		return stdinStream
	case c.stdin != nil:
		return stdinBytes
	}
	return stdinNone
}

// outcome is what a command that began and ended left behind.
type outcome struct {
	stdout, stderr []byte
	exit           int
	took           time.Duration
}

// Run implements [Host].
func (c *Conn) Run(ctx context.Context, cmd Cmd) (*Result, error) {
	title := cmd.Title
	if title == "" {
		title, _, _ = strings.Cut(strings.TrimSpace(cmd.Script), "\n")
	}
	out, err := c.perform(ctx, call{
		title: title, script: cmd.Script, stdin: cmd.Stdin, output: cmd.Output,
		timeout: orDefault(cmd.Timeout, DefaultTimeout),
	})
	if err != nil {
		return nil, err
	}
	res := &Result{Stdout: out.stdout, Stderr: out.stderr, Exit: out.exit, Took: out.took}
	if out.exit != 0 {
		err := c.exitError(title, out)
		if sick := c.diskError(string(out.stderr), "", err); sick != nil {
			return res, sick
		}
		return res, err
	}
	return res, nil
}

func (c *Conn) exitError(title string, out *outcome) *ExitError {
	return &ExitError{Host: c.t.name, Title: title, Exit: out.exit, Stderr: tail(out.stderr, 4<<10)}
}

// perform becomes root first.
func (c *Conn) perform(ctx context.Context, cl call) (*outcome, error) {
	if err := c.sudo.settle(ctx, c.attempt); err != nil {
		cl.timeout = wait.Bound(ctx, cl.timeout)
		return nil, c.asUnreachable(cl, err)
	}
	if err := c.keepLock(ctx); err != nil {
		return nil, err
	}
	return c.attempt(ctx, cl)
}

func (c *Conn) asUnreachable(cl call, err error) error {
	var u *UnreachableError
	if errors.As(err, &u) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) && cl.timeout > 0 {
		err = fmt.Errorf("no answer within %s: %w", cl.timeout, err)
	}
	return c.cut(cl.title, err)
}

// bounded is the context of something that the host answers. How long the call waits
// for a session that another command of ours has is that command's matter: where sshd
// allows one, an upload may have it for minutes.
func (c *Conn) bounded(ctx context.Context, cl call) (context.Context, context.CancelFunc) {
	if cl.timeout > 0 {
		return c.opts.expire(ctx, cl.timeout)
	}
	return ctx, func() {}
}

// attempt opens a session and runs the call in it. Only what certainly did not
// begin is begun again, on a new connection, once.
func (c *Conn) attempt(ctx context.Context, cl call) (*outcome, error) {
	cl.timeout, cl.slow, cl.script = wait.Bound(ctx, cl.timeout), wait.Factor(ctx), sys.With(cl.script)
	bounded := func(ctx context.Context) (context.Context, context.CancelFunc) { return c.bounded(ctx, cl) }
	for try := 0; ; try++ {
		l, err := c.liveWithin(ctx, bounded)
		if err != nil {
			return nil, c.asUnreachable(cl, err)
		}
		s, leave, err := l.session(ctx, cl.pin, bounded)
		switch {
		case err == nil:
			defer leave()
			within, cancel := bounded(ctx)
			defer cancel()
			if cl.opened != nil {
				cl.opened(l)
			}
			return c.inSession(within, l, s, cl)
		case errors.Is(err, errPinned) && try < 3:
			if err := c.beside(ctx, l); err != nil {
				return nil, err
			}
		case ctx.Err() != nil || l.alive() || try > 0:
			return nil, c.asUnreachable(cl, fmt.Errorf("open a session: %w", err))
		}
	}
}

// liveWithin is a connection that is up.
func (c *Conn) liveWithin(ctx context.Context, bounded bound) (*link, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return c.live(ctx)
}

// running is a command in its session.
type running struct {
	c       *Conn
	l       *link
	s       *ssh.Session
	cl      call
	out     *capture
	err     *capture
	overrun chan struct{}
	fed     chan error
	feed    io.WriteCloser
}

func (c *Conn) inSession(ctx context.Context, l *link, s *ssh.Session, cl call) (*outcome, error) {
	c.opts.began(c.t.name, cl.title, cl.script)
	mark := "hactl-" + rand.Text()
	r := &running{c: c, l: l, s: s, cl: cl, overrun: make(chan struct{}), fed: make(chan error, 1)}
	r.capture(mark)
	stdin, err := s.StdinPipe()
	if err != nil {
		return nil, c.cut(cl.title, fmt.Errorf("open stdin: %w", err))
	}
	r.feed = stdin
	withPassword := c.sudo != nil && c.sudo.secret != nil
	w := newFrame(c.opts.hostPath, mark, c.label(cl), cl, withPassword)
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		// Start waits for sshd's reply, Wait for the end; neither knows a context.
		if err := s.Start(c.sudo.prefix() + w.command()); err != nil {
			ended <- err
			return
		}
		go func() { r.fed <- r.write(w, withPassword) }()
		ended <- s.Wait()
	}()
	err = r.wait(ctx, ended)
	r.out.finish()
	r.err.finish()
	return r.judge(ctx, err, time.Since(began))
}

// label marks our commands in the host's process list; those that may change
// the host (the lock is held) are told apart. The lock's own session is none of
// them: it waits for them.
func (c *Conn) label(cl call) string {
	if c.holdsLock() && !cl.pin {
		return writerTag(c.opts.lockPath) + c.id
	}
	return "hactl-r:" + c.id
}

func (r *running) capture(mark string) {
	one := &sync.Mutex{}
	show := func(line string) {
		r.c.opts.log(r.c.t.name, r.cl.title, line)
		if r.cl.output != nil {
			r.cl.output(line)
		}
	}
	stop := sync.OnceFunc(func() { close(r.overrun) })
	r.out = &capture{mark: []byte(mark), max: maxStdout, lines: &lineWriter{mu: one, show: show}, onFull: stop}
	r.err = &capture{mark: []byte(mark), max: maxStderr, lines: &lineWriter{mu: one, show: show}}
	r.s.Stdout, r.s.Stderr = r.out, r.err
}

// write feeds stdin: the password and the mark that ends it, a script too long
// for an argument, then the caller's bytes.
func (r *running) write(w frame, withPassword bool) error {
	var head []byte
	if withPassword {
		head = append(head, r.c.sudo.secret...)
	}
	if r.cl.probe {
		_, err := r.feed.Write(head)
		return errors.Join(err, r.feed.Close())
	}
	if withPassword {
		head = append(head, w.mark+"\n"...)
	}
	if w.inline {
		head = append(head, w.script...)
	}
	if _, err := r.feed.Write(append(head, r.cl.stdin...)); err != nil {
		return err
	}
	switch w.mode {
	case stdinStream:
		if err := r.cl.stream(r.feed); err != nil {
			return err // not closed: the host must not take a part for the whole
		}
		return r.feed.Close()
	case stdinBytes:
		return r.feed.Close()
	case stdinNone: // stays open: it is the lifeline
	}
	return nil
}

var errOverrun = fmt.Errorf("more than %d MiB of output", maxStdout>>20)

// wait returns when the command has ended or must be ended.
func (r *running) wait(ctx context.Context, ended <-chan error) error {
	var err error
	for {
		select {
		case err = <-ended:
			return err
		case <-r.l.dead:
			return r.l.cause
		case feedErr := <-r.fed:
			if feedErr == nil || errors.Is(feedErr, io.EOF) {
				continue // EOF: the command does not want to read on, which is its business
			}
			err = feedError(feedErr)
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.overrun:
			err = errOverrun
		}
		break
	}
	r.end(ctx, ended)
	return err
}

// feedError says what a write to stdin failed of: the write may hear of a lost
// connection before anybody else does.
func feedError(err error) error {
	if errors.As(err, new(*net.OpError)) {
		return fmt.Errorf("connection lost: %w", err)
	}
	return err
}

// end ends the command on the host and waits a little for it. With a lifeline
// closing stdin does it; else the group's leader is told by another session.
func (r *running) end(ctx context.Context, ended <-chan error) {
	if r.cl.mode() == stdinNone {
		_ = r.feed.Close() // when this cannot be sent, sshd closes it with the connection
	} else if begun, pid, _, _, _ := r.out.state(); begun {
		r.kill(pid)
	}
	select {
	case <-ended: //nolint:errcheck // how it ended is of no interest
	case <-r.l.dead:
	case <-time.After(wait.Bound(ctx, endGrace)):
	}
	_ = r.s.Close() // best effort; the limit on the host is what remains
}

func (r *running) kill(pid string) {
	if n, err := strconv.Atoi(pid); err != nil || n <= 1 {
		return
	}
	ctx, cancel := wait.Within(wait.Slow(context.Background(), r.c.opts.slow), "the end of "+r.cl.title, killGrace)
	defer cancel()
	// A connection of its own: where sshd allows one session, the command has it.
	// The outcome is unknown either way; this only makes it end sooner.
	l, err := r.c.dialLink(ctx)
	if err != nil {
		return
	}
	defer l.fail(errClosed)
	if s, leave, err := l.session(ctx, false, unbounded); err == nil {
		defer leave()
		_, _ = r.c.inSession(ctx, l, s, call{title: "end " + r.cl.title, script: "kill -TERM " + pid, timeout: killGrace})
	}
}

// judge turns the end of a session into an outcome or an error.
func (r *running) judge(ctx context.Context, err error, took time.Duration) (*outcome, error) {
	begun, _, stdout, noise, full := r.out.state()
	_, _, stderr, errNoise, _ := r.err.state()
	var exit *ssh.ExitError
	switch {
	case full || errors.Is(err, errOverrun):
		return nil, Hint(fmt.Errorf("%s: %w", r.cl.title, errOverrun), "this is not what the command prints on a sound host; run it there by hand")
	case err == nil:
		if !begun {
			return nil, r.foreign(noise, errNoise)
		}
		return &outcome{stdout: stdout, stderr: stderr, took: took}, nil
	case errors.As(err, &exit):
		if !begun {
			return nil, r.foreign(noise, errNoise)
		}
		return &outcome{stdout: stdout, stderr: stderr, exit: exit.ExitStatus(), took: took}, nil
	}
	return nil, r.lost(ctx, err)
}

// foreign explains an end without the mark: not our script ran, but sudo's
// refusal, or whatever the host has in place of a shell.
func (r *running) foreign(stdout, stderr []byte) error {
	if err := r.c.sudo.explain(stderr); err != nil {
		return r.c.cut(r.cl.title, err)
	}
	said := tail(append(append([]byte{}, stdout...), stderr...), 512)
	err := fmt.Errorf("the host did not run the command; it said: %s", orDefault(said, "nothing"))
	return r.c.cut(r.cl.title, Hint(err, "log in with ssh %s@... and see whether a command runs: the login shell must be a POSIX shell, and timeout (coreutils) must be there", r.c.t.user))
}

func (r *running) lost(ctx context.Context, err error) error {
	var missing *ssh.ExitMissingError
	u := r.c.cut(r.cl.title, err)
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && r.cl.timeout > 0:
		u.Err = fmt.Errorf("no answer within %s: %w", r.cl.timeout, ctx.Err())
		u.Hint = "look at the host's load and journal; then run the same command again; " + wait.Advice
	case ctx.Err() != nil:
		u.Err = fmt.Errorf("interrupted: %w", ctx.Err())
	default:
		if errors.As(err, &missing) || errors.Is(err, io.EOF) {
			err = errors.New("connection lost")
		}
		u.Err = fmt.Errorf("%w, outcome unknown", err)
		u.Hint = "run the same command again: it looks at the host first"
	}
	return u
}
