package etcd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
)

func TestStatusOfAHealthyCluster(t *testing.T) {
	f, c := startFake(t, 3)
	s := c.Status(context.Background())
	if s.Healthy != 3 || s.Voters != 3 || s.Leaders != 1 || s.Leader != "m1" || !s.Quorum || len(s.Strangers(masters(t, 3))) != 0 {
		t.Errorf("%+v", s)
	}
	m := s.Member("m2")
	if !m.Reachable || !m.Healthy || m.Leader || m.ID != 2 || m.LeaderID != 1 || m.Version != "3.6.16" || m.RaftTerm != 3 || m.DBSize != 4096 {
		t.Errorf("%+v", m)
	}
	for _, fm := range f.members {
		if a := fm.host.asks; len(a) != 1 || a[0] != "127.0.0.1:2379" {
			t.Errorf("%s: dialled %q, want one connection to etcd on the host itself", fm.host.name, a)
		}
	}
}

func TestStatusTellsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(f *fakeEtcd)
		member  string
		problem string
		healthy int
		quorum  bool
	}{
		"one killed":       {func(f *fakeEtcd) { f.kill("m2") }, "m2", "connection refused", 2, true},
		"leader killed":    {func(f *fakeEtcd) { f.kill("m1") }, "m1", "connection refused", 2, true},
		"host unreachable": {func(f *fakeEtcd) { f.cut("m2") }, "m2", "no route to host", 2, true},
		"two killed":       {func(f *fakeEtcd) { f.kill("m2"); f.kill("m3") }, "m1", "knows no leader", 0, false},
		"one hangs":        {func(f *fakeEtcd) { f.set(func() { f.member("m3").hang = true }) }, "m3", "no answer within 3s", 2, true},
		"of another cluster": {
			func(f *fakeEtcd) { f.set(func() { f.member("m3").cluster = 8 }) }, "m3", "is in another cluster", 2, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, cl := startFake(t, 3)
			c.spoil(f)
			s := cl.Status(context.Background())
			if s.Healthy != c.healthy || s.Quorum != c.quorum || !strings.Contains(s.Member(c.member).Problem, c.problem) {
				t.Errorf("healthy %d, quorum %v, %s: %q", s.Healthy, s.Quorum, c.member, s.Member(c.member).Problem)
			}
		})
	}
}

func TestStatusShowsAlarmsLearnersAndStrangers(t *testing.T) {
	f, c := startFake(t, 3)
	f.set(func() {
		f.member("m1").alarms = []string{"memberID:1 alarm:NOSPACE ", "memberID:2 alarm:CORRUPT "}
		f.member("m3").entry.IsLearner = true
	})
	if _, err := c.AddLearner(context.Background(), "https://192.0.2.9:2380"); err != nil {
		t.Fatal(err)
	}
	s := c.Status(context.Background())
	if m := s.Member("m1"); !slices.Equal(m.Alarms, []string{"NOSPACE"}) || len(m.Errors) != 0 || !m.Healthy {
		t.Errorf("%+v", m)
	}
	if m := s.Member("m3"); !m.Learner || m.Healthy || s.Voters != 2 || s.Healthy != 2 {
		t.Errorf("%+v of %d voters", m, s.Voters)
	}
	if x := s.Strangers(masters(t, 3)); len(x) != 1 || x[0].ID != 0x99 {
		t.Errorf("strangers %+v", x)
	}
	// A member has no name until it has started once.
	if x := s.Strangers(masters(t, 9)); len(x) != 0 {
		t.Errorf("a master that joins is a stranger: %+v", x)
	}
}

func TestConnectionNeedsTheRightCertificates(t *testing.T) {
	m, other := material(t, 1), material(t, 1)
	f := &fakeEtcd{t: t, leader: 1}
	f.start(m, "m1", 1)
	problem := func(t *testing.T, c *Cluster) string {
		t.Helper()
		s := c.Status(context.Background())
		if s.Members[0].Reachable {
			t.Fatal("the connection was accepted")
		}
		return s.Members[0].Problem
	}
	t.Run("no client certificate", func(t *testing.T) {
		config, err := m.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = nil
		c, err := Dial(context.Background(), []Member{{Name: "m1", Host: f.members[0].host}}, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// The server's alert can be overtaken by the closed connection, so the
		// text varies; the control below shows what made the difference.
		problem(t, c)
		if s := f.connect(m).Status(context.Background()); !s.Members[0].Healthy {
			t.Errorf("with a client certificate: %s", s.Members[0].Problem)
		}
	})
	t.Run("server of another CA", func(t *testing.T) {
		if p := problem(t, f.connect(other)); !strings.Contains(p, "unknown authority") {
			t.Errorf("problem %q", p)
		}
	})
	t.Run("server of another member", func(t *testing.T) {
		config, err := m.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		c, err := Dial(context.Background(), []Member{{Name: "m2", Host: f.members[0].host}}, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if p := problem(t, c); !strings.Contains(p, "not m2") {
			t.Errorf("problem %q", p)
		}
	})
}

func TestClientWorksWhileAMemberIsDown(t *testing.T) {
	f, c := startFake(t, 3)
	f.kill("m1")
	all, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i := range 10 {
		if _, err := all.Put(ctx, fmt.Sprint(i), "x"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitQuorumNamesWhoIsMissing(t *testing.T) {
	f, c := startFake(t, 3)
	f.kill("m2")
	f.kill("m3")
	var mu sync.Mutex
	var said []string
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, fmt.Sprintf(format, args...))
	}
	err := c.WaitQuorum(context.Background(), 300*time.Millisecond, say)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"0 of 3 voters healthy, 2 needed", "m2 missing for", "connection refused", "m1 missing for", "knows no leader"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	if !strings.Contains(remote.HintOf(err), "journalctl -u etcd on m1, m2, m3") {
		t.Errorf("hint %q", remote.HintOf(err))
	}
	if len(said) == 0 || !strings.Contains(said[0], "waiting for a quorum of etcd (up to 300ms): 0 of 3") {
		t.Errorf("said %q", said)
	}
}

func TestWaitEndsWhenMembersComeUp(t *testing.T) {
	f, c := startFake(t, 3)
	f.set(func() { f.member("m2").up, f.member("m3").up = false, false })
	said := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		done <- c.WaitQuorum(context.Background(), 20*time.Second, func(string, ...any) { said <- struct{}{} })
	}()
	<-said // it has looked, and waits
	f.set(func() { f.member("m2").up = true })
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := c.WaitAll(context.Background(), 10*time.Second, nil); err != nil {
		t.Error(err)
	}
	f.set(func() { f.member("m3").alarms = []string{"memberID:3 alarm:NOSPACE "} })
	if err := c.WaitAll(context.Background(), 100*time.Millisecond, nil); err == nil || !strings.Contains(err.Error(), "m3 has alarm NOSPACE") {
		t.Errorf("got %v", err)
	}
}

func TestGuardRefusesSecondMemberDown(t *testing.T) {
	for name, c := range map[string]struct {
		size  int
		spoil func(f *fakeEtcd)
		stop  string
		fine  bool
	}{
		"all up":                          {3, func(*fakeEtcd) {}, "m1", true},
		"another is down":                 {3, func(f *fakeEtcd) { f.kill("m2") }, "m1", false},
		"it is down itself":               {3, func(f *fakeEtcd) { f.kill("m2") }, "m2", true},
		"it is down, and another":         {3, func(f *fakeEtcd) { f.kill("m2"); f.kill("m3") }, "m2", true},
		"no quorum anyhow":                {3, func(f *fakeEtcd) { f.kill("m2"); f.kill("m3") }, "m1", true},
		"only one":                        {1, func(*fakeEtcd) {}, "m1", true},
		"one of two":                      {2, func(*fakeEtcd) {}, "m1", false},
		"five, one down":                  {5, func(f *fakeEtcd) { f.kill("m2") }, "m1", true},
		"five, two down":                  {5, func(f *fakeEtcd) { f.kill("m2"); f.kill("m3") }, "m1", false},
		"a learner":                       {3, func(f *fakeEtcd) { f.set(func() { f.member("m3").entry.IsLearner = true }) }, "m3", true},
		"not in the inventory":            {3, func(*fakeEtcd) {}, "m9", false},
		"cannot look at it, rest enough":  {3, func(f *fakeEtcd) { f.cut("m2") }, "m2", true},
		"cannot look at it, rest too few": {2, func(f *fakeEtcd) { f.cut("m2") }, "m2", false},
		"cannot look at another":          {3, func(f *fakeEtcd) { f.cut("m2") }, "m1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, cl := startFake(t, c.size)
			c.spoil(f)
			err := cl.SurvivesStopping(context.Background(), c.stop)
			if (err == nil) != c.fine {
				t.Fatalf("got %v", err)
			}
			var q *QuorumError
			if err != nil && c.stop != "m9" && (!errors.As(err, &q) || remote.HintOf(err) == "") {
				t.Errorf("got %v without figures or hint", err)
			}
		})
	}
}

func TestWriteCheck(t *testing.T) {
	t.Run("healthy", func(t *testing.T) {
		f, c := startFake(t, 3)
		if err := c.WriteCheck(context.Background()); err != nil {
			t.Error(err)
		}
		if len(f.keys) != 0 || f.revoked != 1 {
			t.Errorf("left behind %v", f.keys)
		}
	})
	t.Run("lost write", func(t *testing.T) {
		f, c := startFake(t, 3)
		f.lie = true
		if err := c.WriteCheck(context.Background()); err == nil || !strings.Contains(err.Error(), "acknowledged write is not there") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no quorum", func(t *testing.T) {
		f, c := startFake(t, 3)
		f.kill("m1")
		f.kill("m2")
		var q *QuorumError
		if err := c.WriteCheck(context.Background()); !errors.As(err, &q) {
			t.Errorf("got %v", err)
		}
	})
}

// A write that comes too early for a new cluster is made again, one that was lost
// is not.
func TestWaitWrite(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		f, c := startFake(t, 3)
		f.set(func() { f.late = 3 })
		said := 0
		if err := c.WaitWrite(t.Context(), time.Minute, func(string, ...any) { said++ }); err != nil || f.late != 0 || said != 1 {
			t.Errorf("%v, %d refusals left, said %d times", err, f.late, said)
		}
	})
	t.Run("never", func(t *testing.T) {
		f, c := startFake(t, 3)
		f.set(func() { f.late = 1 << 20 })
		if err := c.WaitWrite(t.Context(), 100*time.Millisecond, nil); err == nil || !strings.Contains(err.Error(), "leader changed") {
			t.Errorf("%v", err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		f, c := startFake(t, 3)
		f.lie = true
		if err := c.WaitWrite(t.Context(), time.Hour, nil); !errors.Is(err, errWriteLost) {
			t.Errorf("%v", err)
		}
	})
}

// A member that was started just now may not have joined yet: a caller that asks whether
// another can be spared waits for it, and no longer than that.
func TestGuardWaitsForMembersOnTheirWayBack(t *testing.T) {
	for name, back := range map[string]bool{"it comes back": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := startFake(t, 3)
			p := &Plan{Inv: masters(t, 3)}
			f.set(func() { f.member("m2").hang = true })
			c.patience = statusTimeout + time.Second // one look that is silent, and more
			h := remote.NewFake("m1", func(remote.Call) (*remote.Result, error) {
				return &remote.Result{Stdout: []byte(systest.Services("etcd.service", "active"))}, nil
			})
			said := 0
			_, err := p.guardRestart(t.Context(), plan.Env{Host: h, Say: func(string, ...any) {
				said++
				f.set(func() { f.member("m2").hang = !back })
			}}, p.Inv.Masters()[0], func(context.Context) (*Cluster, error) { return c, nil })
			var q *QuorumError
			if back != (err == nil) || !back && !errors.As(err, &q) || said != 1 {
				t.Errorf("%v, said %d times", err, said)
			}
		})
	}
}

func TestPromotionOutlivesTheLeader(t *testing.T) {
	f, c := startFake(t, 3)
	id, err := c.AddLearner(t.Context(), "https://192.0.2.9:2380")
	if err != nil {
		t.Fatal(err)
	}
	up := func(yes bool) {
		f.set(func() {
			for _, name := range []string{"m1", "m2", "m3"} {
				f.member(name).up = yes
			}
		})
	}
	up(false)
	if err := c.Promote(t.Context(), id, time.Minute, func(string, ...any) { up(true) }); err != nil {
		t.Error(err)
	}
	up(false)
	var q *QuorumError
	if err := c.Promote(t.Context(), id, 100*time.Millisecond, nil); !errors.As(err, &q) {
		t.Errorf("%v", err)
	}
}

func TestLearnerIsAddedOnceAndPromotedWhenInSync(t *testing.T) {
	ctx := context.Background()
	f, c := startFake(t, 3)
	const url = "https://192.0.2.9:2380"
	f.set(func() { f.young = 3 })
	id, err := c.AddLearner(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.AddLearner(ctx, url)
	if err != nil || again != id || len(f.members) != 4 {
		t.Errorf("second time: %x of %d members, %v", again, len(f.members), err)
	}
	f.set(func() { f.behind = 1000 })
	if err := c.Promote(ctx, id, 100*time.Millisecond, nil); err == nil || !strings.Contains(err.Error(), "catch up") {
		t.Errorf("got %v", err)
	}
	f.set(func() { f.behind = 2 })
	if err := c.Promote(ctx, id, 10*time.Second, nil); err != nil {
		t.Error(err)
	}
	if err := c.Promote(ctx, id, 10*time.Second, nil); err != nil {
		t.Errorf("a voter again: %v", err)
	}
	if _, err := c.AddLearner(ctx, url); err == nil {
		t.Error("a voter was added as a learner")
	}
}

func TestRemoveKeepsTheQuorum(t *testing.T) {
	ctx := context.Background()
	f, c := startFake(t, 3)
	f.kill("m3")
	var q *QuorumError
	if err := c.Remove(ctx, 2); !errors.As(err, &q) || q.Healthy != 1 || q.Voters != 2 {
		t.Errorf("a healthy member beside a dead one: got %v", err)
	}
	if err := c.Remove(ctx, 3); err != nil {
		t.Errorf("the dead one: %v", err)
	}
	if err := c.Remove(ctx, 3); err != nil {
		t.Errorf("the dead one again: %v", err)
	}
	list, err := c.Members(ctx)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if err := c.Remove(ctx, 2); err != nil {
		t.Errorf("one of two healthy: %v", err)
	}
	if err := c.Remove(ctx, 1); !errors.As(err, &q) {
		t.Errorf("the last: got %v", err)
	}
}

func TestMoveLeader(t *testing.T) {
	ctx := context.Background()
	f, c := startFake(t, 3)
	if err := c.MoveLeader(ctx, "m2"); err != nil {
		t.Fatal(err)
	}
	if who, err := c.Leader(ctx); who != "m2" || err != nil {
		t.Errorf("%s, %v", who, err)
	}
	if err := c.MoveLeader(ctx, "m2"); err != nil {
		t.Errorf("to itself: %v", err)
	}
	f.kill("m3")
	if err := c.MoveLeader(ctx, "m3"); err == nil || !strings.Contains(err.Error(), "not healthy") {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotIsVerified(t *testing.T) {
	f, c := startFake(t, 3)
	var b bytes.Buffer
	s, err := c.Snapshot(context.Background(), &b)
	if err != nil {
		t.Fatal(err)
	}
	if s.Member != "m2" || s.Bytes != int64(b.Len()) || b.Len() != len(f.blob)+sha256.Size {
		t.Errorf("%+v, %d bytes", s, b.Len())
	}
	f.blob = f.blob[:len(f.blob)-1]
	if _, err := c.Snapshot(context.Background(), io.Discard); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("a damaged stream: got %v", err)
	}
}

// Without a quorum the member that is furthest gives what it has.
func TestSnapshotWithoutAQuorumIsOfTheFurthestMember(t *testing.T) {
	f, c := startFake(t, 3)
	f.kill("m1")
	f.kill("m2")
	var b bytes.Buffer
	s, err := c.Snapshot(context.Background(), &b)
	if err != nil || s.Member != "m3" || s.Quorum || b.Len() == 0 {
		t.Errorf("%+v: %v", s, err)
	}
	f.kill("m3")
	if _, err := c.Snapshot(context.Background(), io.Discard); err == nil || !strings.Contains(err.Error(), "0 of 3") {
		t.Errorf("with no member: got %v", err)
	}
}

func TestSnapshotIsTakenFromTheBestMember(t *testing.T) {
	member := func(name string, healthy, leader bool, term, applied uint64) MemberStatus {
		return MemberStatus{Name: name, Reachable: true, Healthy: healthy, Leader: leader, RaftTerm: term, Applied: applied}
	}
	for want, members := range map[string][]MemberStatus{
		"follower": {member("leader", true, true, 2, 9), member("follower", true, false, 2, 8), member("ill", false, false, 3, 10)},
		"leader":   {member("ill", false, false, 3, 10), member("leader", true, true, 2, 9)},
		"term":     {member("index", false, false, 2, 10), member("term", false, false, 3, 4)},
		"index":    {member("behind", false, false, 3, 9), member("index", false, false, 3, 10)},
	} {
		if got := (&Status{Members: members}).source(); got == nil || got.Name != want {
			t.Errorf("want %s, got %+v", want, got)
		}
	}
}
