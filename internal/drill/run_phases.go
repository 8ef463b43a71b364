package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// perform is the run from the first request to the last look. Whatever ends
// it, the fault is undone and what was made is removed.
func (r *runner) perform(ctx context.Context) error {
	r.zero = time.Now() // a demo may have been deployed before
	r.buildTraffic()
	finish := r.begin(ctx)
	err := r.breakAndHeal(ctx)
	finish()
	for _, m := range r.c.Masters() {
		r.problem(r.blind[m.Name])
	}
	// What follows must happen after Ctrl-C, too.
	after, cancel := lasting(ctx)
	defer cancel()
	r.problem(each(r.injections, func(k *injection) error { return k.undo(after) }))
	if ctx.Err() == nil {
		lost, readErr := r.ledger.readBack(ctx, r.c, r.dial)
		r.lost = lost
		r.problem(readErr)
	}
	after, cancel = lasting(ctx)
	defer cancel()
	if r.demo != nil {
		r.problem(r.demo.remove(after))
	}
	r.problem(r.clear(after))
	var unsafe *UnsafeError
	if errors.As(err, &unsafe) { // nothing was broken: what cannot be cleaned up is what it was refused for
		for _, p := range r.problems {
			unsafe.Err = fmt.Errorf("%w; %s", unsafe.Err, p)
		}
		r.problems = nil
		return err
	}
	if ctx.Err() == nil && err == nil && r.c.PlanEmpty != nil {
		if drift := wrap("not as it was before", r.c.settled(ctx, time.Minute)); drift != nil {
			r.problem(drift)
			err = &UnsafeError{Err: drift, unhealthy: true, after: true}
		}
	}
	if err == nil && len(r.lost) > 0 {
		err = &UnsafeError{Err: errors.New("acknowledged writes were lost"), unhealthy: true, after: true}
	}
	return err
}

// lasting is a context for two minutes of work, stretched for slow hosts, that has to be done even when ctx
// has ended.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return wait.Within(context.WithoutCancel(ctx), "what a drill has to clean up", 2*time.Minute)
}

// settled asks for the plan until it is empty, for a time: what recovers is looked at by
// a plan that asks once, and an apiserver that has just come back may refuse to answer.
func (c *Cluster) settled(ctx context.Context, within time.Duration) error {
	bound, cancel := wait.Within(ctx, "the plan to be empty", within)
	defer cancel()
	for {
		err := c.PlanEmpty(ctx)
		if err == nil || !pause(bound, 2*time.Second) {
			return err
		}
	}
}

func (r *runner) problem(err error) {
	if err != nil {
		r.problems = append(r.problems, err.Error())
	}
}

// breakAndHeal is warm-up, arm, fault, proof, hold, undo and recovery.
func (r *runner) breakAndHeal(ctx context.Context) error {
	for _, phase := range []func(context.Context) error{r.warm, r.identify, r.arm, r.unchanged} {
		if err := phase(ctx); err != nil {
			return &UnsafeError{Err: err}
		}
	}
	r.follow()
	return r.breakIt(ctx)
}

// identify notes what the victims' targets are known by.
func (r *runner) identify(ctx context.Context) error {
	return each(r.injections, func(k *injection) error { return k.identify(ctx) })
}

// arm has the victims undo the fault by themselves some time after hactl should have.
func (r *runner) arm(ctx context.Context) error {
	after := r.sc.Hold + r.opt.Armed
	if r.sc.Heals {
		after += r.sc.Recover
	}
	return each(r.injections, func(k *injection) error { return k.arm(ctx, after) })
}

// breakIt is fault, proof, hold, undo and recovery.
func (r *runner) breakIt(ctx context.Context) error {
	r.mark(&r.fault)
	if err := each(r.injections, func(k *injection) error { return k.do(ctx) }); err != nil {
		return r.stopped(ctx, err)
	}
	if err := each(r.injections, func(k *injection) error { return k.prove(ctx) }); err != nil {
		return r.stopped(ctx, err)
	}
	r.mark(&r.proved)
	r.obs.say("%s: in effect after %d ms", r.sc.Name, (r.proved - r.fault).Milliseconds())
	r.hold(ctx)
	if r.sc.Heals && ctx.Err() == nil {
		if err := r.healsAlone(ctx); err != nil {
			r.problem(err)
		}
	}
	r.undo(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.recover(ctx)
	pause(ctx, r.opt.tail)
	return ctx.Err()
}

// undo takes the fault back, after Ctrl-C too.
func (r *runner) undo(ctx context.Context) {
	r.mark(&r.undoBegan)
	ctx, cancel := wait.Within(context.WithoutCancel(ctx), "the fault to be undone", time.Minute)
	defer cancel()
	r.problem(each(r.injections, func(k *injection) error { return k.undo(ctx) }))
	r.mark(&r.undone)
}

// recover waits until everything is healthy, and looks whether power was really cut.
func (r *runner) recover(ctx context.Context) {
	r.obs.say("%s: undone, waiting until everything is healthy", r.sc.Name)
	if _, err := waitHealthy(ctx, r.c, r.sc.Recover); err != nil {
		r.problem(fmt.Errorf("no recovery within %s of the undo: %w", wait.Bound(ctx, r.sc.Recover), err))
		return
	}
	r.mark(&r.healed)
	if err := each(r.injections, func(k *injection) error { return k.restarted(ctx) }); ctx.Err() == nil {
		r.problem(err)
	}
}

// movedError says that what the victims were chosen by is no longer so.
type movedError struct{ why string }

func (e *movedError) Error() string { return e.why }

// unchanged looks once more which hosts the scenario is to hit, right before it does: the
// traffic that began since may have moved the VIP or a lead, and breaking the wrong
// host would measure nothing.
func (r *runner) unchanged(ctx context.Context) error {
	moved := func(format string, args ...any) error {
		return &movedError{fmt.Sprintf(format, args...) + " while its fault was prepared"}
	}
	now := *r.state
	var err error
	if now.Owner, now.Leader, err = r.c.whoNow(ctx); err != nil {
		return moved("%v", err)
	}
	if now.Holders, err = r.holders(ctx); err != nil {
		return err
	}
	for name, was := range r.state.Holders {
		if is := now.Holders[name]; is != was {
			return moved("the lease %s went from %s to %s", name, was, is)
		}
	}
	hits, err := r.sc.Hits(r.c, &now)
	if err != nil {
		return err
	}
	for i, h := range hits {
		if was := r.injections[i].Member.Name; was != h.Member.Name {
			return moved("what was on %s is on %s", was, h.Member.Name)
		}
	}
	if r.demo != nil {
		lost := r.injections[0].Member.Name
		if ready, err := r.demo.readyPods(ctx); err == nil && ready[lost] == 0 {
			return moved("the replicas left %s", lost)
		}
	}
	return nil
}

// stopped turns an error of the fault itself into a problem of the run, unless
// the drill was stopped.
func (r *runner) stopped(ctx context.Context, err error) error {
	r.mark(&r.undone)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.problem(err)
	return nil
}

// warm waits until every stream flows that must flow before the fault.
func (r *runner) warm(ctx context.Context) error {
	pause(ctx, r.opt.warm)
	ctx, cancel := wait.Within(ctx, "steady traffic", 15*time.Second)
	defer cancel()
	for {
		var idle []string
		var last error
		for _, s := range r.traffic.Streams {
			if s.must && !s.flowing() {
				idle = append(idle, s.Name)
				last = s.err()
			}
		}
		if idle = append(idle, r.unheard()...); idle == nil {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return remote.Hint(fmt.Errorf("no steady traffic: %s: %w", strings.Join(idle, ", "), orCanceled(ctx, last)),
				"run hactl status, and look whether this machine reaches the apiservers")
		}
	}
}

// unheard is what the watches have not told yet.
func (r *runner) unheard() []string {
	if r.operation {
		return nil
	}
	var out []string
	for _, m := range r.c.Masters() {
		if !r.owners.hears(m.Name) {
			out = append(out, "watch of the VIP on "+m.Name)
		}
	}
	if len(r.owners.holders()) != 1 {
		out = append(out, "one owner of the VIP")
	}
	return out
}

func orCanceled(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return ctx.Err()
}

// healsAlone waits until the cluster repaired itself, and says so when it did not.
func (r *runner) healsAlone(ctx context.Context) error {
	_, err := waitHealthyBut(ctx, r.c, r.sc.Recover, r.units())
	return wrap(fmt.Sprintf("did not heal by itself within %s", r.sc.Hold+wait.Bound(ctx, r.sc.Recover)), err)
}

// units are the undo timers of this run, which are armed and no sign of illness.
func (r *runner) units() []string {
	var out []string
	for _, k := range r.injections {
		out = append(out, k.unit())
	}
	return out
}

// hold lets the fault last until every check is decided, for the scenario's time at
// most. It ends at once on Ctrl-C. A time that the operator chose is kept.
func (r *runner) hold(ctx context.Context) {
	until := time.Now().Add(r.sc.Hold)
	for time.Now().Before(until) && pause(ctx, min(250*time.Millisecond, time.Until(until))) {
		if r.opt.Hold == 0 && r.decided() {
			return
		}
	}
}

// decided reports whether no check can change any more while the fault is held.
func (r *runner) decided() bool {
	o := r.observe()
	for _, c := range r.sc.Checks {
		if c.decided == nil || !c.decided(c, o) {
			return false
		}
	}
	return true
}
