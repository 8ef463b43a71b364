package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/remote"
)

// simPower is power commands that end well, whether or not they do something.
type simPower struct {
	sim   *sim
	works bool
}

func (p simPower) Off(_ context.Context, host string) error {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	if p.works {
		p.sim.boots[host]++
	}
	return nil
}

func (p simPower) On(context.Context, string) error { return nil }

func (p simPower) Watch(string, int) (func(), error) { return func() {}, nil }

// A host that does not answer at once may be off, busy or at the end of a broken
// connection. Which of them it was is known once it is back.
func TestPowerCutThatNeverHappenedFails(t *testing.T) {
	t.Parallel()
	silent := func(n int) func(context.Context) error {
		return func(context.Context) error {
			if n--; n < 0 {
				return nil
			}
			return errors.New("connection lost")
		}
	}
	slow := func(ctx context.Context) error { // cut short by the end of the time for the proof
		pause(ctx, 1700*time.Millisecond)
		return ctx.Err()
	}
	for name, c := range map[string]struct {
		works  bool
		proof  func(context.Context) error
		expect string
	}{
		"it answers on":                         {false, nil, "no sign of it within"},
		"one connection breaks":                 {false, silent(1), "never started anew"},
		"the time for the proof is over midway": {false, slow, "no sign of it within"},
		"the power was cut":                     {true, silent(3), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				s.cluster.Power, s.onProof = simPower{s, c.works}, c.proof
				sc := testScenario(300*time.Millisecond, gap(vipReady, s1))
				sc.Hits, sc.Reboots = ownerWith(powerHit), true
				d := s.drill(sc)
				d.Options.Interval = 200 * time.Millisecond // the traffic is not the point here
				rep, err := d.Run(t.Context())
				res := rep.Scenarios[0]
				if c.expect == "" {
					if err != nil || res.Verdict != Met {
						t.Errorf("got %v, %s: %s", err, res.Verdict, res.Why())
					}
					return
				}
				var missed *MissedError
				if !errors.As(err, &missed) || res.Verdict != Failed || !strings.Contains(res.Why(), "the fault did nothing") || !strings.Contains(res.Why(), c.expect) {
					t.Errorf("got %v, %s: %q", err, res.Verdict, res.Why())
				}
			})
		})
	}
}

// walled is a host on which nothing is taken any more once it is broken.
type walled struct{ *simHost }

func (h walled) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	h.sim.mu.Lock()
	broken := h.sim.broken[h.name]
	h.sim.mu.Unlock()
	if broken {
		return nil, syscall.ECONNREFUSED
	}
	return h.simHost.Dial(ctx, network, addr)
}

// A minority that goes on to take writes has no quorum and does not know.
func TestWritesTakenByTheMinorityAreFound(t *testing.T) {
	t.Parallel()
	for want, host := range map[string]func(*simHost) remote.Host{
		"refused inside/write": func(h *simHost) remote.Host { return h },
		"":                     func(h *simHost) remote.Host { return walled{h} },
	} {
		simTest(t, func(t *testing.T, s *sim) {
			s.cluster.Member("master-1").Host = host(s.hosts["master-1"])
			s.onFault = s.moveAfter(300*time.Millisecond, "master-2")
			sc, err := Find("owner-isolated")
			if err != nil {
				t.Fatal(err)
			}
			d := s.drill(sc...)
			d.Options.Interval = 100 * time.Millisecond
			rep, err := d.Run(t.Context())
			res := rep.Scenarios[0]
			var missed []string
			for _, c := range res.Checks {
				if !c.Met {
					missed = append(missed, c.Check)
				}
			}
			verdict := map[bool]string{true: Met, false: Missed}[want == ""]
			if strings.Join(missed, ", ") != want || res.Verdict != verdict || (err == nil) != (want == "") {
				t.Errorf("missed %q, %s %s, %v; expected to miss %q", missed, res.Verdict, res.Why(), err, want)
			}
		})
	}
}

// A bound that is not below the hold is met by writes that are never refused.
func TestRefusalIsJudgedWithinTheHold(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, s := range Scenarios() {
		for _, c := range s.Checks {
			if c.Kind != Refused {
				continue
			}
			if seen++; c.Bound > s.Hold/2 {
				t.Errorf("%s: %s may take %s of a hold of %s", s.Name, c.Name(), c.Bound, s.Hold)
			}
		}
	}
	if seen == 0 {
		t.Error("no scenario has such a check")
	}
}

// What the operator chose must not make a check that everything passes.
func TestHoldTooShortForABoundIsRefused(t *testing.T) {
	t.Parallel()
	s := newSimless(3, 1)
	for name, c := range map[string]struct {
		opt Options
		not []string
	}{
		"defaults":      {},
		"a short hold":  {Options{Hold: s1}, []string{"apiserver-hung", "etcd-leader-hung", "owner-cut-off", "owner-isolated", "owner-powered-off", "worker-lost", "etcd-no-quorum"}},
		"a wide bound":  {Options{Bounds: map[string]time.Duration{"apiserver-hung": 10 * s1}}, []string{"apiserver-hung"}},
		"still a bound": {Options{Bounds: map[string]time.Duration{"apiserver-hung": 9 * s1}}, nil},
		"heals itself":  {Options{Bounds: map[string]time.Duration{"apiserver-killed": time.Minute}}, nil},
		"a longer hold": {Options{Hold: 20 * s1, Bounds: map[string]time.Duration{"apiserver-hung": 10 * s1}}, nil},
	} {
		c.opt.Allow, c.opt.AcceptRisk = []string{"reboot"}, []string{QuorumRisk}
		_, not := c.opt.Permitted(s, Scenarios())
		if got := slices.Sorted(maps.Keys(not)); !slices.Equal(got, slices.Sorted(slices.Values(c.not))) {
			t.Errorf("%s: not permitted are %q, want %q", name, got, c.not)
		}
		for _, err := range not {
			if !strings.Contains(err.Error(), "too short to miss a bound of") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// newSimless is a cluster for questions that no host is asked.
func newSimless(masters, workers int) *Cluster {
	c := &Cluster{Demo: "demo:v1"}
	for i := range masters + workers {
		c.Members = append(c.Members, &Member{Name: fmt.Sprint("m", i), Master: i < masters})
	}
	return c
}

// A refusal stays one when what it was refused for cannot be cleaned up either.
func TestRefusalOnASickClusterIsNoMiss(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		sc := testScenario(s1, stays())
		sc.Hits = func(c *Cluster, _ *State) ([]Hit, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.etcdUp = false
			time.AfterFunc(5*s1, func() { // while it waits for traffic
				s.mu.Lock()
				defer s.mu.Unlock()
				s.busy = 1 << 30
			})
			return []Hit{{c.Member("master-1"), stopUnit(keepalivedUnit)}}, nil
		}
		rep, err := s.drill(sc).Run(t.Context())
		var unsafe *UnsafeError
		var missed *MissedError
		if !errors.As(err, &unsafe) || errors.As(err, &missed) {
			t.Errorf("got %v", err)
		}
		if got := rep.Scenarios[0]; got.Verdict != Failed || !strings.Contains(got.Reason, "remove the objects written") || len(s.said(titleFault)) > 0 {
			t.Errorf("%s %s, %v", got.Verdict, got.Reason, s.said(titleFault))
		}
	})
}

// Two owners are two from the first moment on, also while the undo is on its way.
func TestWhatFollowsTheUndoBeginsWithIt(t *testing.T) {
	t.Parallel()
	o := &Observations{Fault: s1, UndoBegan: 5 * s1, Undone: 6 * s1, End: 10 * s1,
		Owners: map[string][]Span{"m1": {{0, 5400 * ms}}, "m2": {{2 * s1, 10 * s1}}},
		Tracks: []Track{{Name: etcdWrite, Samples: []Sample{{Start: 6900 * ms, End: 7 * s1, OK: true}}}},
	}
	if v := healedOwner().judge(o); v.Measured != 400 {
		t.Errorf("%+v, wanted 400 ms", v)
	}
	if v := setBound(back(etcdWrite, nil), 3*s1).judge(o); v.Measured != 2000 || !v.Met {
		t.Errorf("%+v, wanted 2 s", v)
	}
}

// Code 7 is for a drill that did no harm and found nothing; 6 for one that found something.
func TestExitCodeOfRefusedScenarios(t *testing.T) {
	t.Parallel()
	const outage = 300 * time.Millisecond
	good, bad := testScenario(2*outage, gap(vipReady, s1)), testScenario(2*outage, gap(vipReady, outage/2))
	refused := testScenario(outage, stays())
	refused.Hits = func(*Cluster, *State) ([]Hit, error) { return nil, errors.New("nobody to hit") }
	skipped := testScenario(outage, stays())
	skipped.Name, skipped.Workers = "skipped", 1
	named := skipped
	named.Named = true
	demo := testScenario(outage, stays())
	demo.Named, demo.Workload = true, true
	for name, c := range map[string]struct {
		run      []Scenario
		want     int
		verdicts []string
	}{
		"refused":                 {[]Scenario{refused}, 7, []string{Failed}},
		"refused, others met":     {[]Scenario{good, refused, good}, 7, []string{Met, Failed, Met}},
		"refused, one missed":     {[]Scenario{refused, bad}, 6, []string{Failed, Missed}},
		"not possible, of all":    {[]Scenario{skipped, good}, 0, []string{Skipped, Met}},
		"no demo, but named":      {[]Scenario{demo, good}, 7, nil},
		"not possible, but named": {[]Scenario{named, good}, 7, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				if name == "no demo, but named" {
					s.cluster.Demo = ""
				}
				s.onFault = s.moveAfter(outage, "master-2")
				s.onUndo = func(string) { s.own("master-1") }
				rep, err := s.drill(c.run...).Run(t.Context())
				got := 0
				var coder interface{ ExitCode() int }
				if errors.As(err, &coder) {
					got = coder.ExitCode()
				}
				var verdicts []string
				for _, r := range rep.Scenarios {
					verdicts = append(verdicts, r.Verdict)
					if r.Verdict == Failed && (r.Reason == "" || r.Checks != nil) {
						t.Errorf("%s: reason %q, checks %+v", r.Name, r.Reason, r.Checks)
					}
				}
				if got != c.want || !slices.Equal(verdicts, c.verdicts) {
					t.Errorf("code %d (%v), %v; expected %d, %v", got, err, verdicts, c.want, c.verdicts)
				}
			})
		})
	}
}

// A cluster that is not well again after a scenario that missed has missed all the same.
func TestMissedBoundOutlivesARefusalToGoOn(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = s.moveAfter(300*time.Millisecond, "master-2")
		plans := 0
		s.cluster.PlanEmpty = func(context.Context) error {
			if plans++; plans == 2 { // the last look of the first run
				s.own()
			}
			return nil
		}
		bad := testScenario(600*time.Millisecond, gap(vipReady, 100*time.Millisecond))
		rep, err := s.drill(bad, bad, bad).Run(t.Context())
		var missed *MissedError
		if !errors.As(err, &missed) || len(rep.Scenarios) != 3 || rep.Scenarios[2].Verdict != Skipped {
			t.Errorf("got %v, %+v", err, rep.Scenarios)
		}
	})
}

func TestScenariosOfTheCommandLineAreNamed(t *testing.T) {
	t.Parallel()
	found, err := Find("worker-lost", "all-rebooted")
	if err != nil || len(found) != 2 || !found[0].Named || !found[1].Named {
		t.Errorf("got %+v, %v", found, err)
	}
	if slices.ContainsFunc(Scenarios(), func(s Scenario) bool { return s.Named }) {
		t.Error("with --all no scenario is named")
	}
}

// Who stops a drill that waits for something was not refused anything.
func TestInterruptWhileWaitingIsNoRefusal(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *sim){
		"for health at the start": func(s *sim) { s.own() },
		"for health before a run": func(s *sim) {
			s.cluster.PlanEmpty = func(context.Context) error { s.own(); return nil }
		},
		"for traffic": func(s *sim) { s.etcdUp = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				spoil(s)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(2*s1, cancel)
				_, err := s.drill(testScenario(s1, stays())).Run(ctx)
				var unsafe *UnsafeError
				if !errors.Is(err, context.Canceled) || errors.As(err, &unsafe) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// Who is cut off holds the address for itself; of the others one at a time may.
func TestOwnersElsewhereLeaveTheVictimOut(t *testing.T) {
	t.Parallel()
	o := &Observations{Victims: []string{"m1"}, Fault: s1, End: 10 * s1,
		Owners: map[string][]Span{"m1": {{0, 10 * s1}}, "m2": {{2 * s1, 5 * s1}}, "m3": {{4600 * ms, 10 * s1}}}}
	if v := oneElsewhere().judge(o); v.Measured != 400 || v.Met {
		t.Errorf("%+v, wanted 400 ms", v)
	}
	if v := oneOwner().judge(o); v.Measured != 8000 {
		t.Errorf("%+v, wanted 8 s", v)
	}
}
