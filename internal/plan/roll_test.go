package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/remote"
)

// node is a host of a rolled cluster.
type node struct {
	cordoned bool
	file     int // version on the disk
	runs     int // version that runs; 0: none
}

// rolled is a cluster whose hosts get version 2, in memory.
type rolled struct {
	t     *testing.T
	order []string
	nodes map[string]*node
	log   []string
	looks int
	sick  func(out []string) error // what the gate sees beside the nodes
	calls int                      // that change something
	dies  int                      // the call at which hactl dies; 0: none
	after bool                     // it dies after the call took effect
	dead  bool
	back  bool // steps can be made undone
}

func newRolled(t *testing.T, hosts ...string) *rolled {
	t.Helper()
	r := &rolled{t: t, order: hosts, nodes: map[string]*node{}, back: true}
	for _, h := range hosts {
		r.nodes[h] = &node{file: 1, runs: 1}
	}
	return r
}

var errDead = errors.New("hactl is dead")

// call is a change of a host. At no moment are two hosts without service.
func (r *rolled) call(what string, effect func()) error {
	if r.dead {
		return errDead
	}
	r.calls++
	r.dead = r.calls == r.dies
	if r.dead && !r.after {
		return errDead
	}
	effect()
	r.log = append(r.log, what)
	missing := 0
	for _, n := range r.nodes {
		if n.cordoned || n.runs == 0 {
			missing++
		}
	}
	if missing > 1 {
		r.t.Errorf("after %s %d hosts are out: %v", what, missing, r.log)
	}
	if r.dead {
		return errDead
	}
	return nil
}

func (r *rolled) step(host, what string, due func(*node) bool, apply func(context.Context, *node) error, revert func(*node)) Step {
	n := r.nodes[host]
	return Step{
		ID: ID(host + "/" + what), Host: host, Title: what, Then: Then(Do, what+" "+host, what),
		Check: func(context.Context, Env) (*Change, error) {
			if r.dead {
				return nil, errDead
			}
			if !due(n) {
				return nil, nil
			}
			c := &Change{Op: Do, Summary: what + " " + host, Acts: []string{what}}
			if revert != nil && r.back {
				c.Revert = func(context.Context, Env) error {
					return r.call("back "+host+"/"+what, func() { revert(n) })
				}
			}
			return c, nil
		},
		Apply: func(ctx context.Context, _ Env, _ *Change) error { return apply(ctx, n) },
	}
}

// stage rolls version 2.
func (r *rolled) stage() []Stage {
	roll := &Roll{
		Hosts: func(context.Context) ([]string, error) { return slices.Clone(r.order), nil },
		Gate:  Gate{Within: 10 * time.Second, Look: r.look},
	}
	hosts := make([]string, 0, len(r.nodes))
	for h := range r.nodes {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	for _, h := range hosts {
		set := func(what string, f func(*node)) func(context.Context, *node) error {
			return func(_ context.Context, n *node) error { return r.call(h+"/"+what, func() { f(n) }) }
		}
		restart := func(_ context.Context, n *node) error {
			if err := r.call(h+"/stop", func() { n.runs = 0 }); err != nil {
				return err
			}
			return r.call(h+"/start", func() { n.runs = n.file })
		}
		roll.TakeOut = append(roll.TakeOut, r.step(h, "cordon", func(n *node) bool { return !n.cordoned }, set("cordon", func(n *node) { n.cordoned = true }), nil))
		roll.Steps = append(roll.Steps,
			r.step(h, "write", func(n *node) bool { return n.file != 2 }, set("write", func(n *node) { n.file = 2 }), func(n *node) { n.file = 1 }),
			r.step(h, "restart", func(n *node) bool { return n.runs != 2 }, restart, func(n *node) { n.runs = n.file }))
		roll.PutBack = append(roll.PutBack, r.step(h, "uncordon", func(n *node) bool { return n.cordoned }, set("uncordon", func(n *node) { n.cordoned = false }), nil))
	}
	return []Stage{{Name: "roll", Roll: roll}}
}

// look is what the gate sees: every host that is not known to be out serves.
func (r *rolled) look(_ context.Context, out []string) error {
	r.looks++
	if r.dead {
		return errDead
	}
	for h, n := range r.nodes {
		if (n.cordoned || n.runs == 0) && !slices.Contains(out, h) {
			return fmt.Errorf("%s does not serve", h)
		}
	}
	if r.sick != nil {
		return r.sick(out)
	}
	return nil
}

func (r *rolled) hosts() Hosts {
	names := make([]string, 0, len(r.nodes))
	for h := range r.nodes {
		names = append(names, h)
	}
	return fakes(names...)
}

func (r *rolled) up(t *testing.T) error {
	t.Helper()
	p, err := Make(t.Context(), r.stage(), r.hosts(), Discard)
	if err != nil {
		return err
	}
	_, err = p.Apply(t.Context(), r.hosts(), Discard, nil)
	return err
}

func whole(host string) string {
	return strings.ReplaceAll("H/cordon H/write H/stop H/start H/uncordon", "H", host)
}

// bubble runs the test with a cluster in a time of its own.
func bubble(t *testing.T, f func(t *testing.T, r *rolled)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newRolled(t, "m2", "m3", "m1")) })
}

func TestRollGoesHostByHostThroughGates(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		start := time.Now()
		if err := r.up(t); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(r.log, " "), whole("m2")+" "+whole("m3")+" "+whole("m1"); got != want {
			t.Errorf("did %s", got)
		}
		// Three looks one second apart, at each of four gates.
		if took := time.Since(start); r.looks != 12 || took != 8*time.Second {
			t.Errorf("%d looks in %s", r.looks, took)
		}
		if p := mustMake(t, r.stage(), r.hosts()); len(p.Pending()) != 0 {
			t.Errorf("afterwards %d steps are pending", len(p.Pending()))
		}
	})
}

func TestRollLeavesHostsAloneThatNeedNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		*r.nodes["m2"], *r.nodes["m1"] = node{file: 2, runs: 2}, node{file: 2, runs: 2}
		p := mustMake(t, r.stage(), r.hosts())
		var shown []string
		for _, it := range p.Pending() {
			shown = append(shown, it.Change.Summary)
		}
		// The restart is due already: version 1 runs. The host is put back once it is out.
		if got := strings.Join(shown, ", "); got != "cordon m3, write m3, restart m3, then uncordon m3" {
			t.Errorf("shown: %s", got)
		}
		if _, err := p.Apply(t.Context(), r.hosts(), Discard, nil); err != nil || strings.Join(r.log, " ") != whole("m3") {
			t.Errorf("did %v: %v", r.log, err)
		}
	})
}

// The VIP moves while the first host is worked on: its new owner comes last.
func TestRollAsksForTheOrderBeforeEachHost(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		p := mustMake(t, r.stage(), r.hosts())
		r.sick = func([]string) error {
			if len(r.log) > 0 {
				r.order = []string{"m1", "m2", "m3"}
			}
			return nil
		}
		if _, err := p.Apply(t.Context(), r.hosts(), Discard, nil); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(r.log, " "), whole("m2")+" "+whole("m1")+" "+whole("m3"); got != want {
			t.Errorf("did %s", got)
		}
	})
}

func TestGateWaitsForThreeGoodLooksInARow(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		start := time.Now()
		r.sick = func([]string) error {
			if r.looks == 3 {
				return errors.New("no leader")
			}
			return nil
		}
		var said []string
		g := r.stage()[0].Roll.Gate
		if err := g.pass(t.Context(), nil, nil, func(s string) { said = append(said, s) }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); r.looks != 6 || took != 5*time.Second || !slices.Equal(said, []string{"waiting up to 10s: no leader"}) {
			t.Errorf("%d looks in %s, said %q", r.looks, took, said)
		}
	})
}

func TestRollDoesNotBeginOnASickCluster(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		r.sick = func([]string) error { return errors.New("2 of 3 members") }
		start := time.Now()
		err := r.up(t)
		var g *GateError
		if !errors.As(err, &g) || g.ExitCode() != 5 || len(r.log) != 0 {
			t.Fatalf("did %v: %v", r.log, err)
		}
		want := "gate before the first host: the cluster was not as it has to be for 3 looks in a row within 10s: 2 of 3 members; not begun: m2, m3, m1"
		if err.Error() != want || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// sickWith is a cluster that cannot do with version 2 on that host.
func (r *rolled) sickWith(host string) {
	r.sick = func([]string) error {
		if r.nodes[host].runs == 2 {
			return fmt.Errorf("%s has lost its members", host)
		}
		return nil
	}
}

func TestHostWhoseGateFailsIsPutBackAndNoOtherIsBegun(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		r.sickWith("m3")
		err := r.up(t)
		var g *GateError
		if !errors.As(err, &g) || !slices.Equal(g.Done, []string{"m2"}) || g.Host != "m3" || !slices.Equal(g.Left, []string{"m1"}) {
			t.Fatalf("%+v", err)
		}
		if !strings.HasSuffix(err.Error(), "m3 was put back, and the cluster is as it was; done: m2; not begun: m1") {
			t.Error(err)
		}
		if *r.nodes["m3"] != (node{file: 1, runs: 1}) || *r.nodes["m1"] != (node{file: 1, runs: 1}) || r.nodes["m2"].runs != 2 {
			t.Errorf("m2 %+v, m3 %+v, m1 %+v", r.nodes["m2"], r.nodes["m3"], r.nodes["m1"])
		}
		if got := strings.Join(r.log[len(r.log)-2:], " "); got != "back m3/write back m3/restart" {
			t.Errorf("put back by %s", got)
		}
	})
}

func TestHostIsNotPutBackWhereAChangeCannotBeMadeUndone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		r.back = false
		r.sickWith("m2")
		err := r.up(t)
		if err == nil || !strings.Contains(err.Error(), `m2 was left as it is: "write m2" cannot be made undone; not begun: m3, m1`) || r.nodes["m2"].runs != 2 {
			t.Errorf("%v", err)
		}
	})
}

// Put back, and the cluster stays sick: the host was not the cause.
func TestHostThatWasPutBackInVainIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		r.sick = func([]string) error {
			if len(r.log) > 0 {
				return errors.New("the network is down")
			}
			return nil
		}
		err := r.up(t)
		if err == nil || !strings.Contains(err.Error(), "m2 was put back, and the cluster is not as it has to be: ") {
			t.Errorf("%v", err)
		}
	})
}

// A guard that refuses is asked when a host is put back, too.
func TestPuttingBackAsksTheGuards(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		r.sickWith("m2")
		st := r.stage()
		for i := range st[0].Roll.Steps {
			st[0].Roll.Steps[i].Guard = func(context.Context, Env) error {
				if r.nodes["m2"].runs == 2 {
					return errors.New("the others have no quorum")
				}
				return nil
			}
		}
		_, err := mustMake(t, st, r.hosts()).Apply(t.Context(), r.hosts(), Discard, nil)
		if err == nil || !strings.Contains(err.Error(), "m2 was put back up to m2/write: guard: the others have no quorum") || r.nodes["m2"].file != 2 {
			t.Errorf("%v", err)
		}
	})
}

// An earlier run was cut while m1, the last in the order, was out and down: m1 comes
// first, and its silence does not hold up the others.
func TestHostThatIsOutComesFirst(t *testing.T) {
	for name, n := range map[string]node{"half-way": {cordoned: true, file: 2}, "but not put back": {cordoned: true, file: 2, runs: 2}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rolled) {
				*r.nodes["m1"] = n
				if err := r.up(t); err != nil {
					t.Fatal(err)
				}
				want := "m1/stop m1/start m1/uncordon "
				if n.runs == 2 {
					want = "m1/uncordon "
				}
				if got := strings.Join(r.log, " "); got != want+whole("m2")+" "+whole("m3") {
					t.Errorf("did %s", got)
				}
			})
		})
	}
}

func TestRollCutAtAnyCallIsCompletedByTheNextRun(t *testing.T) {
	bubble(t, func(t *testing.T, _ *rolled) {
		n := 0
		for cut := true; cut; {
			n++
			for _, after := range []bool{false, true} {
				r := newRolled(t, "m2", "m3", "m1")
				r.dies, r.after = n, after
				err := r.up(t)
				cut = r.dead
				if cut && err == nil {
					t.Fatalf("call %d: the death of hactl went unnoticed", n)
				}
				r.dead, r.dies = false, 0
				if err := r.up(t); err != nil {
					t.Fatalf("cut at call %d (%v), did %v: the next run: %v", n, after, r.log, err)
				}
				for h, s := range r.nodes {
					if *s != (node{file: 2, runs: 2}) {
						t.Errorf("cut at call %d (%v): %s is %+v", n, after, h, *s)
					}
				}
				if p := mustMake(t, r.stage(), r.hosts()); len(p.Pending()) != 0 {
					t.Errorf("cut at call %d (%v): then %d steps are pending", n, after, len(p.Pending()))
				}
			}
		}
		if n != 16 { // five calls a host
			t.Errorf("cut at %d calls", n-1)
		}
	})
}

func TestStopInsideARollFinishesTheRunningStep(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		stop := make(chan struct{})
		st := r.stage()
		apply := st[0].Roll.Steps[0].Apply // of m1, the last
		r.order = []string{"m1", "m2", "m3"}
		st[0].Roll.Steps[0].Apply = func(ctx context.Context, env Env, c *Change) error { close(stop); return apply(ctx, env, c) }
		_, err := mustMake(t, st, r.hosts()).Apply(t.Context(), r.hosts(), Discard, stop)
		if !errors.Is(err, ErrStopped) || strings.Join(r.log, " ") != "m1/cordon m1/write" {
			t.Fatalf("did %v: %v", r.log, err)
		}
		if err := r.up(t); err != nil || *r.nodes["m1"] != (node{file: 2, runs: 2}) {
			t.Errorf("the next run: %v, m1 %+v", err, r.nodes["m1"])
		}
	})
}

func TestStopEndsAGate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		stop := make(chan struct{})
		r.sick = func([]string) error {
			if r.looks == 2 {
				close(stop)
			}
			return nil
		}
		_, err := mustMake(t, r.stage(), r.hosts()).Apply(t.Context(), r.hosts(), Discard, stop)
		if !errors.Is(err, ErrStopped) || len(r.log) != 0 {
			t.Errorf("did %v: %v", r.log, err)
		}
	})
}

func TestBrokenRollsAreRefused(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*Roll){
		`stage roll: step m1/x: host "m1" is not in the order of the roll`: func(r *Roll) {
			r.Hosts = func(context.Context) ([]string, error) { return []string{"m2"}, nil }
		},
		"stage roll: step m1/x takes a host out or puts it back, and has no Then": func(r *Roll) { r.TakeOut, r.Steps = r.Steps, nil },
		"stage roll: decide the order of the hosts: no leader": func(r *Roll) {
			r.Hosts = func(context.Context) ([]string, error) { return nil, errors.New("no leader") }
		},
	} {
		roll := &Roll{Hosts: func(context.Context) ([]string, error) { return []string{"m1"}, nil }, Steps: []Step{newWorld().step("m1", "x")}}
		spoil(roll)
		if _, err := Make(t.Context(), []Stage{{Name: "roll", Roll: roll}}, fakes("m1"), Discard); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// markHost is a host with a file by which hactl knows that it took the host out. A
// real shell reads and writes it, in a folder of the test.
func markHost(t *testing.T, name string) remote.Host {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(root+OwnedDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
		for _, f := range c.Files {
			f.Path = root + f.Path
			if err := put(f); err != nil {
				return nil, err
			}
		}
		if c.Kind != "run" {
			return nil, nil
		}
		c.Cmd.Script = strings.ReplaceAll(c.Cmd.Script, OwnedDir, root+OwnedDir)
		res, err := runLocally(t.Context(), c.Cmd)
		if res != nil {
			out := strings.ReplaceAll(string(res.Stdout), root, "")
			res.Stdout = []byte(strings.ReplaceAll(out, me(t), "root:root"))
		}
		return res, err
	})
}

// The second host is left half-way without the first step that tells: it is down, and
// the gate would not let the next run begin.
func TestMarkTellsAHostThatIsOutFromOneThatIsSick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, marksTell)
}

func marksTell(t *testing.T) {
	r := newRolled(t, "m1", "m2", "m3")
	hosts := Hosts{}
	for h := range r.nodes {
		hosts[h] = markHost(t, h)
	}
	stage := func() []Stage {
		st := r.stage()
		roll := st[0].Roll
		roll.TakeOut, roll.PutBack = nil, nil
		for _, h := range r.order {
			out, back := OutMark(h, "test")
			roll.TakeOut, roll.PutBack = append(roll.TakeOut, out), append(roll.PutBack, back)
		}
		return st
	}
	up := func() error {
		_, err := mustMake(t, stage(), hosts).Apply(t.Context(), hosts, Discard, nil)
		return err
	}
	r.dies, r.after = 5, true // m2 is stopped and not started
	if err := up(); err == nil || r.nodes["m2"].runs != 0 {
		t.Fatalf("did %v: %v", r.log, err)
	}
	r.dead, r.dies = false, 0
	p := mustMake(t, stage(), hosts)
	var shown []string
	for _, it := range p.Pending() {
		shown = append(shown, it.Change.Summary)
	}
	want := "then mark m2 as taken out, restart m2, mark m2 as back, mark m3 as taken out, write m3, restart m3, then mark m3 as back"
	if got := strings.Join(shown, ", "); got != want {
		t.Errorf("shown: %s", got)
	}
	if _, err := p.Apply(t.Context(), hosts, Discard, nil); err != nil {
		t.Fatal(err)
	}
	if p := mustMake(t, stage(), hosts); len(p.Pending()) != 0 || r.nodes["m3"].runs != 2 {
		t.Errorf("%d pending, m3 %+v", len(p.Pending()), r.nodes["m3"])
	}
}
