package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// sshd's words for what became of a connection, as remote hands them on.
func TestAnswersOfSSHDAreTold(t *testing.T) {
	lost := &remote.UnreachableError{Host: "master-1", Op: "dial", Err: errors.New("connection lost")}
	slow := &remote.UnreachableError{Host: "master-1", Op: "dial", Err: context.DeadlineExceeded}
	for _, c := range []struct {
		err  error
		want reach
	}{
		{errors.New("dial: ssh: rejected: connect failed (Connection refused)"), refused},
		{errors.New("dial: ssh: rejected: connect failed (Connection timed out)"), silent},
		{errors.New("dial: ssh: rejected: connect failed (No route to host)"), noRoute},
		{errors.New("dial: ssh: rejected: connect failed (Network is unreachable)"), noRoute},
		{errors.New("dial: ssh: rejected: connect failed (words of another sshd)"), untested},
		{remote.Hint(lost, "set AllowTcpForwarding yes"), untested},
		{fmt.Errorf("dial: %w", slow), silent},
	} {
		if got := reachOf(t.Context(), c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// dialled lets every host of a cluster answer dials by to.
func dialled(c *Cluster, to func(from, addr string) error) {
	for name, h := range c.Hosts {
		h.(*remote.Fake).DialWith(func(_ context.Context, _, addr string) (net.Conn, error) {
			if err := to(name, addr); err != nil {
				return nil, err
			}
			ours, theirs := net.Pipe()
			_ = theirs.Close()
			return ours, nil
		})
	}
}

func TestDialMatrixFindsTheOneBlockedWay(t *testing.T) {
	c := bare(t)
	dialled(c, func(from, addr string) error {
		if from == "master-2" && addr == "192.0.2.13:2380" {
			return errors.New("connect failed (No route to host)")
		}
		return errors.New("connect failed (Connection refused)")
	})
	c.dials = c.dialAll(t.Context())
	// 6 pairs of masters with 4 ports, 3 masters to the worker, the worker to 3 masters.
	if len(c.dials) != 30 {
		t.Errorf("%d connections were tried, want 30", len(c.dials))
	}
	for _, d := range c.dials {
		want := refused
		if d.From == "master-2" && d.To == "master-3" && d.Port == 2380 {
			want = noRoute
		}
		if d.Reach != want {
			t.Errorf("%s to %s port %d: %s, want %s", d.From, d.To, d.Port, d.Reach, want)
		}
	}
}

// A host that stands still for two seconds has no firewall yet.
func TestOneSilenceIsNoFinding(t *testing.T) {
	for name, c := range map[string]struct {
		silent []int // dials, from 0
		want   reach
	}{
		"once at first":  {[]int{0}, refused},
		"once at last":   {[]int{2}, refused},
		"twice at first": {[]int{0, 1}, silent},
		"now and then":   {[]int{0, 2}, silent},
		"always":         {[]int{0, 1, 2}, silent},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, n := bare(t), 0
			dialled(cluster, func(string, string) error {
				defer func() { n++ }()
				if slices.Contains(c.silent, n) {
					return errors.New("connect failed (Connection timed out)")
				}
				return errors.New("connect failed (Connection refused)")
			})
			d := dial{From: "master-1", To: "master-2", Port: etcdPeerPort}
			if cluster.try(t.Context(), &d, netip.MustParseAddr("192.0.2.12")); d.Reach != c.want {
				t.Errorf("%s, want %s", d.Reach, c.want)
			}
		})
	}
}

// A host that answered itself at first and then no more is no witness either.
func TestHostThatStandsStillSaysNothingOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		own  bool // master-1 still answers itself
		want reach
	}{"it answers itself": {true, silent}, "it does not": {false, untested}} {
		t.Run(name, func(t *testing.T) {
			cluster := bare(t)
			var asked sync.Map // of those who asked another
			dialled(cluster, func(from, addr string) error {
				self := strings.HasPrefix(addr, "127.")
				if !self {
					asked.Store(from, true)
				}
				_, later := asked.Load(from)
				if from == "master-1" && (!self || later && !c.own) {
					return errors.New("connect failed (Connection timed out)")
				}
				return errors.New("connect failed (Connection refused)")
			})
			for _, d := range cluster.dialAll(t.Context()) {
				if d.From == "master-1" && d.Reach != c.want || d.From != "master-1" && d.Reach != refused {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

// A host whose own sshd forwards nothing says nothing of the others.
func TestHostThatCannotDialItselfIsNoWitness(t *testing.T) {
	c := bare(t)
	dialled(c, func(from, addr string) error {
		if from == "master-1" {
			if strings.HasPrefix(addr, "127.") {
				return &remote.UnreachableError{Host: from, Op: "dial", Err: errors.New("administratively prohibited")}
			}
			return errors.New("connect failed (No route to host)")
		}
		return errors.New("connect failed (Connection refused)")
	})
	c.dials = c.dialAll(t.Context())
	for _, d := range c.dials {
		if got := d.Reach == untested; got != (d.From == "master-1") {
			t.Errorf("%s to %s: %s", d.From, d.To, d.Reach)
		}
	}
}

func TestRoundTripIsWithoutTheWayToTheHost(t *testing.T) {
	d := dial{Took: 12 * time.Millisecond, Loop: 10 * time.Millisecond}
	if d.rtt() != 2*time.Millisecond {
		t.Errorf("got %s", d.rtt())
	}
	if d.Loop = time.Second; d.rtt() != 0 {
		t.Errorf("got %s for a way that is shorter than none", d.rtt())
	}
}

func TestRunLooksAtAllHostsInOneRoundTripEach(t *testing.T) {
	c := bare(t)
	for name := range c.Hosts {
		c.Hosts[name] = remote.NewFake(name, func(call remote.Call) (*remote.Result, error) {
			if call.Kind != "run" {
				return nil, nil
			}
			now := time.Now().UnixNano()
			return &remote.Result{Stdout: fmt.Appendf(nil, "clock %d\nother end\nvip asked\nvrrp-from %d\nvrrp-probe 192.0.2.11\nvrrp-probe 192.0.2.12\nvrrp-probe 192.0.2.13\nvrrp heard\nvrrp-until %d\n%sclock-after %d\nend\n", now, now, now, strings.Repeat("sync 0.002\n", 100), now)}, nil
		})
	}
	dialled(c, func(_, addr string) error { return errors.New("connect failed (Connection refused)") })
	r := Run(t.Context(), c, nil)
	if err := r.Err(); err != nil || r.Blind() {
		t.Errorf("errors %v, blind %v", err, r.Blind())
	}
	for _, res := range r.Results {
		if res.State != Passed {
			t.Errorf("%s is %s: %+v", res.ID, res.State, res.Findings)
		}
	}
	for name, h := range c.Hosts {
		runs := 0
		for _, call := range h.(*remote.Fake).Calls() {
			if call.Kind == "run" {
				runs++
			}
		}
		if runs != 1 {
			t.Errorf("%s: %d round trips with the facts at hand, want 1", name, runs)
		}
	}
}

// Hosts that are busy begin far apart and do not hear one another. They are asked
// again, and only then it is said that nothing is known.
func TestMastersThatListenedApartListenAgain(t *testing.T) {
	for apart, want := range map[int]State{0: Passed, 1: Passed, 2: Passed, 3: NotSeen} {
		c := bare(t)
		for name := range c.Hosts {
			var runs atomic.Int32
			c.Hosts[name] = remote.NewFake(name, func(call remote.Call) (*remote.Result, error) {
				if call.Kind != "run" {
					return nil, nil
				}
				heard := "vrrp-probe 192.0.2.11\nvrrp-probe 192.0.2.12\nvrrp-probe 192.0.2.13\n"
				if int(runs.Add(1)) <= apart {
					heard = ""
				}
				now := time.Now().UnixNano()
				return &remote.Result{Stdout: fmt.Appendf(nil, "clock %d\nvip asked\nvrrp-from %d\n%svrrp heard\nvrrp-until %d\n%sclock-after %d\nend\n", now, now, heard, now, strings.Repeat("sync 0.002\n", 100), now)}, nil
			})
		}
		dialled(c, func(_, addr string) error { return errors.New("connect failed (Connection refused)") })
		for _, res := range Run(t.Context(), c, nil).Results {
			if res.ID == "vrrp" && res.State != want {
				t.Errorf("%d times apart: %s: %+v", apart, res.State, res.Findings)
			}
		}
		for _, h := range c.all() {
			runs, most := 0, min(apart, probesAgain)+1
			for _, call := range c.Hosts[h.Name].(*remote.Fake).Calls() {
				if call.Kind == "run" {
					runs++
				}
			}
			if h.Role != inventory.ControlPlane {
				most = 1
			}
			if runs != most {
				t.Errorf("%d times apart: %s was asked %d times, want %d", apart, h.Name, runs, most)
			}
		}
	}
}

// Masters listen to one another: in a large inventory, too, they are asked at once.
func TestMastersAreAskedAtOnceAndFirst(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 2*plan.Parallel)
	slices.Reverse(inv.Hosts)
	c := &Cluster{Inv: inv, Hosts: plan.Hosts{}}
	for _, h := range inv.Hosts {
		c.Hosts[h.Name] = remote.NewFake(h.Name, nil)
	}
	var mu sync.Mutex
	begun, full := map[string]bool{}, make(chan struct{})
	everyHost(c.connected(), func(_ int, h *inventory.Host) {
		mu.Lock()
		if begun[h.Name] = true; len(begun) == plan.Parallel {
			for _, m := range inv.Masters() {
				if !begun[m.Name] {
					t.Errorf("%s waits for workers", m.Name)
				}
			}
			close(full)
		}
		mu.Unlock()
		<-full
	})
	if len(begun) != len(inv.Hosts) {
		t.Errorf("%d of %d hosts were asked", len(begun), len(inv.Hosts))
	}
}

func TestRunReportsAHostThatIsCutOff(t *testing.T) {
	c := bare(t)
	delete(c.Facts, "master-3")
	for name := range c.Hosts {
		c.Hosts[name] = remote.NewFake(name, func(remote.Call) (*remote.Result, error) {
			return nil, &remote.UnreachableError{Host: name, Op: "run", Err: errors.New("connection lost")}
		})
	}
	dialled(c, func(from, _ string) error {
		return &remote.UnreachableError{Host: from, Op: "dial", Err: errors.New("connection lost")}
	})
	r := Run(t.Context(), c, []string{"vip-unused"})
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "master-3: preflight reachable: ") {
		t.Errorf("got %v", err)
	}
	if !r.Blind() {
		t.Error("nothing could be looked at and the report does not say so")
	}
	for _, res := range r.Results {
		if res.ID == "vip-unused" && res.State != Ignored || res.ID == "ports-reachable" && res.State != NotSeen {
			t.Errorf("%s is %s", res.ID, res.State)
		}
	}
}

func TestIgnoringAnUnknownCheckIsRefused(t *testing.T) {
	if err := CheckIgnored([]string{"swap", "swpa"}); err == nil || !strings.Contains(err.Error(), `"swpa"`) {
		t.Errorf("got %v", err)
	}
	if err := CheckIgnored(IDs()); err != nil {
		t.Error(err)
	}
}

func TestIgnoredErrorIsNoError(t *testing.T) {
	c := bare(t)
	c.Facts["master-1"].CPUs = 1
	for _, ignored := range []bool{false, true} {
		r := &Report{}
		for _, k := range All {
			if k.ID == "cpus" {
				r.add(k, k.Run(t.Context(), c), ignored)
			}
		}
		if got := r.Err() == nil; got != ignored {
			t.Errorf("ignored %v: %v", ignored, r.Err())
		}
		if len(r.Results[0].Findings) != 1 {
			t.Errorf("ignored %v: the finding is not reported", ignored)
		}
	}
}
