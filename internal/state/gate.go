package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hactl/internal/remote"
	"hactl/inventory"
)

// maxLag is how many entries of etcd's log a member may be behind the leader.
const maxLag = 1000

// Gate is what has to hold before an operation takes the next host out of a running
// cluster: every etcd member serves and follows one leader, every apiserver is
// ready, one master holds the VIP and it answers, and every node that was Ready when
// the operation began is Ready.
type Gate struct {
	cluster Cluster
	ready   map[string]bool // nodes that were Ready when the gate was made
}

// NewGate notes from a first look which nodes are Ready.
func NewGate(c Cluster, first *Report) *Gate {
	g := &Gate{cluster: c, ready: map[string]bool{}}
	for name, n := range first.Seen.Nodes {
		g.ready[name] = n.Ready
	}
	return g
}

// Look is an error while the gate does not hold. The hosts in out were taken out
// before and do not count.
func (g *Gate) Look(ctx context.Context, out []string) error {
	c := g.cluster
	c.Skip = slices.Concat(c.Skip, out)
	r := Look(ctx, c, Etcd, VIP, APIServers, Nodes)
	return errors.Join(g.judge(r, out)...)
}

// judge lists what keeps the gate closed.
func (g *Gate) judge(r *Report, out []string) []error {
	var errs []error
	for _, k := range r.Checks {
		if k.fine() || k.Area == "workload" || k.Area == "node" && !g.ready[k.What] {
			continue
		}
		errs = append(errs, fmt.Errorf("%s %s: %s", k.Area, k.What, k.Detail))
	}
	return append(errs, lagging(r, out)...)
}

// lagging are the members that have not caught up with the leader.
func lagging(r *Report, out []string) []error {
	st := r.Seen.Etcd
	if st == nil {
		return nil // a check says why
	}
	leader := st.Member(st.Leader)
	if leader == nil {
		return []error{errors.New("etcd: no leader")}
	}
	var errs []error
	for _, m := range st.Members {
		if m.Err == nil && !slices.Contains(out, m.Name) && m.Applied+maxLag < leader.RaftIndex {
			errs = append(errs, fmt.Errorf("etcd %s: %d entries behind the leader", remote.Clean(m.Name), leader.RaftIndex-m.Applied))
		}
	}
	return errs
}

// Order is the order in which hosts are taken out: masters before workers, the owner
// of the VIP after the other masters, and the leader of etcd after them.
func (r *Report) Order(hosts []*inventory.Host) []string {
	rank := func(h *inventory.Host) int {
		switch {
		case h.Role != inventory.ControlPlane:
			return 3
		case r.Seen.Etcd != nil && r.Seen.Etcd.Leader == h.Name:
			return 2
		case slices.Contains(r.Seen.Owners, h.Name):
			return 1
		}
		return 0
	}
	sorted := slices.Clone(hosts)
	slices.SortStableFunc(sorted, func(a, b *inventory.Host) int { return rank(a) - rank(b) })
	var names []string
	for _, h := range sorted {
		names = append(names, h.Name)
	}
	return names
}
