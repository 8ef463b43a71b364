package preflight

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hactl/internal/facts"
	"hactl/internal/remote"
)

// Who may hold which port, by the name that the kernel has for the process (at
// most 15 bytes).
func (c *Cluster) owners(h host) map[int][]string {
	own := map[int][]string{
		kubeletPort: {"kubelet"},
		10256:       {"kube-proxy"},
		10249:       {"kube-proxy"},
	}
	if h.master() {
		own[etcdClientPort], own[etcdPeerPort], own[etcdMetricsPort] = []string{"etcd"}, []string{"etcd"}, []string{"etcd"}
		own[c.Inv.VIP.Port] = []string{"kube-apiserver"}
		own[10257] = []string{"kube-controller"}
		own[10259] = []string{"kube-scheduler"}
	}
	return own
}

func portsFree(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		own := c.owners(h)
		var out []Finding
		seen := map[int]bool{}
		for _, l := range h.Facts.Listening {
			port := int(l.Addr.Port())
			allowed, ours := own[port]
			other := h.holder(l.PID)
			if !ours || seen[port] || slices.Contains(allowed, l.Process) && other == "" {
				continue
			}
			seen[port] = true
			holder := fmt.Sprintf("%s (pid %d)", l.Process, l.PID)
			if other != "" {
				holder = fmt.Sprintf("%s (pid %d, not hactl's: %s)", l.Process, l.PID, other)
			}
			if l.PID == 0 {
				holder = "a process that was not found"
			}
			out = append(out, says("port %d is held by %s; it is for %s", port, holder, allowed[0]))
		}
		return out
	})
}

func portsReachable(_ context.Context, c *Cluster) []Finding {
	var out []Finding
	for _, d := range c.dials {
		where := fmt.Sprintf("%s port %d", d.To, d.Port)
		switch d.Reach {
		case silent:
			out = append(out, says("%s does not answer: packets are dropped on the way", where).on(d.From))
		case noRoute:
			out = append(out, says("%s: no route to host: the host is not a neighbour, or a firewall rejects", where).on(d.From))
		case refused:
			if f := c.Facts[d.To]; f != nil && listens(f, d, c) {
				out = append(out, says("%s refuses although something listens there: a firewall rejects", where).on(d.From))
			}
		case open:
		default:
			f := says("connections to other hosts could not be tried: %v", d.Err).as(Unknown).on(d.From)
			if f.Hint = remote.HintOf(d.Err); !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	if len(c.dials) == 0 && len(c.Inv.Hosts) > 1 {
		return unknown("no host could be connected from")
	}
	return out
}

// listens reports whether a process on the target listens on the dialled address.
func listens(f *facts.Facts, d dial, c *Cluster) bool {
	to := c.Inv.Host(d.To).PrivateAddress
	return slices.ContainsFunc(f.Listening, func(l facts.Listener) bool {
		return int(l.Addr.Port()) == d.Port && (l.Addr.Addr() == to || l.Addr.Addr().IsUnspecified())
	})
}

// peerRTT takes the slowest pair of masters.
func peerRTT(_ context.Context, c *Cluster) []Finding {
	if len(c.Inv.Masters()) < 2 {
		return nil
	}
	var worst dial
	measured := false
	for _, d := range c.dials {
		if d.Port != etcdPeerPort || d.Reach != open && d.Reach != refused {
			continue
		}
		if !measured || d.rtt() > worst.rtt() {
			worst = d
		}
		measured = true
	}
	if !measured {
		return unknown("the round trip between masters could not be measured")
	}
	rtt, e := worst.rtt(), c.Inv.Etcd
	pair := fmt.Sprintf("%s to %s and back takes %s", worst.From, worst.To, rtt.Round(100*time.Microsecond))
	var out []Finding
	if e.HeartbeatInterval < rtt/2 {
		out = append(out, says("%s, and etcd.heartbeatInterval %s is less than half of it", pair, e.HeartbeatInterval))
	}
	if e.ElectionTimeout < 10*rtt {
		out = append(out, says("%s, and etcd.electionTimeout %s is less than ten times that", pair, e.ElectionTimeout))
	}
	return out
}
