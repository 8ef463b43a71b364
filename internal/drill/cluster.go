package drill

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// Member is one host of the cluster.
type Member struct {
	Name     string
	Addr     netip.Addr // the address the cluster uses between hosts
	API      string     // host:port of its own apiserver, masters only
	SSHPorts []int      // stay open when the host is cut off
	Master   bool
	Host     remote.Host
	// Echo has the host's sshd answer, for which no program starts; nil when the
	// connection cannot.
	Echo func(ctx context.Context) error
}

// Etcd is what a drill asks of etcd. Calls are bounded by their contexts.
type Etcd interface {
	// Put writes; nil means that a quorum acknowledged it.
	Put(ctx context.Context, key, value string) error
	// Keys lists the keys under prefix, linearizably.
	Keys(ctx context.Context, prefix string) ([]string, error)
	// Clear removes the keys under prefix.
	Clear(ctx context.Context, prefix string) error
	// Leads reports whether the member on that host says that it leads.
	Leads(ctx context.Context, host string) (bool, error)
}

// Power switches machines; it is needed where reboot -f is not good enough.
type Power interface {
	Off(ctx context.Context, host string) error
	On(ctx context.Context, host string) error
	// Watch has the host switched on after a time even when this process is
	// gone by then. The returned function calls it off.
	Watch(host string, seconds int) (func(), error)
}

// Cluster is everything a drill knows of its victim.
type Cluster struct {
	Name     string
	Members  []*Member  // masters first
	VIP      netip.Addr // the address the masters' interfaces carry
	API      string     // host:port behind the VIP
	TLS      *tls.Config
	Etcd     Etcd
	Settings Settings
	Power    Power  // nil: only reboot -f
	Demo     string // image of the demo workload, on every host; "" when it is not
	// PlanEmpty returns nil when the hosts are exactly as the inventory wants.
	PlanEmpty func(ctx context.Context) error
	// DialDirect connects from this machine; nil means net.Dialer.
	DialDirect func(ctx context.Context, network, addr string) (net.Conn, error)

	// transport replaces HTTP over TLS in tests, where thousands of requests are not
	// the point; nil is the real one.
	transport func(dial dialFunc, kept bool) http.RoundTripper
	// ownClock replaces this process's own clock in tests; nil is the real one.
	ownClock clockFunc
}

// Masters returns the control-plane members in order.
func (c *Cluster) Masters() []*Member { return c.filter(func(m *Member) bool { return m.Master }) }

// Workers returns the other members in order.
func (c *Cluster) Workers() []*Member { return c.filter(func(m *Member) bool { return !m.Master }) }

// Member returns the member of that name, or nil.
func (c *Cluster) Member(name string) *Member {
	for _, m := range c.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func (c *Cluster) filter(keep func(*Member) bool) []*Member {
	var out []*Member
	for _, m := range c.Members {
		if keep(m) {
			out = append(out, m)
		}
	}
	return out
}

// others returns members without those named.
func others(members []*Member, names ...string) []*Member {
	var out []*Member
	for _, m := range members {
		if !slices.Contains(names, m.Name) {
			out = append(out, m)
		}
	}
	return out
}

// thisMachine is where requests come from unless the VIP is reached through a host only.
const thisMachine = "this machine"

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// route says how traffic reaches the cluster: from this machine when it can,
// otherwise through a host that is not about to be broken.
func (c *Cluster) route(ctx context.Context, victims []string) (dialFunc, string, error) {
	direct := c.DialDirect
	if direct == nil {
		direct = (&net.Dialer{}).DialContext
	}
	var err error
	for range 3 { // a lost packet is no reason to go by another way
		tryCtx, cancel := wait.Within(ctx, "a connection to the VIP", requestDeadline)
		var conn net.Conn
		conn, err = direct(tryCtx, "tcp", c.API)
		cancel()
		if err == nil {
			_ = conn.Close()
			return direct, thisMachine, nil
		}
	}
	for _, m := range relays(others(c.Members, victims...)) {
		return m.Host.Dial, "through ssh to " + m.Name, nil
	}
	return nil, "", remote.Hint(fmt.Errorf("reach %s: %w, and every host is a victim (%s)", c.API, err, strings.Join(victims, ", ")),
		"run the drill from a machine that reaches the VIP")
}

// relays are the members in the order in which traffic goes through them.
func relays(members []*Member) []*Member {
	out := slices.Clone(members)
	slices.SortStableFunc(out, func(a, b *Member) int { return rank(a) - rank(b) })
	return out
}

// throughAny dials through the same host until that fails, and then through the next one:
// an operation may restart each of them.
func (c *Cluster) throughAny() dialFunc {
	hosts := relays(c.Members)
	var at atomic.Int64
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		i := at.Load()
		first, cancel := context.WithTimeout(ctx, requestDeadline/2)
		defer cancel()
		conn, err := hosts[int(i)%len(hosts)].Host.Dial(first, network, addr)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		at.CompareAndSwap(i, i+1)
		return hosts[int(i+1)%len(hosts)].Host.Dial(ctx, network, addr)
	}
}

// rank prefers workers: a master may become the VIP's owner, and then its
// traffic would not cross the network.
func rank(m *Member) int {
	if m.Master {
		return 1
	}
	return 0
}
