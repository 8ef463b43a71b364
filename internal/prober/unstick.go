package prober

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A host that loses its power or its network ends no connection. The local
// apiserver goes on asking the etcd member there and waits for an answer until
// its keepalive gives up, 30 s and 10 s as it is built: every request that was
// dealt to that connection hangs. So when a peer's apiserver falls silent and its
// etcd does not even take a connection, the connections to that member are ended
// here, and the apiserver turns to the others at once. A host whose other peers are
// all silent is cut off itself: nobody is left to turn to, and an apiserver that
// fails at once instead of waiting tries without end.
type patience struct {
	// suspect is the silence after which the member is tried. Trying costs a
	// line in a live member's log, no more.
	suspect time.Duration
	// answer is how long a member may take to accept a connection: the kernel
	// does, however busy etcd is.
	answer time.Duration
	// again is the time between two tries while the silence lasts.
	again time.Duration
}

var usual = patience{suspect: 300 * time.Millisecond, answer: 300 * time.Millisecond, again: time.Second}

// unstick watches over the connections to the peer's etcd member until ctx ends.
// others reports whether another peer answers.
func (t *target) unstick(ctx context.Context, others func() bool) {
	tick := time.NewTicker(t.cfg.Interval)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := t.since.get()
		if s.IsZero() || time.Since(s) < t.cfg.patience.suspect || time.Since(last) < t.cfg.patience.again {
			continue
		}
		last = time.Now()
		if others() && t.gone(ctx) {
			if err := t.cfg.Reset(ctx, t.etcd); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "end the connections to the silent %s: %v\n", t.etcd, err)
			}
		}
	}
}

// gone reports whether nothing answers where the member should be, be it with a
// refusal.
func (t *target) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.patience.answer)
	defer cancel()
	conn, err := t.cfg.Dial(ctx, "tcp", t.etcd)
	if err == nil {
		_ = conn.Close()
		return false
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ETIMEDOUT)
}

// ResetTCP ends this host's connections to addr, HOST:PORT, as if the other side
// had (SOCK_DESTROY, which ss from iproute2 asks the kernel for).
func ResetTCP(ctx context.Context, addr string) error {
	filter, err := connectionsTo(addr)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ss", append([]string{"--kill", "--tcp", "--no-header", "--numeric"}, filter...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ss --kill: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// connectionsTo is ss's filter for the connections from here to HOST:PORT. An
// IPv6 address needs its brackets: ss takes what follows a colon for a port.
func connectionsTo(addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return []string{"dst", host, "dport", "=", ":" + port}, nil
}
