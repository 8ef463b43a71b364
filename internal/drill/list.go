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
	// unnoticed is what a scenario that clients must not notice may cost them: one
	// request that is late, not an outage.
	unnoticed = 250 * ms
	// throughAPI is how much later than what they need (an apiserver behind the
	// VIP, etcd) reads and writes through the API may be back: the apiservers' etcd
	// clients turn to another member.
	throughAPI = 500 * ms
	// crashBackOff is how long the kubelet may take to start a static pod again
	// that was killed several times in a row: it waits up to five minutes.
	crashBackOff = 6 * time.Minute
	// twoOwners is how well two hosts' clocks can be told apart: up to there an
	// overlap of two owners is not seen as one.
	twoOwners = 100 * ms
)

// election and its like are bounds that follow from the cluster's settings.
func election(s Settings) time.Duration { return s.elected() }

func electionThroughAPI(s Settings) time.Duration { return s.elected() + throughAPI }

// The leader steps down by itself when it has not heard of a quorum for an election
// timeout, which it looks at once per timeout.
func stepsDown(s Settings) time.Duration { return 2 * s.Election }

func quorumBack(s Settings) time.Duration { return s.corruptCheck() + s.elected() + s1 }

// plus is a bound and some more.
func plus(bound func(Settings) time.Duration, more time.Duration) func(Settings) time.Duration {
	return func(s Settings) time.Duration { return bound(s) + more }
}

// Scenarios is the list, in an order that is safe for --all: what changes
// least comes first, what takes everything away last. Bounds that depend on the
// cluster are those of a cluster with the default settings.
func Scenarios() []Scenario {
	out := scenarios()
	for i := range out {
		out[i] = out[i].bounded(Settings{}, nil)
	}
	return out
}

func scenarios() []Scenario {
	given, taken := Settings.given, Settings.taken
	return []Scenario{
		{
			Name: "keepalived-stopped", Summary: "keepalived is stopped on the VIP's owner",
			Hits: owner(stopUnit(keepalivedUnit)), Undone: "start keepalived", Hold: 4 * s1, Masters: 3,
			Checks: []Check{gapBy(vipReady, given), lossless(vipReady, ""), oneOwner()},
		},
		{
			Name: "keepalived-killed", Summary: "every keepalived process on the VIP's owner is killed; the address stays behind",
			Hits: ownerWith(killKeepalived), Undone: "systemd restarts it", Hold: 5 * s1, Heals: true, Masters: 3,
			Checks: []Check{owners(3 * s1), gap(vipReady, 3*s1), lossless(vipReady, "")},
		},
		{
			Name: "apiserver-stopped", Summary: "the apiserver on the VIP's owner is asked to stop: new connections notice nothing",
			Hits: ownerWith(stopAPIServer), Undone: "the kubelet restarts it", Hold: 3 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{noFailure(vipReady), noFailure(vipRead), noFailure(vipWrite), oneOwner()},
		},
		{
			Name: "apiserver-killed", Summary: "the apiserver on the VIP's owner is killed",
			Hits: owner(signalProcess("kube-apiserver", "KILL")), Undone: "the kubelet restarts it", Hold: 6 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{gapBy(vipReady, plus(given, 200*ms)), gap(vipRead, 1500*ms), gap(vipWrite, 1500*ms), lossless(vipReady, ""), restart(time.Minute), oneOwner()},
		},
		{
			Name: "apiserver-hung", Summary: "the apiserver on the VIP's owner hangs (SIGSTOP): it answers nothing",
			Hits: owner(signalProcess("kube-apiserver", "STOP")), Undone: "SIGCONT", Hold: 10 * s1, Masters: 3,
			Checks: []Check{gap(vipReady, 1500*ms), gap(vipRead, 1500*ms+throughAPI), gap(vipWrite, 1500*ms+throughAPI), lossless(vipReady, ""), oneOwner()},
		},
		{
			Name: "controller-manager-killed", Summary: "the leading kube-controller-manager is killed",
			Hits: holder("kube-controller-manager"), Undone: "the kubelet restarts it", Hold: 45 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{newLeader("kube-controller-manager"), gap(vipReady, unnoticed), gap(vipWrite, unnoticed), stays()},
		},
		{
			Name: "scheduler-killed", Summary: "the leading kube-scheduler is killed",
			Hits: holder("kube-scheduler"), Undone: "the kubelet restarts it", Hold: 45 * s1, Heals: true, Recover: crashBackOff, Masters: 3,
			Checks: []Check{newLeader("kube-scheduler"), gap(vipReady, unnoticed), gap(vipWrite, unnoticed), stays()},
		},
		{
			Name: "etcd-follower-killed", Summary: "an etcd member that does not lead is killed",
			Hits: follower(killUnit(etcdUnit)), Undone: "systemd restarts it", Hold: 6 * s1, Heals: true, Masters: 3,
			Checks: []Check{gap(etcdWrite, unnoticed), gap(vipWrite, unnoticed), stays()},
		},
		{
			Name: "etcd-leader-stopped", Summary: "the leading etcd member is stopped; it hands leadership over first",
			Hits: leader(stopUnit(etcdUnit)), Undone: "start etcd", Hold: 5 * s1, Masters: 3,
			Checks: []Check{gap(etcdWrite, 400*ms), gap(vipRead, 400*ms+throughAPI), gap(vipWrite, 400*ms+throughAPI), stays()},
		},
		{
			Name: "etcd-leader-killed", Summary: "the leading etcd member is killed: the others elect",
			Hits: leader(killUnit(etcdUnit)), Undone: "systemd restarts it", Hold: 6 * s1, Heals: true, Masters: 3,
			Checks: []Check{gapBy(etcdWrite, election), gapBy(vipWrite, electionThroughAPI), stays()},
		},
		{
			Name: "etcd-leader-hung", Summary: "the leading etcd member hangs (SIGSTOP)",
			Hits: leader(hangUnit(etcdUnit)), Undone: "SIGCONT", Hold: 8 * s1, Masters: 3,
			Checks: []Check{gapBy(etcdWrite, plus(election, 500*ms)), gapBy(vipRead, plus(electionThroughAPI, 500*ms)), gapBy(vipWrite, plus(electionThroughAPI, 500*ms)), stays()},
		},
		{
			Name: "owner-cut-off", Summary: "the VIP's owner loses the network",
			Hits: ownerWith(cutOffHit), Undone: "delete the filter", Hold: 8 * s1, Masters: 3,
			Checks: []Check{gapBy(vipReady, taken), gapBy(vipRead, electionThroughAPI), gapBy(vipWrite, electionThroughAPI), lossless(vipReady, ""), oneElsewhere(), healedOwner()},
		},
		{
			Name: "node-back", Summary: "a host that lost the VIP comes back: the VIP does not move",
			Hits: ownerWith(cutOffHit), Undone: "delete the filter", Hold: 5 * s1, Masters: 3,
			Checks: []Check{healed(stays()), healed(gap(vipReady, 500*ms)), oneElsewhere(), healedOwner()},
		},
		{
			Name: "owner-isolated", Summary: "the VIP's owner is cut off with a minority of the masters, and is written to",
			Hits: minority, Undone: "delete the filters", Hold: 8 * s1, Masters: 3, Inside: true,
			Checks: []Check{gapBy(vipReady, plus(taken, 500*ms)), gapBy(vipWrite, electionThroughAPI), refused(inWrite, stepsDown), lossless(vipReady, ""), oneElsewhere(), healedOwner()},
		},
		{
			Name: "owner-powered-off", Summary: "the VIP's owner loses its power",
			Hits: ownerWith(powerHit), Undone: "power on", Hold: 10 * s1, Masters: 3, Reboots: true,
			Checks: []Check{gapBy(vipReady, taken), gapBy(vipRead, electionThroughAPI), gapBy(vipWrite, electionThroughAPI), lossless(vipReady, ""), healed(stays()), oneElsewhere()},
		},
		{
			Name: "worker-lost", Summary: "a worker is cut off; ten replicas behind a service keep answering and come back elsewhere",
			Hits: worker, Undone: "delete the filter", Hold: 150 * s1, Masters: 1, Workers: 1, Workload: true,
			Checks: []Check{gap(service, 3*s1), rescheduled(120 * s1), lossless(service, string(Rescheduled)), gap(vipReady, unnoticed), stays()},
		},
		{
			Name: "apiservers-down", Summary: "every apiserver is killed at once: the VIP stays somewhere",
			Hits: everyMaster(signalProcess("kube-apiserver", "KILL")), Undone: "the kubelets restart them", Hold: 30 * s1, Heals: true, Recover: crashBackOff, Masters: 1, Risk: QuorumRisk,
			Checks: []Check{gap(vipReady, 30*s1), held(s1), oneOwner()},
		},
		{
			Name: "etcd-no-quorum", Summary: "the majority of etcd is stopped: writes are refused, the VIP stays",
			Hits: majority, Undone: "start etcd", Hold: 6 * s1, Masters: 3, Risk: QuorumRisk,
			Checks: []Check{back(etcdWrite, quorumBack), refused(etcdWrite, fixed(s1)), back(vipWrite, plus(quorumBack, throughAPI)), stays(), held(s1)},
		},
		{
			Name: "all-rebooted", Summary: "every host is powered off at once and comes back",
			Hits: everyHost(powerOff()), Undone: "power on", Hold: 5 * s1, Recover: 5 * time.Minute, Masters: 1, Risk: QuorumRisk, Reboots: true,
			Checks: []Check{back(vipReady, fixed(180*s1)), healedOwner()},
		},
	}
}

func owner(f Fault) func(*Cluster, *State) ([]Hit, error) {
	return ownerWith(func(_ *Cluster, m *Member) Hit { return Hit{m, f} })
}

func ownerWith(hit func(*Cluster, *Member) Hit) func(*Cluster, *State) ([]Hit, error) {
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
	slices.SortStableFunc(out, func(a, b *Member) int { return ownerLast(a, s) - ownerLast(b, s) })
	return out
}

func ownerLast(m *Member, s *State) int {
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
