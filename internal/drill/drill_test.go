package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMeasuredGapIsTheInjectedOutage(t *testing.T) {
	t.Parallel()
	wireTest(t, func(t *testing.T, s *sim) {
		const outage = 400 * time.Millisecond
		s.onFault = s.moveAfter(outage, "master-2")
		d := s.drill(testScenario(800*time.Millisecond, gap(vipReady, time.Second), gap(vipWrite, time.Second), oneOwner()))
		var frames []Frame
		d.Observer.Frame = func(f Frame) { frames = append(frames, f) }
		rep, err := d.Run(t.Context())
		if err != nil {
			t.Fatalf("%v %+v", err, rep.Scenarios[0].Runs)
		}
		run := rep.Scenarios[0].Runs[0]
		for _, name := range []string{vipReady, vipRead, vipWrite, "vip/ready/kept", "vip/write/kept"} {
			got, most := -1.0, 0.0
			for _, st := range run.Streams {
				if st.Name == name {
					// A gap reaches from the last success before to the first one
					// after: up to a pace more at each end.
					got, most = st.GapMS, millis(outage)+2*st.PaceMS
				}
			}
			if strings.HasSuffix(name, "/kept") {
				most += millis(keptDial) // its last dial into the void
			}
			if got < millis(outage) || got > most {
				t.Errorf("%s: gap %.0f ms, expected %v to %.0f", name, got, outage, most)
			}
		}
		for _, c := range rep.Scenarios[0].Checks {
			isGap := strings.HasPrefix(c.Check, "gap ")
			if isGap != (c.Before > 0) || c.Before >= millis(outage) || isGap != (c.AtFault > 0) || isGap && c.AtFault != c.Max {
				t.Errorf("%s: before the fault %.0f ms, at the fault %.0f ms, at most %.0f ms", c.Check, c.Before, c.AtFault, c.Max)
			}
		}
		if held := longest(spansOf(run.Owners), 0, time.Hour, func(n int) bool { return n > 1 }); held.Len() > 0 {
			t.Errorf("two owners for %v", held)
		}
		if run.Acked == 0 || len(run.Lost) != 0 {
			t.Errorf("acknowledged %d, lost %v", run.Acked, run.Lost)
		}
		if len(frames) < 3 {
			t.Fatalf("%d live pictures", len(frames))
		}
		last := frames[len(frames)-1]
		if last.Phase != "recovering" || len(last.Rows) != len(run.Streams) || last.Elapsed > time.Duration(run.EndMS+1)*time.Millisecond {
			t.Errorf("the last live picture of a run of %.0f ms: %+v", run.EndMS, last)
		}
		for i, row := range last.Rows {
			if got := run.Streams[i].GapMS; row.Name != run.Streams[i].Name || row.GapMS > got {
				t.Errorf("%s: gap %.0f ms in the live picture, %.0f in the report", row.Name, row.GapMS, got)
			}
		}
	})
}

func spansOf(lanes []Lane) map[string][]Span {
	out := map[string][]Span{}
	for _, l := range lanes {
		for _, s := range l.Spans {
			out[l.Host] = append(out[l.Host], Span{time.Duration(s.From * 1e6), time.Duration(s.To * 1e6)})
		}
	}
	return out
}

func TestGapBeyondItsBoundIsMissed(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = s.moveAfter(300*time.Millisecond, "master-3")
		rep, err := s.drill(testScenario(600*time.Millisecond, gap(vipReady, 100*time.Millisecond))).Run(t.Context())
		var missed *MissedError
		if !errors.As(err, &missed) || missed.ExitCode() != 6 || rep.Scenarios[0].Verdict != Missed {
			t.Fatalf("got %v, verdict %s", err, rep.Scenarios[0].Verdict)
		}
	})
}

func TestBoundOfTheInventoryCounts(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = s.moveAfter(300*time.Millisecond, "master-3")
		d := s.drill(testScenario(5*s1, gap(vipReady, 100*time.Millisecond)))
		d.Scenarios[0].Name = "owner-cut-off"
		d.Options.Bounds = map[string]time.Duration{"owner-cut-off": time.Second}
		if rep, err := d.Run(t.Context()); err != nil {
			t.Fatalf("%v: %+v", err, rep.Scenarios[0].Checks)
		}
		for _, bad := range []string{"owner-cut-off/vip/ready/new", "owner-cut-off"} { // the check's own bound goes first
			d.Options.Bounds = map[string]time.Duration{"owner-cut-off": 4 * s1, "owner-cut-off/vip/ready/new": 4 * s1, bad: time.Millisecond}
			if _, err := d.Run(t.Context()); (err != nil) != (bad != "owner-cut-off") {
				t.Errorf("%s of a millisecond: got %v", bad, err)
			}
		}
		d.Options.Bounds = map[string]time.Duration{"owner-cut": time.Second}
		if _, err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "owner-cut") {
			t.Errorf("a bound of no scenario: got %v", err)
		}
	})
}

func TestFaultThatDoesNothingFails(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = nil
		sc := testScenario(100*time.Millisecond, gap(vipReady, time.Second))
		sc.Hits = owner(Fault{What: "nothing", Before: "echo x", Do: ":", Proof: "false", ProofWithin: 200 * time.Millisecond, Undo: ":"})
		rep, err := s.drill(sc).Run(t.Context())
		res := rep.Scenarios[0]
		if err == nil || res.Verdict != Failed || !strings.Contains(strings.Join(res.Runs[0].Problems, " "), "did nothing") {
			t.Fatalf("got %v, %s, %v", err, res.Verdict, res.Runs[0].Problems)
		}
		if s.armed["master-1"] {
			t.Error("the undo stayed armed")
		}
	})
}

func TestLostAcknowledgedWriteIsFound(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"test-", etcdPrefix} {
		simTest(t, func(t *testing.T, s *sim) {
			s.forget = func(name string) bool { return strings.HasPrefix(name, store) && strings.HasSuffix(name, "000007") }
			rep, err := s.drill(testScenario(200*time.Millisecond, gap(vipReady, time.Second))).Run(t.Context())
			run := rep.Scenarios[0].Runs[0]
			if err == nil || len(run.Lost) == 0 || !strings.Contains(run.Lost[0], "000007") || rep.Scenarios[0].Verdict != Failed {
				t.Fatalf("got %v, lost %v, verdict %s", err, run.Lost, rep.Scenarios[0].Verdict)
			}
		})
	}
}

// A cluster that was just broken refuses a while longer. What was written is
// still read back, and removed, in parts that an apiserver can do.
func TestBusyAPIServersAreAskedAgain(t *testing.T) {
	t.Parallel()
	wireTest(t, func(t *testing.T, s *sim) {
		s.onFault = func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.busy = 3
			for i := range 2 * clearChunk { // as many as a longer run leaves
				s.objects[fmt.Sprint("more-", i)] = true
			}
		}
		rep, err := s.drill(testScenario(300*time.Millisecond, gap(vipReady, time.Second))).Run(t.Context())
		run := rep.Scenarios[0].Runs[0]
		if err != nil || len(run.Problems) > 0 || run.Acked == 0 {
			t.Fatalf("got %v, problems %q, %d writes", err, run.Problems, run.Acked)
		}
		if s.busy != 0 || len(s.objects) != 0 {
			t.Errorf("%d refusals and %d objects are left", s.busy, len(s.objects))
		}
	})
}

func TestTwoOwnersAreFound(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = func(string) {
			s.own("master-1", "master-2")
			time.AfterFunc(300*time.Millisecond, func() { s.own("master-2") })
		}
		rep, err := s.drill(testScenario(600*time.Millisecond, oneOwner())).Run(t.Context())
		got := rep.Scenarios[0].Checks[0]
		if err == nil || got.Met || got.Max != 300 {
			t.Fatalf("got %v, %+v", err, got)
		}
	})
}

func TestMovedVIPIsFound(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.onFault = s.moveAfter(time.Millisecond, "master-2")
		rep, err := s.drill(testScenario(300*time.Millisecond, stays())).Run(t.Context())
		if got := rep.Scenarios[0].Checks[0]; err == nil || got.Met || got.Max != 1 {
			t.Fatalf("got %v, %+v", err, got)
		}
	})
}

func TestPlanThatIsNotEmptyAfterwardsFails(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		asked := 0
		s.cluster.PlanEmpty = func(context.Context) error {
			if asked++; asked > 1 {
				return errors.New("1 change is pending")
			}
			return nil
		}
		rep, err := s.drill(testScenario(100*time.Millisecond, gap(vipReady, time.Second))).Run(t.Context())
		if err == nil || !strings.Contains(fmt.Sprint(rep.Scenarios[0].Runs[0].Problems), "1 change is pending") {
			t.Fatalf("got %v", err)
		}
	})
}

// What a run leaves behind, or loses, keeps the next one from being begun.
func TestNothingIsBrokenAfterARunThatWentWrong(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(s *sim){
		"not as it was before": func(s *sim) {
			asked := 0
			s.cluster.PlanEmpty = func(context.Context) error {
				if asked++; asked > 1 {
					return errors.New("1 change is pending")
				}
				return nil
			}
		},
		"acknowledged writes were lost": func(s *sim) {
			s.forget = func(name string) bool { return strings.HasSuffix(name, "000007") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				spoil(s)
				sc := testScenario(200*time.Millisecond, stays())
				d := s.drill(sc, sc)
				d.Options.Repeat = 2
				rep, err := d.Run(t.Context())
				var missed *MissedError
				if !errors.As(err, &missed) || len(rep.Scenarios) != 2 {
					t.Fatalf("got %v, %d scenarios", err, len(rep.Scenarios))
				}
				first, second := rep.Scenarios[0], rep.Scenarios[1]
				if first.Verdict != Failed || len(first.Runs) != 1 || !strings.Contains(first.Reason, "not safe to go on: "+name) {
					t.Errorf("%s after %d runs: %s", first.Verdict, len(first.Runs), first.Reason)
				}
				if second.Verdict != Skipped || second.Runs != nil || second.Reason == "" {
					t.Errorf("%s after %d runs: %s", second.Verdict, len(second.Runs), second.Reason)
				}
				if got := len(s.said(titleFault)); got != 1 {
					t.Errorf("%d faults", got)
				}
			})
		})
	}
}

func TestUnhealthyClusterIsNotTouched(t *testing.T) {
	t.Parallel()
	cases := map[string]func(s *sim){
		"two owners":     func(s *sim) { s.own("master-1", "master-2") },
		"no owner":       func(s *sim) { s.own() },
		"no etcd leader": func(s *sim) { s.leader = "" },
		"undo armed":     func(s *sim) { s.armed["master-3"] = true },
		"unit down":      func(s *sim) { s.broken["master-3"] = true },
		"plan not empty": func(s *sim) { s.cluster.PlanEmpty = func(context.Context) error { return errors.New("pending") } },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				spoil(s)
				_, err := s.drill(testScenario(time.Second, gap(vipReady, time.Second))).Run(t.Context())
				var unsafe *UnsafeError
				if !errors.As(err, &unsafe) || unsafe.ExitCode() != 7 {
					t.Fatalf("got %v", err)
				}
				if n := len(s.said(titleArm)) + len(s.said(titleFault)); n > 0 {
					t.Errorf("%d commands changed something", n)
				}
			})
		})
	}
}

func TestScenarioThatLosesQuorumNeedsAcceptedRisk(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		sc, err := Find("etcd-no-quorum")
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.drill(sc...).Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) || len(s.log) > 0 {
			t.Errorf("got %v, commands %v", err, s.log)
		}
		bad := testScenario(time.Second, stays())
		bad.Hits = majority // not declared as a risk
		if _, err = s.drill(bad).Run(t.Context()); err == nil || len(s.said(titleArm)) > 0 {
			t.Errorf("an undeclared loss of quorum: got %v, armed on %v", err, s.said(titleArm))
		}
	})
}

func TestUndoIsArmedBeforeTheFault(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		sc := testScenario(100*time.Millisecond, stays())
		sc.Hits, sc.Risk = everyMaster(stopUnit(etcdUnit)), QuorumRisk
		d := s.drill(sc)
		d.Options.AcceptRisk = []string{QuorumRisk}
		if _, err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		last, first := 0, len(s.log)
		for i, l := range s.log {
			switch _, title, _ := strings.Cut(l, " "); title {
			case titleArm:
				last = i
			case titleFault:
				first = min(first, i)
			}
		}
		if len(s.said(titleArm)) != 3 || last > first {
			t.Errorf("the last undo was armed as command %d, the first fault done as %d: %v", last, first, s.log)
		}
		for _, m := range []string{"master-1", "master-2", "master-3"} {
			if index(s.log, m+" "+titleUndo) > index(s.log, m+" "+titleDisarm) {
				t.Errorf("%s: disarmed before the undo: %v", m, s.log)
			}
		}
	})
}

// Whatever command is the last one that gets through before hactl dies, a
// broken host has its undo armed.
func TestKilledAtEveryCommandLeavesTheUndoArmed(t *testing.T) {
	t.Parallel()
	sc := testScenario(50*time.Millisecond, stays())
	sparse := func(s *sim) *Drill { // the traffic is not the point here
		d := s.drill(sc)
		d.Options.Interval = 200 * time.Millisecond
		return d
	}
	commands := 0
	simTest(t, func(t *testing.T, s *sim) {
		if _, err := sparse(s).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		commands = len(s.log)
	})
	broken := 0
	for i := range 2 * commands {
		n := i/2 + 1
		simTest(t, func(t *testing.T, s *sim) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.dieAt, s.dieAfter, s.died = n, i%2 == 1, cancel
			if _, err := sparse(s).Run(ctx); err == nil {
				t.Errorf("cut at command %d: no error", n)
			}
			for host := range s.broken {
				if s.broken[host] {
					broken++
				}
				if s.broken[host] && !s.armed[host] {
					t.Errorf("cut at command %d: %s is broken and nothing will undo it: %v", n, host, s.log)
				}
			}
		})
	}
	t.Logf("%d cut points, %d of them with a broken host", 2*commands, broken)
	if broken == 0 {
		t.Error("no cut point left a host broken: the test tests nothing")
	}
}

func TestInterruptUndoesAndCleansUp(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		ctx, cancel := context.WithCancel(t.Context())
		s.onFault = func(string) { time.AfterFunc(100*time.Millisecond, cancel) }
		start := time.Now()
		_, err := s.drill(testScenario(30*time.Second, stays())).Run(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %s", took)
		}
		if s.broken["master-1"] || s.armed["master-1"] || len(s.objects)+len(s.keys) > 0 {
			t.Errorf("left behind: broken %v armed %v, %d objects, %d keys", s.broken, s.armed, len(s.objects), len(s.keys))
		}
	})
}

func TestFaultIsNotDoneWhenAnUndoCannotBeArmed(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		probe := s.hosts["master-2"]
		sc := testScenario(time.Second, stays())
		sc.Hits, sc.Risk = everyMaster(stopUnit(etcdUnit)), QuorumRisk
		s.cluster.Member("master-2").Host = refusing{probe}
		d := s.drill(sc)
		d.Options.AcceptRisk = []string{QuorumRisk}
		_, err := d.Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) {
			t.Fatalf("got %v", err)
		}
		if got := s.said(titleFault); len(got) > 0 {
			t.Errorf("fault done on %v", got)
		}
		if s.armed["master-1"] || s.armed["master-3"] {
			t.Errorf("armed timers left: %v", s.armed)
		}
	})
}

// Each check can be given a bound of its own.
func TestKeysOfChecksDiffer(t *testing.T) {
	t.Parallel()
	for _, s := range Scenarios() {
		seen := map[string]bool{}
		for _, c := range s.Checks {
			if seen[c.Key()] {
				t.Errorf("%s has two checks called %s", s.Name, c.Key())
			}
			seen[c.Key()] = true
		}
	}
}

func TestHeadlineIsWhatWasMissed(t *testing.T) {
	t.Parallel()
	met, missed, unclear := Outcome{Check: "met", Verdict: Met}, Outcome{Check: "missed", Verdict: Missed}, Outcome{Check: "unclear", Verdict: Unclear}
	if got := headline([]Outcome{met, unclear, missed}).Check; got != "missed" {
		t.Errorf("got %s", got)
	}
	if got := headline([]Outcome{met, unclear}).Check; got != "unclear" {
		t.Errorf("got %s", got)
	}
	if got := headline([]Outcome{met, met}).Check; got != "met" {
		t.Errorf("got %s", got)
	}
}

// Answers 120 ms apart are an outage where requests go out every 20 ms, and none
// where they go out every 100 ms.
func TestStreamsAskedLessOftenAreNotOutMoreOften(t *testing.T) {
	t.Parallel()
	o := &Observations{End: 600 * ms}
	for pace, want := range map[time.Duration]int{20 * ms: 5, 100 * ms: 0} {
		track := &Track{Pace: pace}
		for at := time.Duration(0); at <= o.End; at += 120 * ms {
			track.Samples = append(track.Samples, Sample{Start: at, End: at, OK: true})
		}
		if got := o.streamReport(track, o.noise(), nil).Outages; len(got) != want {
			t.Errorf("asked every %v: %v, want %d outages", pace, got, want)
		}
	}
}
