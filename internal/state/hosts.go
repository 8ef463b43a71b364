package state

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/plan"
	"hactl/internal/traffic"
	"hactl/inventory"
	"hactl/kubeadm"
	"hactl/pki"
)

// hostChecks calls every host once: for the certificates that kubeadm and the kubelets
// made there, for what hactl-network misses, and for what the pods there reach.
func hostChecks(ctx context.Context, c Cluster, _ *Seen) []Check {
	hosts := append(c.Inv.Masters(), c.Inv.Workers()...)
	probes := lookForProbes(ctx, c)
	seen := make([]hostLook, len(hosts))
	var g errgroup.Group
	g.SetLimit(plan.Parallel)
	for i, n := range hosts {
		g.Go(func() error {
			seen[i] = hostLook{host: n, err: c.Down[n.Name]}
			h := c.Hosts[n.Name]
			if h == nil {
				return nil
			}
			seen[i].asked = probes.peersOf(c, hosts, i)
			k := kubeadm.Cluster{Inv: c.Inv, PKI: c.PKI}
			seen[i].HostSeen, seen[i].err = kubeadm.SeeHost(ctx, h, k.TrafficQuestion(seen[i].asked))
			return nil
		})
	}
	_ = g.Wait()
	return slices.Concat(certificateChecks(c, seen), networkChecks(seen), probes.checks(c, seen))
}

// hostLook is what one host said.
type hostLook struct {
	host  *inventory.Host
	asked []traffic.Peer // which probes its own was to reach
	*kubeadm.HostSeen
	err error // it could not be asked
}

// networkChecks are the hosts whose hactl-network misses something, or does not run.
func networkChecks(seen []hostLook) (out []Check) {
	for _, s := range seen {
		if s.HostSeen != nil && s.Network != "" {
			out = append(out, Check{Area: "network", What: s.host.Name, State: Bad,
				Detail: s.Network + "; hint: it comes back by itself within seconds, or systemctl status hactl-network there says why not"})
		}
	}
	return out
}

// certificateChecks report the next to expire, of the store's and of those on the
// hosts, and hosts that could not be asked. A kubelet makes its own anew long before the
// end: one that does not loses its node.
func certificateChecks(c Cluster, seen []hostLook) (out []Check) {
	var all []expires
	for _, e := range c.PKI.Report() {
		all = append(all, expires{name: e.Name, end: e.NotAfter})
	}
	for _, s := range seen {
		if s.HostSeen == nil {
			out = append(out, failed("certificate", s.host.Name, Unknown, s.err))
			continue
		}
		for _, e := range s.Certificates {
			all = append(all, expires{e.Name, s.host.Name, e.NotAfter})
		}
	}
	if len(all) == 0 {
		return out
	}
	return append([]Check{firstToExpire(all, time.Now())}, out...)
}

// expires is a certificate, of the store or on a host.
type expires struct {
	name, host string
	end        time.Time
}

// firstToExpire is bad when what should have been made anew by now has not been.
func firstToExpire(all []expires, now time.Time) Check {
	next := slices.MinFunc(all, func(a, b expires) int { return a.end.Compare(b.end) })
	days := int(math.Floor(next.end.Sub(now).Hours() / 24))
	k := Check{Area: "certificate", What: next.name, State: OK,
		Detail: fmt.Sprintf("first of %d to expire, in %d days (%s)", len(all), days, next.end.Format(time.DateOnly))}
	if next.host != "" {
		k.Detail += ", on " + next.host
	}
	if next.end.Sub(now) < pki.RenewBefore {
		k.State = Bad
	}
	return k
}
