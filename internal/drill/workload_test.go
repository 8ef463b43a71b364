package drill

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

// on lists a pod's node as often as there are pods on it.
func on(node string, pods int) []string { return slices.Repeat([]string{node}, pods) }

func (s *sim) movePods(nodes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods = nodes
}

// lostWorker is worker-lost with a short hold.
func lostWorker(hold time.Duration) Scenario {
	sc := testScenario(hold, gap(service, s1), rescheduled(2*s1))
	sc.Hits, sc.Workers, sc.Workload = worker, 1, true
	return sc
}

func TestReplicasOfALostWorkerComeBackElsewhere(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.addWorker(slices.Concat(on("worker-1", 3), on("master-1", 7))...)
		s.onFault = func(string) { time.AfterFunc(1200*ms, func() { s.movePods(on("master-2", demoReplicas)...) }) }
		rep, err := s.drill(lostWorker(5 * s1)).Run(t.Context())
		if err != nil {
			t.Fatalf("%v: %s %+v", err, rep.Scenarios[0].Why(), rep.Scenarios[0].Checks)
		}
		if got := rep.Scenarios[0].Checks[1]; got.Max < 1200 || got.Max > 1800 {
			t.Errorf("rescheduled after %.0f ms", got.Max)
		}
		if len(s.demo) > 0 {
			t.Errorf("left behind: %v", s.demo)
		}
	})
}

// Ten replicas that are elsewhere from the start come back at once.
func TestWorkerWithoutReplicasIsNotLost(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.addWorker(on("master-1", demoReplicas)...)
		rep, err := s.drill(lostWorker(s1)).Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) || !strings.Contains(remote.HintOf(err), "node.kubernetes.io/unschedulable:NoSchedule") {
			t.Errorf("got %v, hint %q", err, remote.HintOf(err))
		}
		if len(s.said(titleArm)) > 0 || len(s.demo) > 0 || rep.Scenarios[0].Checks != nil {
			t.Errorf("armed on %v, left %v, checks %+v", s.said(titleArm), s.demo, rep.Scenarios[0].Checks)
		}
	})
}

// slowToArm is a host from which the pods go away before the fault.
type slowToArm struct{ *simHost }

func (h slowToArm) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	if c.Title == titleArm {
		h.sim.movePods(on("master-1", demoReplicas)...)
		pause(ctx, s1)
	}
	return h.simHost.Run(ctx, c)
}

func TestReplicasThatLeftBeforeTheFaultAreNotTested(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		h := s.addWorker(slices.Concat(on("worker-1", 1), on("master-1", demoReplicas-1))...)
		s.cluster.Member("worker-1").Host = slowToArm{h}
		rep, err := s.drill(lostWorker(s1)).Run(t.Context())
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) || len(s.said(titleFault)) > 0 {
			t.Errorf("got %v, %+v, hit %v", err, rep.Scenarios[0], s.said(titleFault))
		}
	})
}

func TestDemoThatNeverBecomesReadyIsRemoved(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]bool{"too late": false, "interrupted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			simTest(t, func(t *testing.T, s *sim) {
				s.addWorker(on("worker-1", demoReplicas-1)...)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				made := 0
				time.AfterFunc(demoReady/2, func() {
					s.mu.Lock()
					made = len(s.demo)
					s.mu.Unlock()
					if stop {
						cancel()
					}
				})
				_, err := s.drill(lostWorker(s1)).Run(ctx)
				if err == nil || errors.Is(err, context.Canceled) != stop || made != 2 || len(s.demo) > 0 {
					t.Errorf("got %v, %d parts made, left %v", err, made, s.demo)
				}
			})
		})
	}
}
