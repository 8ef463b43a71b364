package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// metricsAddr is where a member answers health checks in plain HTTP, to its
// own host only.
const metricsAddr = "127.0.0.1:2381"

// healthPrefix is where WriteCheck writes; nothing stays there.
const healthPrefix = "/hactl/health/"

var errWriteLost = errors.New("an acknowledged write is not there")

// writeTimeout bounds each request of WriteCheck.
const writeTimeout = 5 * time.Second

// Ready asks the member on this host itself, at its metrics listener: nil
// means that it serves linearizable reads, is no learner and has no alarm of
// corruption. The error quotes the checks that failed.
func Ready(ctx context.Context, h remote.Host) error {
	ctx, cancel := wait.Within(ctx, "an answer of etcd on "+h.Name(), writeTimeout)
	defer cancel()
	// What dialling says must come back as it is (net/http keeps the chain).
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, network, addr string) (net.Conn, error) { return h.Dial(ctx, network, addr) },
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddr+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return fmt.Errorf("ask etcd on %s for its health: %w", h.Name(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("ask etcd on %s for its health: %w", h.Name(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd on %s is not ready: %s", h.Name(), failedChecks(string(body)))
	}
	return nil
}

// failedChecks picks the failed ones ("[-]…") out of a health answer.
func failedChecks(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, printable(rest))
		}
	}
	if failed == nil {
		return printable(body)
	}
	return strings.Join(failed, "; ")
}

// printable keeps what a host sent from reaching the terminal as more than text.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, strings.TrimSpace(s))
	return s[:min(len(s), 300)]
}

// WaitReady waits until [Ready] is nil, for timeout at most, stretched for slow hosts.
func WaitReady(ctx context.Context, h remote.Host, timeout time.Duration) error {
	ctx, cancel := wait.Within(ctx, "etcd on "+h.Name(), timeout)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := Ready(ctx, h)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return remote.Hint(wait.Over(ctx, last), "journalctl -u etcd on %s", h.Name())
		}
	}
}

// WriteCheck proves that the cluster takes writes: it writes a key, reads it
// back through every healthy member by a linearizable read, and removes it.
// The key is on a lease of a minute, in case we die in between.
func (c *Cluster) WriteCheck(ctx context.Context) (err error) {
	cn, s, err := c.leading(ctx, "write to etcd")
	if err != nil {
		return err
	}
	key, value := healthPrefix+rand.Text(), rand.Text()
	lease, err := call(ctx, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) { return cn.client.Grant(ctx, 60) })
	if err != nil {
		return fmt.Errorf("get a lease from etcd on %s: %w", cn.Name, err)
	}
	defer func() {
		// Revoking the lease removes the key, whatever happened to it.
		_, gone := call(ctx, func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
			return cn.client.Revoke(ctx, lease.ID)
		})
		if gone != nil {
			err = errors.Join(err, fmt.Errorf("remove the test key from etcd: %w", gone))
		}
	}()
	if _, err := call(ctx, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return cn.client.Put(ctx, key, value, clientv3.WithLease(lease.ID))
	}); err != nil {
		return fmt.Errorf("write to etcd on %s: %w", cn.Name, err)
	}
	for _, m := range s.Members {
		if !m.Healthy {
			continue
		}
		if err := c.conn(m.Name).readBack(ctx, key, value); err != nil {
			return fmt.Errorf("read back through etcd on %s: %w", m.Name, err)
		}
	}
	return nil
}

func (cn *conn) readBack(ctx context.Context, key, value string) error {
	got, err := call(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) { return cn.client.Get(ctx, key) })
	if err != nil {
		return err
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
		return errWriteLost
	}
	return nil
}

// call bounds one request.
func call[R any](ctx context.Context, do func(context.Context) (R, error)) (R, error) {
	ctx, cancel := wait.Within(ctx, "an answer of etcd", writeTimeout)
	defer cancel()
	return do(ctx)
}
