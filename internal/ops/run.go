package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/ui"
	"hactl/internal/wait"
	"hactl/inventory"
)

// Options are the flags of every operation that changes hosts.
type Options struct {
	Yes    bool     // do not ask before hosts are changed
	DryRun bool     // only plan: nothing is locked and nothing is changed
	Full   bool     // show every step of the plan
	Force  bool     // break the lock of another run
	Skip   []string // hosts that may be missing
	Ignore []string // preflight checks whose findings do not count
	// Measure sends requests through the VIP, and writes to etcd, while hosts are
	// changed, and counts what failed because of it.
	Measure bool
}

// Result is what came of an operation.
type Result struct {
	Plan       *plan.Plan    // of the first phase, after a dry run
	Changed    int           // steps that changed something
	Trips      int           // the largest number of round trips to one host, waiting left out
	Next       []string      // what is left for a person to do
	Kubeconfig string        // the file of the administrator, where the operation wrote one
	LeftOut    []string      // hosts that were missing and that the operator went on without
	Report     *state.Report // the cluster at the end; nil when the operation ended before
	Path       []plan.Timing // the critical path of the run, failed ones included
	// Measured is what requests saw meanwhile, for each phase that changed something.
	Measured []*drill.Measurement
}

// operation is a verb that changes hosts: phases, one after another, each planned
// from a fresh look.
type operation struct {
	verb   string
	phases []phase
	finish func(context.Context, *session, *Result) error // what is left to do on this machine; may be nil
	// anyQuorum is for an operation that brings a quorum back: hosts in Options.Skip may
	// be missing, however many.
	anyQuorum bool
	// reach, in place of a connection to every host, says which ones the operation needs.
	reach func(*session) error
	// steady are the hosts that serve all the time, which requests are measured with; nil:
	// every host.
	steady *inventory.Inventory
	// apart is the name of a host that may be dead; connect, called once the others are
	// connected, connects to it. Empty: there is none.
	apart   string
	connect func(context.Context, *session)
	// leaves says that the operation leaves no cluster behind to wait for.
	leaves bool
}

// phase is one plan of an operation.
type phase struct {
	name string
	make func(context.Context, *session) (*plan.Plan, error)
	// before is called once the plan was confirmed; may be nil.
	before func(context.Context, *session) error
	// confirm asks in place of the ordinary question; may be nil.
	confirm func(context.Context, *session, *plan.Plan) error
	// after is called once the plan was applied; may be nil.
	after func(context.Context, *session) error
}

// verifyTimeout bounds how long an operation waits for nodes and workloads after
// its last step.
const verifyTimeout = 3 * time.Minute

// run is the one way in which hosts are changed: connect, lock, look, refuse, show,
// confirm, apply, verify, report. The result is never nil.
func (op operation) run(ctx context.Context, r Request, o Options) (*Result, error) {
	res := &Result{}
	s, err := open(ctx, r, op.apart)
	if err != nil {
		return res, err
	}
	defer s.close()
	if op.apart != "" {
		op.connect(ctx, s)
	}
	s.steady = op.steady
	if op.reach == nil {
		op.reach = func(s *session) error {
			if op.anyQuorum {
				return s.everyHostOrDead(op.verb, o.Skip)
			}
			return s.everyHost(op.verb, o.Skip)
		}
	}
	if err := op.reach(s); err != nil {
		return res, err
	}
	s.leftOut = slices.DeleteFunc(slices.Clone(o.Skip), func(name string) bool { return s.hosts[name] != nil })
	if o.DryRun {
		res.Plan, err = op.phases[0].make(ctx, s)
		return res, err
	}
	if o.Force {
		if err := s.breakLocks(ctx); err != nil {
			return res, err
		}
	}
	release, err := s.lock(ctx, op.verb)
	if err != nil {
		return res, err
	}
	defer release()
	looked := r.Started
	for _, ph := range op.phases {
		if err := s.phase(ctx, op, ph, o, looked, res); err != nil {
			if errors.Is(err, plan.ErrEnough) {
				res.Next = append(res.Next, fmt.Sprintf("hactl %s goes on: %s", op.verb, err))
				err = nil
			}
			return res, err
		}
		looked = time.Now()
	}
	if op.leaves {
		res.LeftOut, res.Trips = s.leftOut, s.trips()
		return res, nil
	}
	return res, s.verify(ctx, op, res)
}

// phase plans, shows, confirms and applies one phase, whose look began at the time
// given.
func (s *session) phase(ctx context.Context, op operation, ph phase, o Options, looked time.Time, res *Result) error {
	p, err := ph.make(ctx, s)
	if err != nil {
		return err
	}
	kept := "nothing was changed"
	if res.Changed > 0 {
		kept = ui.Count(res.Changed, "step") + " done and kept"
	}
	if err := p.Err(); err != nil {
		return remote.Hint(err, "%s; see what is wrong with these hosts, then run hactl %s again", kept, op.verb)
	}
	res.Path = append(res.Path, plan.Timing{Stage: cmp.Or(ph.name, "look and check"), Start: looked, End: time.Now()})
	confirm := ph.confirm
	if confirm == nil {
		confirm = func(ctx context.Context, s *session, p *plan.Plan) error { return s.confirm(ctx, p, o, kept) }
	}
	if err := confirm(ctx, s, p); err != nil {
		return err
	}
	if ph.before != nil {
		if err := ph.before(ctx, s); err != nil {
			return err
		}
	}
	err = s.measured(ctx, o, p, res, func(ctx context.Context) error {
		applied, err := p.Apply(ctx, s.hosts, s, s.Stop())
		res.Changed += applied.Done
		res.Path = append(res.Path, plan.CriticalPath(applied.Timings)...)
		return err
	})
	if err != nil {
		return remote.Hint(err, "%s done and kept; hactl %s goes on from here", ui.Count(res.Changed, "step"), op.verb)
	}
	if ph.after != nil {
		return ph.after(ctx, s)
	}
	return nil
}

// measured calls apply, with requests to the cluster around it where that was asked for
// and the cluster runs.
func (s *session) measured(ctx context.Context, o Options, p *plan.Plan, res *Result, apply func(context.Context) error) error {
	if !o.Measure || len(p.Pending()) == 0 {
		return apply(ctx)
	}
	if s.facts != nil && !s.established() {
		s.Note("nothing is measured: the cluster has not run yet")
		return apply(ctx)
	}
	c, hangUp, err := s.drillCluster(ctx, &DrillOptions{})
	if err != nil {
		return err
	}
	defer hangUp()
	m, err := drill.During(ctx, c, drill.DuringOptions{Say: s.Note, Pace: &s.requests}, apply)
	if m != nil {
		res.Measured = append(res.Measured, m)
	}
	return err
}

// confirm shows the plan and asks, unless there is nothing to ask about. kept is what an
// answer other than yes leaves.
func (s *session) confirm(ctx context.Context, p *plan.Plan, o Options, kept string) error {
	n := len(p.Pending())
	if n == 0 || o.Yes {
		return nil
	}
	return s.Confirm(ctx, Question{
		Show:       func(w io.Writer, st ui.Style) error { return ui.WritePlan(w, p, o.Full, st) },
		Text:       "\nApply this?",
		NoTerminal: ui.Count(n, "step") + " would change something, and there is no terminal to ask on",
		Undone:     kept,
	})
}

// verify waits until the cluster is healthy, without the hosts that were left out.
func (s *session) verify(ctx context.Context, op operation, res *Result) error {
	start := time.Now()
	defer func() { res.Path = append(res.Path, plan.Timing{Stage: "verify", Start: start, End: time.Now()}) }()
	res.LeftOut = s.leftOut
	c := s.verified(true)
	c.WithoutProbe = op.verb != "up"
	res.Report = state.Wait(ctx, c, verifyTimeout, func(text string) {
		res.Trips = cmp.Or(res.Trips, s.trips()) // up to the first look at the whole
		s.Note(text)
	})
	res.Trips = cmp.Or(res.Trips, s.trips())
	if even := s.inv.EvenMasters(); even != "" {
		res.Next = append(res.Next, even+": add one, or remove one")
	}
	if op.finish != nil {
		if err := op.finish(ctx, s, res); err != nil {
			return err
		}
	}
	if !res.Report.Healthy {
		over := &wait.OverError{What: "the whole cluster", Bound: wait.Bound(ctx, verifyTimeout), Err: errors.New("the cluster is up but not healthy")}
		return exitcode.With(exitcode.Unhealthy, remote.Hint(over, "hactl status shows what is missing"))
	}
	return nil
}

// verified is the cluster as internal/state wants it.
func (s *session) verified(write bool) state.Cluster {
	return state.Cluster{Inv: s.inv, Hosts: s.hosts, Down: s.down, PKI: s.material, Control: s.control, Write: write, Skip: s.leftOut}
}

// trips is the largest number of round trips to one host so far.
func (s *session) trips() int {
	n := 0
	for _, c := range s.counted {
		n = max(n, c.Trips())
	}
	return n
}
