package drill

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// killHolder is controller-manager-killed with the sim's fault.
func killHolder() Scenario {
	const name = "kube-controller-manager"
	sc := testScenario(30*s1, newLeader(name))
	sc.Hits = holder(name)
	return sc
}

// leaseOf changes hands at the given times after the start; each holder renews every
// two seconds but the first, who is gone.
func (s *sim) leaseOf(gone string, then ...handover) {
	zero := time.Now()
	s.lease = func() (string, time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, h := range slices.Backward(then) {
			if since := time.Since(zero); since >= h.at && (h.when == nil || h.when()) {
				return h.holder, zero.Add(since.Truncate(2 * s1))
			}
		}
		return gone, zero
	}
}

type handover struct {
	at     time.Duration
	holder string
	when   func() bool // asked with the lock held
}

// A process that lost its lease stays named in it until it has run out. Killing that
// host's new process would kill nobody's leader.
func TestHolderThatIsGoneIsNotTheLeader(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		var died time.Time
		s.onFault = func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			died = time.Now()
		}
		s.leaseOf("master-1_gone",
			handover{at: 9 * s1, holder: "master-3_leads"},
			handover{at: 9 * s1, holder: "master-2_next", when: func() bool { return !died.IsZero() && time.Since(died) >= 5*s1 }})
		d := s.drill(killHolder())
		d.Options.Settle = 20 * s1
		d.Options.Interval = 200 * time.Millisecond
		rep, err := d.Run(t.Context())
		res := rep.Scenarios[0]
		if err != nil || res.Verdict != Met {
			t.Fatalf("got %v, %s: %s", err, res.Verdict, res.Why())
		}
		if got := res.Runs[0].Victims[0].Host; got != "master-3" {
			t.Errorf("%s was hit, master-3 leads", got)
		}
		if took := res.Checks[0].Max; took < 5000 || took > 5500 {
			t.Errorf("the next one after %v ms, not 5000", took)
		}
	})
}

func TestLeaseThatChangesHandsBeforeTheFaultBeginsTheRunAnew(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		var died time.Time
		s.onFault = func(string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			died = time.Now()
		}
		identified := func() bool { return slices.Contains(s.log, "master-2 "+titleIdentify) }
		s.leaseOf("master-1_gone", handover{holder: "master-2_leads"}, handover{holder: "master-3_next", when: identified},
			handover{holder: "master-1_last", when: func() bool { return !died.IsZero() && time.Since(died) >= 5*s1 }})
		d := s.drill(killHolder())
		d.Options.Interval = 200 * time.Millisecond
		rep, err := d.Run(t.Context())
		res := rep.Scenarios[0]
		if err != nil || len(res.Runs) != 1 || res.Runs[0].Victims[0].Host != "master-3" || !slices.Equal(s.said(titleFault), []string{"master-3"}) {
			t.Errorf("got %v: %s, hit %v", err, res.Why(), s.said(titleFault))
		}
	})
}

func TestLeaseThatNobodyRenewsIsAnError(t *testing.T) {
	t.Parallel()
	simTest(t, func(t *testing.T, s *sim) {
		s.leaseOf("master-1_gone")
		d := s.drill(killHolder())
		d.Options.Settle = 20 * s1
		rep, err := d.Run(t.Context())
		var unsafe *UnsafeError
		if why := rep.Scenarios[0].Why(); !errors.As(err, &unsafe) || !strings.Contains(why, "nobody renewed the lease kube-controller-manager within 20s") {
			t.Errorf("got %v: %s", err, why)
		}
	})
}
