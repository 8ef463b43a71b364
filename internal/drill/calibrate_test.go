package drill

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// processors are the times of a host with two of them that all share a kernel.
func (s *sim) processors() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := float64(time.Now().UnixMilli()) / 1000
	return fmt.Sprintf("boot 2 100 %.2f %.0f", at, 100*s.load*float64(len(s.objects)))
}

// A write every 100 ms, half of them on a kept connection: 20 objects a second.
func TestRequestsTakeAFifthOfTheBusiestMachine(t *testing.T) {
	t.Parallel()
	for cost, want := range map[float64]time.Duration{
		0:     DefaultInterval, // no more often than that
		0.014: 55 * ms,
		0.03:  110 * ms,
		1:     slowest,
	} {
		simTest(t, func(t *testing.T, s *sim) {
			s.load = cost
			d := s.drill(testScenario(100*ms, gap(vipReady, s1)))
			d.Options.Interval = 0
			rep, err := d.Run(t.Context())
			if err != nil || rep.Calibration == nil {
				t.Fatalf("got %v, %+v", err, rep.Calibration)
			}
			if got := rep.Scenarios[0].Runs[0].IntervalMS; got < millis(want-5*ms) || got > millis(want+5*ms) || rep.IntervalMS != got {
				t.Errorf("a write costs %v s: %v ms, want about %v; %+v", cost, got, want, rep.Calibration)
			}
			if rep.Calibration.LoadPercent > 21 && want != slowest {
				t.Errorf("%+v", rep.Calibration)
			}
		})
	}
}

func TestIntervalOfTheOperatorIsKept(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		d := s.drill(testScenario(100*ms, stays()))
		rep, err := d.Run(t.Context())
		if err != nil || rep.Calibration != nil || len(s.said(titleLoad)) > 0 || rep.IntervalMS != 20 {
			t.Errorf("got %v, %+v, %v ms", err, rep.Calibration, rep.IntervalMS)
		}
	})
}

func TestHostsOnOneKernelAreOneMachine(t *testing.T) {
	t.Parallel()
	from := map[string]usage{"a": {"x", 2, 10, 5}, "b": {"x", 2, 20, 7}, "c": {"y", 4, 10, 0}, "": {boot: "x", at: 1, seconds: 1}, "d": {"z", 1, 5, 5}}
	to := map[string]usage{"a": {"x", 2, 12, 6}, "b": {"x", 2, 22, 8}, "c": {"y", 4, 11, 1}, "": {boot: "x", at: 3, seconds: 2}, "d": {"new", 1, 1, 0}}
	got := loads(from, to)
	if len(got) != 2 || got["x"] != 0.75 || got["y"] != 0.25 {
		t.Errorf("%v", got)
	}
}

func TestProcessorTimesThatAreNoNumbers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "boot 2 100 1.5", "boot 0 100 1 1", "boot 2 x 1 1"} {
		if _, err := parseUsage(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	out, err := sh(t, loadScript)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := parseUsage(out); err != nil || u.seconds <= 0 {
		t.Errorf("%q: %+v, %v", out, u, errors.Unwrap(err))
	}
}
