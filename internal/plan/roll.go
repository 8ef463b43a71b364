package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
)

// Roll is a phase that changes a running cluster host by host: take one host out,
// change everything on it that has to change, put it back, look at the whole
// cluster, go to the next. The other kind of phase is a stage with Steps, which all
// hosts go through together.
//
// A host is worked on when one of its Steps would change something, or when an
// earlier run was cut before it put the host back. Such a host comes first.
//
// TakeOut and PutBack are ordinary steps: their checks read the present state, so
// that the next run goes on where one was cut. They need a Then, which is shown and
// done for hosts that are worked on, even if the step looks in sync when the plan
// is made: the host is put back only once it has been taken out.
type Roll struct {
	// Hosts returns the hosts in the order in which they are to be worked on,
	// decided from the present state, such as the owner of the VIP and the leader of
	// etcd last. It is asked when the plan is made, and again before each host.
	Hosts   func(ctx context.Context) ([]string, error)
	TakeOut []Step // cordon, drain, move leadership and VIP away
	Steps   []Step
	PutBack []Step // uncordon only what hactl cordoned
	Gate    Gate   // before the first host, between hosts, after the last
	// Batch is how many hosts are worked on side by side; 0 means one.
	Batch int
	// PutBackFailed has a host whose step failed put back too, and not only one
	// after which the gate failed.
	PutBackFailed bool
	// After, when set, is called after the gate of each batch with its hosts. Its error
	// ends the run; [ErrEnough] is no failure.
	After func(ctx context.Context, hosts []string) error
}

// ErrEnough ends a run at a host after which the operator wants it to end.
var ErrEnough = errors.New("ended after as many hosts as were asked for")

// rollPlan is what Make found for a roll.
type rollPlan struct {
	roll  *Roll
	hosts []*rollHost // in the order of the plan
}

// rollHost are the items of one host, phase by phase.
type rollHost struct {
	name                    string
	takeOut, steps, putBack []*Item
	out                     bool // an earlier run took it out and did not put it back
}

func (h *rollHost) items() []*Item { return slices.Concat(h.takeOut, h.steps, h.putBack) }

// expand asks for the order of the hosts and sorts the steps by host and phase.
func (r *Roll) expand(ctx context.Context) (*rollPlan, error) {
	order, err := r.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("decide the order of the hosts: %w", err)
	}
	rp := &rollPlan{roll: r}
	for _, name := range order {
		rp.hosts = append(rp.hosts, &rollHost{name: name})
	}
	for _, phase := range []struct {
		steps []Step
		of    func(*rollHost) *[]*Item
		then  bool
	}{
		{r.TakeOut, func(h *rollHost) *[]*Item { return &h.takeOut }, true},
		{r.Steps, func(h *rollHost) *[]*Item { return &h.steps }, false},
		{r.PutBack, func(h *rollHost) *[]*Item { return &h.putBack }, true},
	} {
		for i := range phase.steps {
			s := &phase.steps[i]
			at := slices.Index(order, s.Host)
			if at < 0 {
				return nil, fmt.Errorf("step %s: host %q is not in the order of the roll", s.ID, s.Host)
			}
			if phase.then && s.Then == nil {
				return nil, fmt.Errorf("step %s takes a host out or puts it back, and has no Then", s.ID)
			}
			items := phase.of(rp.hosts[at])
			*items = append(*items, &Item{Step: s})
		}
	}
	return rp, nil
}

func (rp *rollPlan) items() []*Item {
	var out []*Item
	for _, h := range rp.hosts {
		out = append(out, h.items()...)
	}
	return out
}

// settle decides, once all steps have been checked, what is done on each host.
func (rp *rollPlan) settle() {
	for _, h := range rp.hosts {
		h.out = pendingIn(h.putBack) > 0
		if pendingIn(h.steps) == 0 {
			for _, it := range h.takeOut {
				it.Change = nil
			}
			continue
		}
		for _, it := range slices.Concat(h.takeOut, h.putBack) {
			if it.Change == nil && it.Err == nil {
				it.Change = it.Step.Then
			}
		}
	}
}

// due are the hosts that are worked on.
func (rp *rollPlan) due() []*rollHost {
	return slices.DeleteFunc(slices.Clone(rp.hosts), func(h *rollHost) bool { return pendingIn(h.items()) == 0 })
}

// roll works on the hosts that are due, one after another.
func (a *applier) roll(ctx context.Context, st *StagePlan) error {
	left := st.roll.due()
	var done []string
	if err := a.gate(ctx, st, "before the first host", left, ""); errors.Is(err, ErrStopped) {
		return err
	} else if err != nil {
		return &GateError{When: "before the first host", Left: names(left), Err: err}
	}
	for len(left) > 0 {
		if a.stopped(ctx) {
			return ErrStopped
		}
		batch, err := st.roll.next(ctx, left)
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(left, func(o *rollHost) bool { return slices.Contains(batch, o) })
		if err := a.batch(ctx, st, batch, done, left); err != nil {
			return err
		}
		done = append(done, names(batch)...)
		if st.roll.roll.After == nil {
			continue
		}
		if err := st.roll.roll.After(ctx, names(batch)); err != nil {
			return err
		}
	}
	return nil
}

// batch works on hosts side by side, and looks at the whole cluster afterwards.
func (a *applier) batch(ctx context.Context, st *StagePlan, batch []*rollHost, done []string, left []*rollHost) error {
	errs := make([]error, len(batch))
	var wg sync.WaitGroup
	for i, h := range batch {
		wg.Go(func() { errs[i] = a.turn(ctx, st, h, done, left) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	who := strings.Join(names(batch), ", ")
	err := a.gate(ctx, st, "after "+who, left, who)
	if err == nil || errors.Is(err, ErrStopped) {
		return err
	}
	var back []string
	for _, h := range batch {
		what, _ := a.putBack(ctx, st, h, left)
		back = append(back, what)
	}
	return &GateError{When: "after " + who, Done: done, Host: who, Left: names(left), Err: err, PutBack: strings.Join(back, "; ")}
}

// turn takes a host out, changes it, and puts it back.
func (a *applier) turn(ctx context.Context, st *StagePlan, h *rollHost, done []string, left []*rollHost) error {
	for _, phase := range [][]*Item{h.takeOut, h.steps, h.putBack} {
		for _, lanes := range byHost(phase) {
			err := a.host(ctx, st.Name, lanes)
			if err == nil {
				continue
			}
			if !st.roll.roll.PutBackFailed || ctx.Err() != nil || errors.Is(err, ErrStopped) || remote.Unreachable(err) || len(a.madeOn(h)) == 0 {
				return err
			}
			return &HostError{Host: h.name, Done: done, Left: names(left), Err: err, PutBack: a.giveBack(ctx, st, h, left)}
		}
	}
	return nil
}

// giveBack puts back a host whose step failed, and back into service.
func (a *applier) giveBack(ctx context.Context, st *StagePlan, h *rollHost, left []*rollHost) string {
	what, is := a.putBack(ctx, st, h, left)
	if !is {
		return what
	}
	for _, lanes := range byHost(h.putBack) {
		if err := a.host(ctx, st.Name, lanes); err != nil {
			return fmt.Sprintf("%s; it is still out of service: %v", what, err)
		}
	}
	return what
}

// next are the hosts that are worked on now: first those that are out already, then
// the first ones in the present order.
func (rp *rollPlan) next(ctx context.Context, left []*rollHost) ([]*rollHost, error) {
	n := max(1, rp.roll.Batch)
	var out []*rollHost
	for _, h := range left {
		if h.out && len(out) < n {
			out = append(out, h)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	order, err := rp.roll.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("decide which host is next: %w", err)
	}
	for _, name := range order {
		if i := slices.IndexFunc(left, func(h *rollHost) bool { return h.name == name }); i >= 0 && len(out) < n {
			out = append(out, left[i])
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("decide which host is next: none of %s is in the order any more", strings.Join(names(left), ", "))
	}
	return out, nil
}

func names(hosts []*rollHost) []string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = h.name
	}
	return out
}

// gate waits until the cluster is as it has to be without the hosts that are out.
func (a *applier) gate(ctx context.Context, st *StagePlan, when string, left []*rollHost, host string) error {
	out := names(slices.DeleteFunc(slices.Clone(left), func(h *rollHost) bool { return !h.out }))
	start := time.Now()
	err := st.roll.roll.Gate.pass(ctx, out, a.stop, func(text string) {
		a.rep.Report(Event{Time: time.Now(), Kind: Note, Stage: st.Name, Host: host, Text: "gate " + when + ": " + text})
	})
	a.rep.Report(Event{Time: time.Now(), Kind: Note, Stage: st.Name, Host: host, Text: "gate " + when, Elapsed: time.Since(start), Err: errText(err)})
	return err
}

// putBack makes the changes of the host undone which failed, in the order in
// which they were made: files first, then the services that read them. It does so
// only where all of them can be made undone. It returns what came of it, and whether the
// host is back and the cluster well.
func (a *applier) putBack(ctx context.Context, st *StagePlan, h *rollHost, left []*rollHost) (what string, is bool) {
	made := a.madeOn(h)
	for _, it := range made {
		if it.Change.Revert == nil {
			return fmt.Sprintf("%s was left as it is: %q cannot be made undone", h.name, it.Change.Summary), false
		}
	}
	if len(made) == 0 {
		return h.name + " was left as it is: this run changed nothing there", false
	}
	for _, it := range made {
		env := Env{Host: a.hosts[h.name], Say: sayer(a.rep, st.Name, it.Step)}
		env.Say("putting back: %s", it.Change.Summary)
		if it.Step.Guard != nil {
			if err := it.Step.Guard(ctx, env); err != nil {
				return fmt.Sprintf("%s was put back up to %s: %v", h.name, it.Step.ID, &GuardError{Err: err}), false
			}
		}
		if err := it.Change.Revert(ctx, env); err != nil {
			return fmt.Sprintf("%s was put back up to %s: %v", h.name, it.Step.ID, err), false
		}
	}
	if err := a.gate(ctx, st, "after "+h.name+" was put back", left, h.name); err != nil {
		return fmt.Sprintf("%s was put back, and the cluster is not as it has to be: %v", h.name, err), false
	}
	return h.name + " was put back, and the cluster is as it was", true
}

// madeOn are the items of the host's steps that this run applied, in order, one that
// failed included.
func (a *applier) madeOn(h *rollHost) []*Item {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*Item
	for _, it := range h.steps {
		if a.begun[it.Step.ID] {
			out = append(out, it)
		}
	}
	return out
}

// OutMark returns the first step of TakeOut and the last of PutBack for a host. They mark
// the host as taken out by the roll of that name, one word. A roll needs them unless its
// TakeOut leaves a mark by itself, as cordoning a node does: without one, the next run
// cannot tell a host that an earlier run left half-way from one that is sick.
func OutMark(host, roll string) (takeOut, putBack Step) {
	f := File{ID: ID("roll/" + host + "/" + roll + "-out"), Host: host, Path: OwnedDir + "/out-" + roll, Content: []byte("taken out by hactl\n"), Mode: 0o600}
	takeOut = mark(f, Create, "mark "+host+" as taken out")
	f.ID, f.Absent = ID("roll/"+host+"/"+roll+"-back"), true
	return takeOut, mark(f, Delete, "mark "+host+" as back")
}

// mark is the step of a file whose change is known before it is due.
func mark(f File, op Op, what string) Step {
	s := f.Step()
	s.Title, s.Then, s.Owns = "mark", Then(op, what, what), nil
	check := s.Check
	s.Check = func(ctx context.Context, env Env) (*Change, error) {
		c, err := check(ctx, env)
		if c != nil {
			c.Summary, c.Acts, c.Made = what, []string{what}, nil // it does not stay
		}
		return c, err
	}
	return s
}
