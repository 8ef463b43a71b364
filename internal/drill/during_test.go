package drill

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// during measures an operation on a simulated cluster.
func during(t *testing.T, operation func(t *testing.T, s *sim) error) (m *Measurement, err error) {
	t.Helper()
	simTest(t, func(t *testing.T, s *sim) {
		s.noisy()
		m, err = During(t.Context(), s.cluster, DuringOptions{Interval: 20 * ms}, func(context.Context) error {
			return operation(t, s)
		})
		if len(s.objects)+len(s.keys) > 0 {
			t.Errorf("%d objects and %d keys were left", len(s.objects), len(s.keys))
		}
	})
	if m == nil {
		t.Fatal(err)
	}
	t.Log(m)
	return m, err
}

// Each apiserver is restarted in turn; the VIP is never on one that does not run.
func TestOperationThatClientsDoNotNotice(t *testing.T) {
	t.Parallel()
	m, err := during(t, func(_ *testing.T, s *sim) error {
		for i, host := range []string{"master-1", "master-2", "master-3"} {
			s.own([]string{"master-2", "master-3", "master-1"}[i])
			s.kill(host, 2*s1)
			time.Sleep(3 * s1)
		}
		return nil
	})
	if err != nil || m.Failed != 0 || m.FailedByOperation != 0 || m.OperationGapMS != 0 || m.GapMS > 45 || m.Lost != 0 || !m.ReadBack || len(m.Problems) > 0 {
		t.Errorf("%v %+v", err, m)
	}
	// 11 s with requests every 20, 40 and 40 ms; writes to etcd every 100 ms since 1.5 s before.
	if m.Requests < 1050 || m.Acknowledged < 380 {
		t.Errorf("%d requests and %d writes are too few", m.Requests, m.Acknowledged)
	}
	if want := "0 of "; !strings.HasPrefix(m.String(), want) || !strings.HasSuffix(m.String(), " writes acknowledged, 0 lost") {
		t.Errorf("%q", m)
	}
}

// The apiserver behind the VIP is restarted while the VIP stays on it.
func TestOperationThatStopsTheApiserverBehindTheVIP(t *testing.T) {
	t.Parallel()
	m, _ := during(t, func(_ *testing.T, s *sim) error {
		s.kill("master-1", 600*ms)
		time.Sleep(2 * s1)
		return nil
	})
	if m.Failed < 45 || m.FailedByOperation != m.Failed || m.OperationGapMS < 600 || m.OperationGapMS > 750 {
		t.Errorf("%+v", m)
	}
}

// The VIP is gone for a time: what is asked meanwhile has no answer in time.
func TestOperationThatTakesTheVIPAway(t *testing.T) {
	t.Parallel()
	m, _ := during(t, func(_ *testing.T, s *sim) error {
		s.own()
		time.Sleep(400 * ms)
		s.own("master-2")
		time.Sleep(2 * s1)
		return nil
	})
	if m.Failed < 25 || m.FailedByOperation != m.Failed || m.OperationGapMS < 400 || m.OperationGapMS > 550 {
		t.Errorf("%+v", m)
	}
}

// What all machines and this process lack at once, while one apiserver is restarted, is
// not the operation's; what only the host of the VIP lacks is.
func TestMachineThatStandsStillDuringAnOperation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hosts  []string
		by     bool
		failed bool
		stall  time.Duration
	}{
		"the whole machine":              {[]string{"", "master-1", "master-2", "master-3"}, false, false, 700 * ms},
		"the whole machine, for long":    {[]string{"", "master-1", "master-2", "master-3"}, false, true, 3 * s1},
		"both hosts that do not restart": {[]string{"master-2", "master-3"}, false, false, 700 * ms},
		"both of them, for long":         {[]string{"master-2", "master-3"}, false, true, 3 * s1},
		"the VIP's host alone":           {[]string{"master-2"}, true, false, 700 * ms},
		"the VIP's host alone, for long": {[]string{"master-2"}, true, true, 3 * s1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m *Measurement
			simTest(t, func(t *testing.T, s *sim) {
				from := time.Now().Add(5 * s1)
				for _, host := range c.hosts {
					s.stalls = append(s.stalls, simStall{host, from, from.Add(c.stall)})
				}
				s.noisy()
				s.own("master-2")
				var err error
				m, err = During(t.Context(), s.cluster, DuringOptions{Interval: 20 * ms}, func(context.Context) error {
					s.kill("master-1", 9*s1)
					time.Sleep(9 * s1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			t.Log(m)
			if m.GapMS < millis(c.stall) || (m.OperationGapMS > 0) != c.by || (m.Failed > 0) != c.failed || (m.FailedByOperation > 0) != (c.failed && c.by) {
				t.Errorf("%+v", m)
			}
		})
	}
}

// An apiserver that answers slowly because it has just started is no control.
func TestTouchedApiserverIsNoControl(t *testing.T) {
	t.Parallel()
	slow := func(host string, failed ...Sample) Track {
		tr := Track{Name: host + readyNew, Role: Control, Host: host, Pace: 40 * ms, Samples: failed}
		for at := time.Duration(0); at < 2*s1; at += 40 * ms {
			tr.Samples = append(tr.Samples, Sample{at, at + 2*ms, true})
		}
		tr.Samples = append(tr.Samples, Sample{2 * s1, 2600 * ms, true})
		return tr
	}
	vip := Track{Name: vipReady, Pace: 20 * ms}
	for at := time.Duration(0); at < 2*s1; at += 20 * ms {
		vip.Samples = append(vip.Samples, Sample{at, at + 2*ms, true})
	}
	vip.Samples = append(vip.Samples, Sample{2 * s1, 3 * s1, false}, Sample{3 * s1, 3*s1 + 2*ms, true})
	for name, c := range map[string]struct {
		refused []Sample
		by      int
	}{
		"two untouched ones share it":  {nil, 0},
		"one of the two was restarted": {[]Sample{{1500 * ms, 1501 * ms, false}}, 1},
	} {
		o := &Observations{Fault: 100 * ms, Undone: 3 * s1, End: 3100 * ms, Deadline: s1, Tracks: []Track{vip, slow("m1"), slow("m2", c.refused...)}}
		if m := measureOperation(o); m.Failed != 1 || m.FailedByOperation != c.by {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// An acknowledged write that is gone afterwards is lost, whatever else went well.
func TestWriteLostByAnOperation(t *testing.T) {
	t.Parallel()
	m, err := during(t, func(t *testing.T, s *sim) error {
		s.mu.Lock()
		n := 0
		s.forget = func(string) bool { n++; return n == 3 }
		s.mu.Unlock()
		time.Sleep(s1)
		return nil
	})
	if err != nil || m.Lost == 0 || len(m.LostWrites) != m.Lost || !m.ReadBack || strings.HasSuffix(m.String(), " 0 lost") {
		t.Errorf("%v %+v", err, m)
	}
}

// The operation's error is the caller's, beside what was measured until then.
func TestErrorOfAnOperation(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	m, err := during(t, func(*testing.T, *sim) error { time.Sleep(s1); return broken })
	if !errors.Is(err, broken) || m.Requests == 0 || !m.ReadBack {
		t.Errorf("%v %+v", err, m)
	}
}

// An operation that is interrupted says that its writes were not read back, and leaves
// none of them.
func TestInterruptedOperation(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.noisy()
		ctx, stop := context.WithCancel(t.Context())
		m, err := During(ctx, s.cluster, DuringOptions{Interval: 20 * ms}, func(ctx context.Context) error {
			time.AfterFunc(s1, stop)
			<-ctx.Done()
			return ctx.Err()
		})
		if m == nil || !errors.Is(err, context.Canceled) || m.ReadBack || !strings.HasSuffix(m.String(), "not all read back") {
			t.Errorf("%v %v", m, err)
		}
		if len(s.objects)+len(s.keys) > 0 {
			t.Errorf("%d objects and %d keys were left", len(s.objects), len(s.keys))
		}
	})
}

// Where no requests are answered before the operation, it is not begun.
func TestOperationIsNotBegunWithoutTraffic(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.own()
		m, err := During(t.Context(), s.cluster, DuringOptions{Interval: 20 * ms}, func(context.Context) error {
			t.Error("it was begun")
			return nil
		})
		if m != nil || err == nil {
			t.Errorf("%v %v", m, err)
		}
	})
}

// Without an interval of the caller's, one is found that costs the hosts little.
func TestOperationIsCalibrated(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.noisy()
		s.load = 0.02
		m, err := During(t.Context(), s.cluster, DuringOptions{}, func(context.Context) error { time.Sleep(s1); return nil })
		if err != nil || m.IntervalMS <= millis(DefaultInterval) {
			t.Errorf("%v %+v", err, m)
		}
		if n := len(s.said(titleWatch)); n > 0 {
			t.Errorf("%d programs watch the hosts", n)
		}
	})
}

// The phases of one run share what the first of them has found: the calibration takes
// seconds, and they measure the same cluster.
func TestPhasesOfAnOperationAreCalibratedOnce(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.noisy()
		s.load = 0.02
		var p Pace
		var intervals []float64
		for range 3 {
			m, err := During(t.Context(), s.cluster, DuringOptions{Pace: &p}, func(context.Context) error { time.Sleep(s1); return nil })
			if err != nil {
				t.Fatal(err)
			}
			intervals = append(intervals, m.IntervalMS)
		}
		if n := len(s.said(titleLoad)); n != 4*len(s.cluster.Members) {
			t.Errorf("processor times were read %d times; one calibration reads them four times on each of %d hosts", n, len(s.cluster.Members))
		}
		if slices.Max(intervals) != slices.Min(intervals) || intervals[0] <= millis(DefaultInterval) {
			t.Errorf("requests every %v ms", intervals)
		}
	})
}

// hanging is a host through which no connection comes about for a time.
type hanging struct {
	*simHost
	from, to time.Time
}

func (h hanging) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if now := time.Now(); now.After(h.from) && now.Before(h.to) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.simHost.Dial(ctx, network, addr)
}

// Where the VIP is reached through the hosts only, requests go on through another one
// while the first is restarted.
func TestRequestsOfAnOperationGoThroughAnotherHost(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.noisy()
		s.cluster.DialDirect = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }
		from := time.Now().Add(6 * s1)
		first := s.cluster.Members[0]
		first.Host = hanging{s.hosts[first.Name], from, from.Add(20 * s1)}
		m, err := During(t.Context(), s.cluster, DuringOptions{Interval: 20 * ms}, func(context.Context) error { time.Sleep(30 * s1); return nil })
		if err != nil || m.From != "through ssh to the hosts" || m.Failed > 0 || m.GapMS > 600 || !m.ReadBack {
			t.Errorf("%v %v %+v", err, m, m)
		}
		if time.Now().Before(from.Add(20 * s1)) {
			t.Error("the host was there again too early")
		}
	})
}
