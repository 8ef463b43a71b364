package traffic

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hactl/internal/wait"
)

// Probe answers other probes and tries what its host asks for.
type Probe struct {
	Node    string // name of the host
	Service string // HOST:PORT of the API's service
	Port    int    // of the other probes; 0: [Port]
	// Resolve looks a name up; nil: the cluster's DNS, as /etc/resolv.conf names it.
	Resolve func(ctx context.Context, name string) ([]string, error)
}

// Serve answers on both listeners until ctx ends.
func (p Probe) Serve(ctx context.Context, others, host net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() { accept(ctx, others, p.greet) })
	wg.Go(func() { accept(ctx, host, func(c net.Conn) { p.reply(ctx, c) }) })
	wg.Wait()
}

// connectionEnds bounds a connection of a probe: what the slowest question takes.
const connectionEnds = (Patience + 3*time.Second) * wait.Most

func accept(ctx context.Context, l net.Listener, serve func(net.Conn)) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // such as too many open files
			continue
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(connectionEnds))
			serve(c)
		}()
	}
}

// greet says whose probe this is, in more than one packet.
func (p Probe) greet(c net.Conn) {
	text := "hactl-probe " + p.Node + "\n"
	_, _ = c.Write(append([]byte(text), bytes.Repeat([]byte{'.'}, answerSize-len(text))...))
}

// reply tries what the host asks for.
func (p Probe) reply(ctx context.Context, c net.Conn) {
	var q Question
	if err := json.NewDecoder(c).Decode(&q); err != nil {
		return
	}
	_ = json.NewEncoder(c).Encode(p.Try(ctx, q))
}

// Try tries everything at once.
func (p Probe) Try(ctx context.Context, q Question) Answer {
	ctx, cancel := wait.Within(wait.Slow(ctx, min(q.Slow, wait.Most)), "what pods reach", Patience)
	defer cancel()
	a := Answer{Node: p.Node, Peers: map[string]string{}}
	errs := make([]error, len(q.Peers))
	var wg sync.WaitGroup
	for i, peer := range q.Peers {
		wg.Go(func() { errs[i] = untilAnswered(ctx, func() error { return p.meet(ctx, peer) }) })
	}
	wg.Go(func() { a.API = text(ctx, untilAnswered(ctx, func() error { return p.api(ctx, q.CA) })) })
	wg.Go(func() { a.DNS = text(ctx, untilAnswered(ctx, func() error { return p.name(ctx, q.Name) })) })
	wg.Wait()
	for i, peer := range q.Peers {
		a.Peers[peer.Node] = text(ctx, errs[i])
	}
	return a
}

// untilAnswered tries again while no answer comes: what refuses connections may begin to
// serve at this moment. A wrong answer stays wrong.
func untilAnswered(ctx context.Context, try func() error) error {
	for {
		err := try()
		if op, dns := (*net.OpError)(nil), (*net.DNSError)(nil); !errors.As(err, &op) && !errors.As(err, &dns) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// meet asks another probe who it is.
func (p Probe) meet(ctx context.Context, peer Peer) error {
	port := p.Port
	if port == 0 {
		port = Port
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(peer.Address, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	said, err := io.ReadAll(io.LimitReader(c, answerSize))
	if len(said) < answerSize {
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		return fmt.Errorf("a connection comes about, and %d of %d bytes arrive: packets may be too large for a link on the way", len(said), answerSize)
	}
	line, _, _ := strings.Cut(string(said), "\n")
	if node := strings.TrimPrefix(line, "hactl-probe "); node != peer.Node {
		return fmt.Errorf("%.80q answers in its place", node)
	}
	return nil
}

// api makes a handshake with an apiserver through the service address: a process that
// hangs makes none.
func (p Probe) api(ctx context.Context, ca string) error {
	if p.Service == "" {
		return errors.New("the pod was not told the service address")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return errors.New("no CA was named")
	}
	host, _, err := net.SplitHostPort(p.Service)
	if err != nil {
		return err
	}
	c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", p.Service)
	if err != nil {
		return err
	}
	return c.Close()
}

// name looks the API's service up. A lost packet is sent again after 700 ms.
func (p Probe) name(ctx context.Context, name string) error {
	host, _, err := net.SplitHostPort(p.Service)
	if err != nil {
		return err
	}
	resolve := p.Resolve
	if resolve == nil {
		resolve = (&net.Resolver{PreferGo: true}).LookupHost
	}
	once, cancel := wait.Within(ctx, "an answer of the DNS", 700*time.Millisecond)
	defer cancel()
	found, err := resolve(once, name)
	if err == nil && !slices.Contains(found, host) {
		return fmt.Errorf("%s is %s, not %s", name, strings.Join(found, ", "), host)
	}
	return err
}

// text is the last part of an error: who asked what is known.
func text(ctx context.Context, err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + wait.Bound(ctx, Patience).String()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if dns.IsTimeout {
			return "no answer from " + dns.Server + " within " + wait.Bound(ctx, Patience).String()
		}
		return dns.Err + " (" + dns.Server + ")"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
