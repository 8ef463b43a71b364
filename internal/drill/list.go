package drill

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The streams that scenarios are judged by. All of them open a new connection
// for each request; the kept-alive ones are measured and reported beside them.
const (
	vipReady  = "vip/ready/new"   // the apiserver behind the VIP is ready, etcd aside
	vipRead   = "vip/read/new"    // GET of an object, a quorum read
	vipWrite  = "vip/write/new"   // acknowledged creation of an object
	etcdWrite = "etcd/write"      // acknowledged put through the etcd client
	inWrite   = "inside/write"    // writes on the isolated side
	service   = "service/get/new" // the demo workload through its service
)

// QuorumRisk is the risk of scenarios that take the majority of something away
// on purpose.
const QuorumRisk = "quorum"

// DriftRisk is the risk of breaking hosts that are not as the inventory wants:
// the plan is then not asked for, neither before nor after.
const DriftRisk = "drift"

const (
	ms = time.Millisecond
	s1 = time.Second
	// noise is what a request may be late on a busy machine while nothing is
	// wrong with the cluster: the bound of scenarios that must not be noticed.
	noise = 250 * ms
	// throughAPI is how much later than what they need (an apiserver behind the
	// VIP, etcd) reads and writes through the API may be back: noise of their own
	// and the apiservers' etcd clients turning to another member.
	throughAPI = 2 * noise
	// crashBackOff is how long the kubelet may take to start a static pod again
	// that was killed several times in a row: it waits up to five minutes.
	crashBackOff = 6 * time.Minute
	// corruptCheck is how long members that start at the same time wait for each
	// other's hash before they serve (etcd's InitialCorruptCheck: 5 s and two
	// election timeouts of 1 s, its server's request timeout).
	corruptCheck = 7 * s1
	// twoOwners is how well two hosts' clocks can be told apart: up to there an
	// overlap of two owners is not seen as one.
	twoOwners = 100 * ms
)

// Scenarios is the list, in an order that is safe for --all: what changes
// least comes first, what takes everything away last.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name: "keepalived-stopped", Summary: "keepalived is stopped on the VIP's owner",
			Hits: owner(stopUnit(keepalivedUnit)), Undone: "start keepalived", Hold: 4 * s1, Masters: 3,
			Checks: []Check{gap(vipReady, 200*ms), oneOwner()},
		},
		{
			Name: "keepalived-killed", Summary: "every keepalived process on the VIP's owner is killed; the address stays behind",
			Hits: owner2(killKeepalived), Undone: "systemd restarts it", Hold: 5 * s1, Heals: true, Masters: 3,
			Checks: []Check{{Kind: Owners, Bound: 3 * s1}, gap(vipReady, 3*s1)},
		},
		{
			Name: "apiserver-stopped", Summary: "the apiserver on the VIP's owner is asked to stop: new connections notice nothing",
			Hits: owner2(stopAPIServer), Undone: "the kubelet restarts it", Hold: 3 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{{Kind: Failures, Of: vipReady}, {Kind: Failures, Of: vipRead}, {Kind: Failures, Of: vipWrite}, oneOwner()},
		},
		{
			Name: "apiserver-killed", Summary: "the apiserver on the VIP's owner is killed",
			Hits: owner(signalProcess("kube-apiserver", "KILL")), Undone: "the kubelet restarts it", Hold: 6 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{gap(vipReady, 400*ms), gap(vipRead, 1500*ms), gap(vipWrite, 1500*ms), oneOwner()},
		},
		{
			Name: "apiserver-hung", Summary: "the apiserver on the VIP's owner hangs (SIGSTOP): it answers nothing",
			Hits: owner(signalProcess("kube-apiserver", "STOP")), Undone: "SIGCONT", Hold: 10 * s1, Masters: 3,
			Checks: []Check{gap(vipReady, 1500*ms), gap(vipRead, 1500*ms+throughAPI), gap(vipWrite, 1500*ms+throughAPI), oneOwner()},
		},
		{
			Name: "controller-manager-killed", Summary: "the leading kube-controller-manager is killed",
			Hits: holder("kube-controller-manager"), Undone: "the kubelet restarts it", Hold: 45 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{{Kind: NewLeader, Of: "kube-controller-manager", Bound: 40 * s1}, gap(vipReady, noise), gap(vipWrite, noise), stays()},
		},
		{
			Name: "scheduler-killed", Summary: "the leading kube-scheduler is killed",
			Hits: holder("kube-scheduler"), Undone: "the kubelet restarts it", Hold: 45 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{{Kind: NewLeader, Of: "kube-scheduler", Bound: 40 * s1}, gap(vipReady, noise), gap(vipWrite, noise), stays()},
		},
		{
			Name: "etcd-follower-killed", Summary: "an etcd member that does not lead is killed",
			Hits: follower(killUnit(etcdUnit)), Undone: "systemd restarts it", Hold: 6 * s1, Heals: true, Masters: 3,
			Checks: []Check{gap(etcdWrite, noise), gap(vipWrite, noise), stays()},
		},
		{
			Name: "etcd-leader-stopped", Summary: "the leading etcd member is stopped; it hands leadership over first",
			Hits: leader(stopUnit(etcdUnit)), Undone: "start etcd", Hold: 5 * s1, Masters: 3,
			Checks: []Check{gap(etcdWrite, 400*ms), gap(vipRead, 400*ms+throughAPI), gap(vipWrite, 400*ms+throughAPI), stays()},
		},
		{
			Name: "etcd-leader-killed", Summary: "the leading etcd member is killed: the others elect",
			Hits: leader(killUnit(etcdUnit)), Undone: "systemd restarts it", Hold: 6 * s1, Heals: true, Masters: 3,
			Checks: []Check{gap(etcdWrite, 1600*ms), gap(vipWrite, 3*s1), stays()},
		},
		{
			Name: "etcd-leader-hung", Summary: "the leading etcd member hangs (SIGSTOP)",
			Hits: leader(hangUnit(etcdUnit)), Undone: "SIGCONT", Hold: 8 * s1, Masters: 3,
			Checks: []Check{gap(etcdWrite, 2500*ms), gap(vipRead, 2500*ms+throughAPI), gap(vipWrite, 2500*ms+throughAPI), stays()},
		},
		{
			Name: "owner-cut-off", Summary: "the VIP's owner loses the network",
			Hits: owner2(cutOffHit), Undone: "delete the filter", Hold: 8 * s1, Masters: 3,
			Checks: []Check{gap(vipReady, 500*ms), gap(vipRead, 2*s1), gap(vipWrite, 2*s1), oneElsewhere(), healedOwner()},
		},
		{
			Name: "node-back", Summary: "a host that lost the VIP comes back: the VIP does not move",
			Hits: owner2(cutOffHit), Undone: "delete the filter", Hold: 5 * s1, Masters: 3,
			Checks: []Check{{Kind: Stays, Healed: true}, {Kind: Gap, Of: vipReady, Bound: 500 * ms, Healed: true}, oneElsewhere(), healedOwner()},
		},
		{
			Name: "owner-isolated", Summary: "the VIP's owner is cut off with a minority of the masters, and is written to",
			Hits: minority, Undone: "delete the filters", Hold: 8 * s1, Masters: 3, Inside: true,
			Checks: []Check{gap(vipReady, s1), gap(vipWrite, 2*s1), {Kind: Refused, Of: inWrite, Bound: 2 * s1}, oneElsewhere(), healedOwner()},
		},
		{
			Name: "owner-powered-off", Summary: "the VIP's owner loses its power",
			Hits: owner2(powerHit), Undone: "power on", Hold: 10 * s1, Masters: 3, Reboots: true,
			Checks: []Check{gap(vipReady, 500*ms), gap(vipRead, 2*s1), gap(vipWrite, 2*s1), {Kind: Stays, Healed: true}, oneElsewhere()},
		},
		{
			Name: "worker-lost", Summary: "a worker is cut off; ten replicas behind a service keep answering and come back elsewhere",
			Hits: worker, Undone: "delete the filter", Hold: 150 * s1, Masters: 1, Workers: 1, Workload: true,
			Checks: []Check{gap(service, 3*s1), {Kind: Rescheduled, Bound: 120 * s1}, gap(vipReady, noise), stays()},
		},
		{
			Name: "apiservers-down", Summary: "every apiserver is killed at once: the VIP stays somewhere",
			Hits: everyMaster(signalProcess("kube-apiserver", "KILL")), Undone: "the kubelets restart them", Hold: 30 * s1, Heals: true, Recover: crashBackOff, Masters: 1, Risk: QuorumRisk,
			Checks: []Check{gap(vipReady, 30*s1), {Kind: Held, Bound: s1}, oneOwner()},
		},
		{
			Name: "etcd-no-quorum", Summary: "the majority of etcd is stopped: writes are refused, the VIP stays",
			Hits: majority, Undone: "start etcd", Hold: 6 * s1, Masters: 3, Risk: QuorumRisk,
			Checks: []Check{
				{Kind: Back, Of: etcdWrite, Bound: corruptCheck + 3*s1}, {Kind: Refused, Of: etcdWrite, Bound: s1},
				{Kind: Back, Of: vipWrite, Bound: 10 * s1}, stays(), {Kind: Held, Bound: s1},
			},
		},
		{
			Name: "all-rebooted", Summary: "every host is powered off at once and comes back",
			Hits: everyHost(powerOff()), Undone: "power on", Hold: 5 * s1, Recover: 5 * time.Minute, Masters: 1, Risk: QuorumRisk, Reboots: true,
			Checks: []Check{{Kind: Back, Of: vipReady, Bound: 180 * s1}, healedOwner()},
		},
	}
}

func gap(of string, bound time.Duration) Check { return Check{Kind: Gap, Of: of, Bound: bound} }

func stays() Check { return Check{Kind: Stays} }

func oneOwner() Check { return Check{Kind: Owners, Bound: twoOwners} }

// healedOwner is for hosts that are cut off: they cannot know that they lost
// the VIP before they hear of the others again.
func healedOwner() Check { return Check{Kind: Owners, Bound: s1, Healed: true} }

// oneElsewhere is for the others meanwhile: one of them at a time has the VIP.
func oneElsewhere() Check { return Check{Kind: Owners, Bound: twoOwners, Spared: true} }

func owner(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return owner2(func(_ *Cluster, m *Member) Hit { return Hit{m, f} })
}

func owner2(hit func(*Cluster, *Member) Hit) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, s *State) ([]Hit, error) { return []Hit{hit(c, c.Member(s.Owner))}, nil }
}

func cutOffHit(c *Cluster, m *Member) Hit { return Hit{m, cutOff(m, c.VIP)} }

func powerHit(_ *Cluster, m *Member) Hit { return Hit{m, powerOff()} }

func leader(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, s *State) ([]Hit, error) { return []Hit{{c.Member(s.Leader), f}}, nil }
}

// follower prefers one that does not hold the VIP, so that only etcd is tested.
func follower(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, s *State) ([]Hit, error) {
		return []Hit{{followers(c, s)[0], f}}, nil
	}
}

func followers(c *Cluster, s *State) []*Member {
	out := others(c.Masters(), s.Leader)
	slices.SortStableFunc(out, func(a, b *Member) int { return held(a, s) - held(b, s) })
	return out
}

func held(m *Member, s *State) int {
	if m.Name == s.Owner {
		return 1
	}
	return 0
}

func holder(lease string) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, s *State) ([]Hit, error) {
		host, _, _ := strings.Cut(s.Holders[lease], "_")
		m := c.Member(host)
		if m == nil {
			return nil, fmt.Errorf("the lease %s is held by %q, which is no master", lease, s.Holders[lease])
		}
		return []Hit{{m, signalProcess(lease, "KILL")}}, nil
	}
}

// minority is the owner and as many others as there may be without quorum;
// they still reach one another.
func minority(c *Cluster, s *State) ([]Hit, error) {
	masters := c.Masters()
	side := append([]*Member{c.Member(s.Owner)}, others(masters, s.Owner)...)[:(len(masters)-1)/2]
	var hits []Hit
	for _, m := range side {
		var friends []netip.Addr
		for _, o := range others(side, m.Name) {
			friends = append(friends, o.Addr)
		}
		hits = append(hits, Hit{m, cutOff(m, c.VIP, friends...)})
	}
	return hits, nil
}

// majority spares the leader when it can: losing quorum is the point, not an
// election.
func majority(c *Cluster, s *State) ([]Hit, error) {
	n := len(c.Masters())
	var hits []Hit
	for _, m := range followers(c, s)[:n-quorum(n)+1] {
		hits = append(hits, Hit{m, stopUnit(etcdUnit)})
	}
	return hits, nil
}

func quorum(n int) int { return n/2 + 1 }

func everyMaster(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, _ *State) ([]Hit, error) { return hitAll(c.Masters(), f), nil }
}

func everyHost(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return func(c *Cluster, _ *State) ([]Hit, error) { return hitAll(c.Members, f), nil }
}

func hitAll(members []*Member, f Fault) []Hit {
	var hits []Hit
	for _, m := range members {
		hits = append(hits, Hit{m, f})
	}
	return hits
}

func worker(c *Cluster, _ *State) ([]Hit, error) {
	m := c.Workers()[0]
	f := cutOff(m, c.VIP)
	f.Etcd = false
	return []Hit{{m, f}}, nil
}
