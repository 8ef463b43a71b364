package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"hactl/internal/wait"
)

// ciphers: AES-GCM first. With the AES instructions of any current CPU it is
// several times as fast as the others, which shows with hundreds of megabytes.
var ciphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
	ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR}

// watchedConn remembers when something was last heard from the other side.
type watchedConn struct {
	net.Conn
	heard atomic.Int64 // Unix nanoseconds
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *watchedConn) quiet() time.Duration { return time.Since(time.Unix(0, c.heard.Load())) }

// dialer opens the byte stream to a target.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// dialSSH logs in to t. Transient failures (refused, reset, no answer) are tried
// again up to dialTries times within twice the connect timeout; a refused key on
// either side never is.
func (o Options) dialSSH(ctx context.Context, t *target, dial dialer) (*ssh.Client, *watchedConn, error) {
	v, err := newVerifier(t)
	if err != nil {
		return nil, nil, unreachable(t, "read host keys", err)
	}
	creds, err := o.credentialsFor(t)
	if err != nil {
		return nil, nil, unreachable(t, "log in to "+t.String(), err)
	}
	defer creds.Close()
	all, cancel := wait.Within(ctx, "a connection to "+t.String(), 2*t.timeout)
	defer cancel()
	for try := 1; ; try++ {
		client, conn, err := o.dialOffers(all, t, v, creds, dial)
		if err == nil {
			return client, conn, nil
		}
		if try == dialTries || !transient(err) || all.Err() != nil {
			return nil, nil, dialError(ctx, t, creds, try, err)
		}
		o.log(t.name, "dial "+t.String(), fmt.Sprintf("try %d: %v", try, err))
		select {
		case <-all.Done():
			return nil, nil, dialError(ctx, t, creds, try, err)
		case <-time.After(o.backoff * time.Duration(try)):
		}
	}
}

// dialOffers goes through the verifier's offers until the host shows the key
// that is wanted.
func (o Options) dialOffers(ctx context.Context, t *target, v *verifier, creds *credentials, dial dialer) (client *ssh.Client, conn *watchedConn, err error) {
	var mismatch error
	for _, algos := range v.algos {
		client, conn, err = o.dialOnce(ctx, t, v.check, algos, creds.methods(), dial)
		var wrongKey *HostKeyError
		switch {
		case errors.As(err, &wrongKey):
			mismatch = err
		case len(v.algos) > 1 && err != nil && strings.Contains(err.Error(), "no common algorithm for host key"):
			mismatch = orDefault(mismatch, err)
		default:
			return client, conn, err
		}
	}
	return nil, nil, mismatch
}

func (o Options) dialOnce(ctx context.Context, t *target, check ssh.HostKeyCallback, algos []string, auth []ssh.AuthMethod, dial dialer) (*ssh.Client, *watchedConn, error) {
	ctx, cancel := wait.Within(ctx, "the ssh handshake with "+t.String(), t.timeout)
	defer cancel()
	raw, err := dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, nil, err
	}
	conn := &watchedConn{Conn: raw}
	conn.heard.Store(time.Now().UnixNano())
	// A connection through a bastion knows no deadlines: closing it is what ends
	// a handshake with a host that accepts and then says nothing.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	var rejected error
	cfg := &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: ciphers},
		User:              t.user,
		Auth:              auth,
		HostKeyAlgorithms: algos,
		HostKeyCallback: func(addr string, remote net.Addr, key ssh.PublicKey) error {
			rejected = check(addr, remote, key)
			return rejected
		},
		BannerCallback: func(text string) error {
			o.log(t.name, "banner", strings.TrimSpace(text))
			return nil
		},
		ClientVersion: "SSH-2.0-hactl",
	}
	sc, chans, reqs, err := ssh.NewClientConn(conn, t.addr, cfg)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close() // the handshake's own error counts
		if rejected != nil {
			return nil, nil, rejected
		}
		if ctx.Err() != nil {
			return nil, nil, &silentError{in: "ssh handshake", within: wait.Bound(ctx, t.timeout)}
		}
		return nil, nil, err
	}
	return ssh.NewClient(sc, chans, reqs), conn, nil
}

// silentError: something was accepted and then never answered.
type silentError struct {
	in     string
	within time.Duration
}

func (e *silentError) Error() string {
	return fmt.Sprintf("no answer to the %s within %s", e.in, e.within)
}
func (e *silentError) Timeout() bool   { return true }
func (e *silentError) Temporary() bool { return true }

// transient reports whether trying again may help. EOF in a handshake is sshd
// shedding load (MaxStartups) or just starting.
func transient(err error) bool {
	var netErr net.Error
	var chanErr *ssh.OpenChannelError
	switch {
	case errors.As(err, new(*HostKeyError)):
		return false
	case errors.As(err, &netErr) && netErr.Timeout():
		return true
	case errors.As(err, &chanErr): // the bastion could not reach the host
		return chanErr.Reason == ssh.ConnectionFailed
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded)
}

func unreachable(t *target, op string, err error) *UnreachableError {
	return &UnreachableError{Host: t.name, Op: op, Err: err, Hint: HintOf(err)}
}

// dialError names what went wrong and what to do about it.
func dialError(ctx context.Context, t *target, creds *credentials, tries int, err error) error {
	var inner *UnreachableError
	if errors.As(err, &inner) {
		return err // the bastion's own
	}
	u := unreachable(t, "dial "+t.String(), err)
	var chanErr *ssh.OpenChannelError
	switch {
	case ctx.Err() != nil:
		u.Err, u.Hint = ctx.Err(), ""
	case errors.As(err, new(*HostKeyError)):
		u.Hint = fmt.Sprintf("when the host was reinstalled or is new: %s", t.trustCommand())
		if t.hostKey != "" {
			u.Hint = "correct hostKey in the inventory when the host was reinstalled: " + t.trustCommand() + " shows the key"
		}
	case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "no supported methods remain"):
		u.Op = "log in to " + t.String()
		u.Err = fmt.Errorf("user %s was refused; tried %s", t.user, strings.Join(creds.tried, ", "))
		u.Hint = fmt.Sprintf("add the public key to ~%s/.ssh/authorized_keys on the host, or correct ssh.user and ssh.key", t.user)
	case strings.Contains(strings.ToLower(err.Error()), "too many authentication failures"):
		u.Op = "log in to " + t.String()
		u.Err = fmt.Errorf("the host refused user %s after too many keys (MaxAuthTries); tried %s", t.user, strings.Join(creds.tried, ", "))
		u.Hint = "name the one key that may log in as ssh.key in the inventory, or set ssh.agent: false"
	case errors.As(err, &chanErr) && chanErr.Reason == ssh.Prohibited:
		u.Hint = "the bastion forbids forwarding: set AllowTcpForwarding yes in its sshd_config"
	case errors.Is(err, syscall.ECONNREFUSED):
		u.Hint = "is sshd running there, and is ssh.port right?"
	default:
		u.Hint = fmt.Sprintf("is the host up and %s reachable from here?", t.addr)
	}
	if tries > 1 {
		u.Err = fmt.Errorf("%w (%d tries)", u.Err, tries)
	}
	return u
}
