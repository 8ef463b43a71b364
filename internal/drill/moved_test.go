package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/remote"
)

// unsteady is a host that calls armed whenever the undo was armed on it.
type unsteady struct {
	*simHost
	armed func()
}

func (h unsteady) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	res, err := h.simHost.Run(ctx, c)
	if c.Title == titleArm {
		h.armed()
	}
	return res, err
}

// moving is a drill on whose victims armed is called before they are hit.
func (s *sim) moving(sc Scenario, armed func()) *Drill {
	for _, m := range s.cluster.Members {
		m.Host = unsteady{s.hosts[m.Name], armed}
	}
	return s.drill(sc)
}

func (s *sim) lead(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = name
}

// Breaking the host that held the VIP a moment ago would be met with nothing
// measured.
func TestVictimIsWhoItIsAtTheFault(t *testing.T) {
	t.Parallel()
	byLeader := func(c *Cluster, s *State) ([]Hit, error) { return leader(killUnit(etcdUnit))(c, s) }
	for name, c := range map[string]struct {
		hits func(*Cluster, *State) ([]Hit, error)
		move func(*sim)
	}{
		"the VIP moves":       {owner(stopUnit(keepalivedUnit)), func(s *sim) { s.own("master-2") }},
		"etcd elects another": {byLeader, func(s *sim) { s.lead("master-2") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				sc := testScenario(300*ms, gap(vipReady, s1))
				sc.Hits = c.hits
				d := s.moving(sc, func() { c.move(s) })
				rep, err := d.Run(t.Context())
				res := rep.Scenarios[0]
				if err != nil || len(res.Runs) != 1 || res.Runs[0].Victims[0].Host != "master-2" || !slices.Equal(s.said(titleFault), []string{"master-2"}) {
					t.Errorf("got %v: %s, hit %v", err, res.Why(), s.said(titleFault))
				}
				if !slices.Contains(s.said(titleDisarm), "master-1") {
					t.Error("the undo stays armed on the one that was spared")
				}
			})
		})
	}
}

func TestVictimThatNeverStaysIsRefused(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		n := 0
		d := s.moving(testScenario(300*ms, gap(vipReady, s1)), func() {
			n++
			s.own([]string{"master-2", "master-3", "master-1"}[n%3])
		})
		rep, err := d.Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) || len(s.said(titleFault)) > 0 || n != tries || !strings.Contains(rep.Scenarios[0].Why(), "while its fault was prepared") {
			t.Errorf("got %v after %d tries: %s, hit %v", err, n, rep.Scenarios[0].Why(), s.said(titleFault))
		}
	})
}

// Pods that an earlier drill left stand for nothing in this one.
func TestPodsOfAnEarlierDrillAreWaitedFor(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.addWorker(slices.Concat(on("worker-1", 3), on("master-1", 7))...)
		s.stale = on("master-3", demoReplicas)
		begun := time.Now()
		time.AfterFunc(20*s1, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stale = nil
		})
		s.onFault = func(string) { time.AfterFunc(500*ms, func() { s.movePods(on("master-2", demoReplicas)...) }) }
		_, err := s.drill(lostWorker(2 * s1)).Run(t.Context())
		if took := time.Since(begun); err != nil || took < 20*s1 {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestPlanThatIsEmptySoonAfterwardsIsEmpty(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		asked := 0
		s.cluster.PlanEmpty = func(context.Context) error {
			if asked++; asked == 2 {
				return errors.New("1 change is pending")
			}
			return nil
		}
		if _, err := s.drill(testScenario(100*ms, gap(vipReady, s1))).Run(t.Context()); err != nil || asked != 3 {
			t.Errorf("got %v after %d plans", err, asked)
		}
	})
}

// silent is a host whose watch says that it holds the VIP, every half second for two
// seconds, and then nothing until the connection to it counts as lost.
type silent struct{ remote.Host }

func (silent) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	for range 4 {
		c.Output(fmt.Sprintf("hactl %d.%09d 1", time.Now().Unix(), time.Now().Nanosecond()))
		pause(ctx, 500*ms)
	}
	pause(ctx, 13*s1)
	return nil, &remote.UnreachableError{Host: "master-1", Op: "run", Err: errors.New("no answer")}
}

// The session to a host whose power was cut is given up long after it held anything.
func TestHostHoldsTheVIPUntilItWasLastHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zero := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 15100*ms)
		defer cancel()
		l := newHolderLog()
		m := &Member{Name: "master-1", Host: silent{}}
		watchVIP(ctx, m, netip.MustParseAddr("10.0.0.100"), zero, time.Minute, l, func(heard time.Duration, _ error) {
			(&runner{injections: []*injection{{Hit: Hit{m, powerOff()}}}, owners: l}).watchLost(m, heard, nil)
		})
		if got := l.until(time.Minute)["master-1"]; len(got) == 0 || got[0].To != 1500*ms {
			t.Errorf("%v", got)
		}
	})
}

func TestInsist(t *testing.T) {
	t.Parallel()
	status := func(code int) error { return &kubeapi.StatusError{Code: code} }
	for name, c := range map[string]struct {
		says  []error // in turn; the last for ever
		tries int
		code  int // that it ends with
	}{
		"at once":         {[]error{nil}, 1, 0},
		"a busy cache":    {[]error{status(http.StatusTooManyRequests), status(500), nil}, 3, 0},
		"a lost answer":   {[]error{errors.New("EOF"), nil}, 2, 0},
		"refused":         {[]error{status(http.StatusForbidden)}, 1, http.StatusForbidden},
		"it never serves": {[]error{status(503)}, 61, 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := insist(t.Context(), func(context.Context) error {
					tries++
					return c.says[min(tries, len(c.says))-1]
				})
				if tries < c.tries-1 || tries > c.tries || (c.code == 0) != (err == nil) || c.code != 0 && !kubeapi.HasStatus(err, c.code) {
					t.Errorf("%v after %d tries", err, tries)
				}
			})
		})
	}
}

// An apiserver that answers late is hung as far as the VIP is concerned: what begins
// now would be blamed on the fault.
func TestApiserverThatAnswersLateIsNotHealthy(t *testing.T) {
	t.Parallel()
	for slow, healthy := range map[time.Duration]bool{800 * ms: true, 1200 * ms: false} {
		simTest(t, func(t *testing.T, s *sim) {
			s.slow = slow
			_, err := s.cluster.Look(t.Context())
			time.Sleep(2 * slow) // until the apiservers, too, are done
			if (err == nil) != healthy || !healthy && !strings.Contains(err.Error(), "master-1: apiserver") {
				t.Errorf("ready after %v: %v", slow, err)
			}
		})
	}
}
