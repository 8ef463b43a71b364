package drill

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// runs is how many whole simulated runs each defect gets; HACTL_DRILL_SEEDS more.
const runs = 20

// defect is something wrong with a cluster, and the scenarios that have to notice.
type defect struct {
	scenarios []string
	check     string        // that is missed; "" for what fails a run
	verdict   string        // that a run on a calm machine has
	pace      time.Duration // between requests; 0: 50 ms. A longer one is enough for what lasts minutes
	spoil     func(s *sim, r *rand.Rand)
}

// outageOf has the fault take the VIP away for a time between two.
func outageOf(least, most time.Duration) func(*sim, *rand.Rand) {
	return func(s *sim, r *rand.Rand) {
		s.onFault = func(string) { s.handOver(least+time.Duration(r.Int64N(int64(most-least))), "master-2") }
	}
}

// healthyFault is what a cluster in order does: the VIP is on another host within 0.08
// to 0.16 s.
var healthyFault = outageOf(80*ms, 160*ms)

var defects = map[string]defect{
	// The procedure by hand: VRRP 2 with an interval of 3 s, and a check that has to
	// fail ten times, every three seconds, before the VIP leaves a dead apiserver.
	"the article's keepalived, owner cut off":    {scenarios: []string{"owner-cut-off"}, check: "gap vip/ready/new", verdict: Missed, spoil: outageOf(3*s1, 4*s1)},
	"the article's keepalived, apiserver killed": {scenarios: []string{"apiserver-killed"}, check: "gap vip/ready/new", verdict: Missed, spoil: outageOf(5*s1, 9*s1)},
	"the prober is off":                          {scenarios: []string{"apiserver-killed"}, check: "gap vip/ready/new", verdict: Missed, spoil: outageOf(1500*ms, 3*s1)},
	"adverts one second apart":                   {scenarios: []string{"owner-cut-off"}, check: "gap vip/ready/new", verdict: Missed, spoil: outageOf(3200*ms, 3900*ms)},
	"an apiserver that restarts slowly": {scenarios: []string{"apiserver-killed"}, check: "restart kube-apiserver", verdict: Missed, pace: 200 * ms, spoil: func(s *sim, r *rand.Rand) {
		s.onFault = func(host string) {
			s.handOver(100*ms, "master-2")
			s.kill(host, 70*s1+time.Duration(r.IntN(30))*s1)
		}
	}},
	"two owners for a second": {scenarios: []string{"keepalived-stopped", "owner-cut-off"}, check: "owners", verdict: Missed, spoil: func(s *sim, _ *rand.Rand) {
		s.onFault = func(string) {
			s.own("master-2", "master-3")
			time.AfterFunc(s1, func() { s.own("master-2") })
		}
	}},
	"one lost write": {scenarios: []string{"keepalived-stopped", "etcd-follower-killed"}, check: "", verdict: Failed, spoil: func(s *sim, r *rand.Rand) {
		healthyFault(s, r)
		lost, kubernetes := 5+r.IntN(10), r.IntN(2) == 0
		s.forget = func(name string) bool { // of those that are acknowledged
			if strings.Contains(name, "new-") == kubernetes {
				lost--
			}
			return lost == 0 && strings.Contains(name, "new-") == kubernetes
		}
	}},
	"a VIP that loses a quarter of its requests": {scenarios: []string{"keepalived-stopped", "apiserver-killed"}, check: "loss vip/ready/new", verdict: Missed, spoil: func(s *sim, r *rand.Rand) {
		s.onFault = func(string) { s.handOver(100*ms, "master-2"); s.lose(&s.lossy, r) }
	}},
	"a service that loses a quarter of its requests": {scenarios: []string{"worker-lost"}, check: "loss service/get/new", verdict: Missed, spoil: func(s *sim, r *rand.Rand) {
		s.addWorker(slices.Concat(on("worker-1", 3), on("master-1", 7))...)
		s.onFault = func(string) {
			time.AfterFunc(5*s1, func() { s.movePods(on("master-2", demoReplicas)...) })
			s.lose(&s.lossyService, r)
		}
	}},
}

// wholeRun does one scenario of the list on a cluster with random stalls, in calm or busy.
func wholeRun(t *testing.T, seed uint64, name string, calm bool, pace time.Duration, spoil func(*sim, *rand.Rand)) (*Result, error) {
	t.Helper()
	var res *Result
	var err error
	simTest(t, func(t *testing.T, s *sim) {
		r := rand.New(rand.NewPCG(seed, 61))
		spoil(s, r)
		if !calm {
			s.stallAtRandom(r, 20*s1)
		}
		s.noisy()
		scenarios, notFound := Find(name)
		if notFound != nil {
			t.Fatal(notFound)
		}
		if scenarios[0].Heals {
			s.healsIn = 3 * s1
		}
		d := s.drill(scenarios...)
		d.Options.Interval = cmp.Or(pace, 50*ms)
		d.Options.Settle, d.Options.warm, d.Options.tail = time.Minute, 1500*ms, 500*ms
		var rep *Report
		rep, err = d.Run(t.Context())
		res = rep.Scenarios[0]
	})
	return res, err
}

// A defect is never judged met, on a calm machine and on a busy one; on a calm one it
// is named.
func TestDefectsAreNeverMet(t *testing.T) {
	t.Parallel()
	for name, d := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verdicts := map[string]int{}
			for seed := range seeds(t, runs) {
				calm := seed%4 == 0
				scenario := d.scenarios[seed%len(d.scenarios)]
				res, err := wholeRun(t, uint64(seed), scenario, calm, d.pace, d.spoil)
				verdicts[res.Verdict]++
				if res.Verdict == Met || err == nil {
					t.Errorf("seed %d: %s was met: %+v", seed, scenario, res.Checks)
				}
				if calm && res.Verdict != d.verdict {
					t.Errorf("seed %d, calm: %s is %s: %s %+v", seed, scenario, res.Verdict, res.Why(), res.Checks)
				}
				if calm && d.check != "" && !slices.ContainsFunc(res.Checks, func(o Outcome) bool { return strings.HasPrefix(o.Check, d.check) && o.Verdict == Missed }) {
					t.Errorf("seed %d, calm: %s did not miss %s: %+v", seed, scenario, d.check, res.Checks)
				}
			}
			t.Logf("%v", verdicts)
		})
	}
}

// A cluster in order is never judged missed, whatever the machine does.
func TestHealthyClusterIsNeverMissed(t *testing.T) {
	t.Parallel()
	names := []string{"keepalived-stopped", "apiserver-killed", "owner-cut-off", "node-back", "etcd-follower-killed", "apiserver-hung"}
	const parts = 4
	n := seeds(t, 200)
	for part := range parts {
		t.Run(fmt.Sprint("part ", part+1), func(t *testing.T) {
			t.Parallel()
			verdicts := map[string]int{}
			for seed := part; seed < n; seed += parts {
				name := names[(seed/parts)%len(names)]
				calm := seed%8 == part
				res, err := wholeRun(t, uint64(seed), name, calm, 0, healthyOf(name))
				verdicts[res.Verdict]++
				var unclear *UnclearError
				if res.Verdict == Missed || res.Verdict == Failed || calm && res.Verdict != Met || err != nil && !errors.As(err, &unclear) {
					t.Errorf("seed %d: %s is %s, calm %t: %v %s %+v", seed, name, res.Verdict, calm, err, res.Why(), res.Checks)
				}
			}
			t.Logf("%v", verdicts)
		})
	}
}

// healthyOf is what a scenario's fault does on a cluster in order.
func healthyOf(name string) func(*sim, *rand.Rand) {
	if name == "etcd-follower-killed" {
		return func(*sim, *rand.Rand) {}
	}
	return func(s *sim, r *rand.Rand) {
		healthyFault(s, r)
		if move := s.onFault; name == "apiserver-killed" {
			s.onFault = func(host string) {
				move(host)
				s.kill(host, 4*s1+time.Duration(r.IntN(4))*s1)
			}
		}
	}
}
