package state

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"hactl/etcd"
	"hactl/internal/remote"
	"hactl/inventory"
)

// etcdChecks asks every member, and for one acknowledged write.
func etcdChecks(ctx context.Context, c Cluster, seen *Seen) []Check {
	tls, err := c.PKI.TLSConfig()
	if err != nil {
		return []Check{failed("etcd", "client certificate", Unknown, err)}
	}
	cluster, err := etcd.Dial(ctx, etcd.MembersOf(c.Inv, c.Hosts), tls)
	if err != nil {
		return []Check{failed("etcd", "cluster", Unknown, err)}
	}
	defer cluster.Close()
	st := cluster.Status(ctx)
	seen.Etcd = st
	var out []Check
	for _, m := range st.Members {
		out = append(out, memberCheck(m))
	}
	out = append(out, missingMembers(c)...)
	out = append(out, quorumCheck(st, out))
	out = append(out, strangerChecks(st, c.Inv)...)
	if c.Write {
		out = append(out, writeCheck(ctx, cluster))
	}
	return out
}

// quorumCheck says bad only when the members that could not be looked at would
// not make a quorum either.
func quorumCheck(st *etcd.Status, members []Check) Check {
	q := Check{Area: "etcd", What: "quorum", State: OK, Detail: fmt.Sprintf("%d of %d voters healthy, leader %s", st.Healthy, st.Voters, st.Leader)}
	unknown := 0
	for _, m := range members {
		if m.State == Unknown {
			unknown++
		}
	}
	switch {
	case st.Quorum:
	case unknown > 0 && st.Healthy+unknown >= st.Needed():
		q.State = Unknown
	default:
		q.State = Bad
	}
	return q
}

func writeCheck(ctx context.Context, cluster *etcd.Cluster) Check {
	start := time.Now()
	if err := cluster.WriteCheck(ctx); err != nil {
		return failed("etcd", "write", Bad, err)
	}
	return Check{Area: "etcd", What: "write", State: OK, Detail: fmt.Sprintf("acknowledged and read back in %d ms", time.Since(start).Milliseconds())}
}

// memberCheck judges one member by what it says of itself.
func memberCheck(m etcd.MemberStatus) Check {
	k := Check{Area: "etcd", What: m.Name, State: OK}
	switch {
	case m.Err != nil && remote.Unreachable(m.Err):
		return failed("etcd", m.Name, Unknown, m.Err)
	case m.Err != nil:
		return failed("etcd", m.Name, Bad, m.Err)
	case !m.Healthy:
		k.State = Bad
	}
	role := "follower"
	switch {
	case m.Leader:
		role = "leader"
	case m.Learner:
		role, k.State = "learner", Bad
	}
	k.Detail = fmt.Sprintf("%s, v%s, term %d, %.1f MB", role, remote.Clean(m.Version), m.RaftTerm, float64(m.DBSize)/(1<<20))
	if len(m.Alarms) > 0 {
		k.State, k.Detail = Bad, k.Detail+", alarm "+strings.Join(m.Alarms, ", ")
	}
	return k
}

// strangerChecks are the members of no master of the inventory: they count for
// the quorum, and hactl neither looks at them nor restarts them.
func strangerChecks(st *etcd.Status, inv *inventory.Inventory) []Check {
	hint := "hactl up removes it once its host is off, or after systemctl disable --now etcd keepalived there"
	if !st.Quorum {
		hint = "without a quorum it cannot be removed: bring its host back"
	}
	var out []Check
	for _, l := range st.Strangers(inv) {
		role := "voter"
		if l.Learner {
			role = "learner"
		}
		name := remote.Clean(cmp.Or(l.Name, "unnamed"))
		out = append(out, Check{Area: "etcd", What: name, State: Bad, Detail: fmt.Sprintf("a %s that is not in the inventory: %s; hint: %s", role, l, hint)})
	}
	return out
}

// missingMembers are the masters without a connection: unknown.
func missingMembers(c Cluster) []Check {
	var out []Check
	for _, m := range c.Inv.Masters() {
		if err := c.Down[m.Name]; err != nil {
			out = append(out, failed("etcd", m.Name, Unknown, err))
		}
	}
	return out
}
