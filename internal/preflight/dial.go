package preflight

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// reach is what became of a connection from one host to another.
type reach string

// A refused connection needs a listener no more than an open one does: the
// answer came back, so the way is open in both directions. Silence and "no route
// to host" (what a rejecting firewall and a dead neighbour both look like) are
// the findings.
const (
	open     reach = "open"
	refused  reach = "refused"
	silent   reach = "silent"
	noRoute  reach = "no route"
	untested reach = "untested" // the host from which to dial could not
)

const (
	dialTimeout = 2 * time.Second
	dialSamples = 3  // for the round trip; the smallest counts
	dialsAtOnce = 16 // from one host
)

// dial is one connection that was tried.
type dial struct {
	From, To string
	Port     int
	Reach    reach
	Err      error
	Took     time.Duration // smallest of the samples, with the way from hactl to From
	Loop     time.Duration // the same from From to itself
}

// rtt is the round trip between the two hosts, without hactl's own to From.
func (d dial) rtt() time.Duration { return max(0, d.Took-d.Loop) }

// etcd's ports for clients and peers, and the kubelet's.
const (
	etcdClientPort  = 2379
	etcdPeerPort    = 2380
	etcdMetricsPort = 2381
	kubeletPort     = 10250
)

// wanted lists the connections that the cluster will need.
func (c *Cluster) wanted() []dial {
	var out []dial
	masters := c.Inv.Masters()
	add := func(from, to *inventory.Host, ports ...int) {
		if from.Name == to.Name || !to.PrivateAddress.IsValid() || c.Hosts[from.Name] == nil {
			return
		}
		for _, p := range ports {
			out = append(out, dial{From: from.Name, To: to.Name, Port: p})
		}
	}
	for _, m := range masters {
		for _, other := range masters {
			add(m, other, etcdClientPort, etcdPeerPort, c.Inv.VIP.Port, kubeletPort)
		}
		for _, w := range c.Inv.Workers() {
			add(m, w, kubeletPort)
			add(w, m, c.Inv.VIP.Port)
		}
	}
	return out
}

// dialAll tries every wanted connection, hosts side by side.
func (c *Cluster) dialAll(ctx context.Context) []dial {
	dials := c.wanted()
	loops := map[string]func() dial{}
	free := map[string]chan struct{}{}
	for _, d := range dials {
		if loops[d.From] == nil {
			loops[d.From] = sync.OnceValue(func() dial { return c.dialOwn(ctx, d.From) })
			free[d.From] = make(chan struct{}, dialsAtOnce)
		}
	}
	var wg sync.WaitGroup
	for i := range dials {
		d := &dials[i]
		wg.Go(func() {
			slot := free[d.From]
			slot <- struct{}{}
			defer func() { <-slot }()
			loop := loops[d.From]()
			if loop.Reach == untested || loop.Reach == silent {
				d.Reach, d.Err = untested, loop.Err
				return
			}
			d.Loop = loop.Took
			c.try(ctx, d, c.Inv.Host(d.To).PrivateAddress)
			if d.Reach == silent { // or has the host itself stopped to answer?
				if own := c.dialOwn(ctx, d.From); own.Reach == untested || own.Reach == silent {
					d.Reach, d.Err = untested, own.Err
				}
			}
		})
	}
	wg.Wait()
	return dials
}

// dialOwn connects a host to itself: that must be answered at once, or nothing
// can be said of the others.
func (c *Cluster) dialOwn(ctx context.Context, name string) dial {
	d := dial{From: name, To: name, Port: kubeletPort}
	own := netip.MustParseAddr("127.0.0.1")
	if c.Inv.IPv6() {
		own = netip.IPv6Loopback()
	}
	c.try(ctx, &d, own)
	return d
}

// try dials until it has enough samples of an answer, or none twice: a host may
// stand still for a moment, and a packet may be lost.
func (c *Cluster) try(ctx context.Context, d *dial, to netip.Addr) {
	quiet := false
	for range dialSamples {
		began := time.Now()
		got, err := dialOnce(ctx, c.Hosts[d.From], netip.AddrPortFrom(to, uint16(d.Port)))
		took := time.Since(began)
		if got == silent && !quiet {
			quiet = true
			continue
		}
		d.Reach, d.Err = got, err
		if got != open && got != refused {
			return
		}
		if d.Took == 0 || took < d.Took {
			d.Took = took
		}
	}
}

func dialOnce(ctx context.Context, from remote.Host, to netip.AddrPort) (reach, error) {
	ctx, cancel := wait.Within(ctx, "a connection to "+to.String(), dialTimeout)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(to.Port()))))
	if err == nil {
		_ = conn.Close()
		return open, nil
	}
	return reachOf(ctx, err), err
}

// reachOf reads the words of the host's sshd, which passes on those of its own
// system (strerror(3)).
func reachOf(ctx context.Context, err error) reach {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return silent
	}
	var u *remote.UnreachableError
	if errors.As(err, &u) {
		return untested
	}
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "refused"):
		return refused
	case strings.Contains(text, "timed out"):
		return silent
	case strings.Contains(text, "no route"), strings.Contains(text, "unreachable"):
		return noRoute
	}
	return untested
}
