package drill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
)

// Observer follows a drill; both may be nil.
type Observer struct {
	Say   func(text string) // a phase begins
	Frame func(f Frame)     // the picture of the running run, some times a second
}

func (o Observer) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, args...))
	}
}

// runner is one run of one scenario.
type runner struct {
	c   *Cluster
	opt *Options
	obs Observer
	sc  Scenario

	id      string
	zero    time.Time
	state   *State
	strikes []*strike
	dial    dialFunc
	from    string
	traffic *Traffic
	ledger  *ledger
	demo    *workload
	kept    []*http.Client // hold a connection each until the run ends
	owners  *lane
	leaders *lane

	mu        sync.Mutex // guards what the watches below write
	fault     time.Duration
	proved    time.Duration
	undoBegan time.Duration
	undone    time.Duration
	healed    time.Duration
	end       time.Duration
	found     map[string]time.Duration // by check: when a lease or the replicas were back
	blind     map[string]error         // by master: its watch of the VIP was lost
	lost      []string
	problems  []string
}

// runOnce does the scenario once. An UnsafeError means that nothing was broken, or,
// beside a problem of the run, that nothing else may be after it; any other error
// that the drill cannot go on (the context's: it ended).
func runOnce(ctx context.Context, c *Cluster, opt *Options, sc Scenario, obs Observer) (*Run, error) {
	id, err := newID(sc.Name)
	if err != nil {
		return nil, err
	}
	r := &runner{c: c, opt: opt, obs: obs, sc: sc, id: id, zero: time.Now(), found: map[string]time.Duration{}, blind: map[string]error{},
		owners: newLane(), leaders: newLane(), ledger: newLedger(id)}
	if opt.Hold > 0 {
		r.sc.Hold = opt.Hold
	}
	if r.sc.Recover == 0 {
		r.sc.Recover = defaultRecover
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	err = r.perform(ctx)
	return r.report(), err
}

func newID(name string) (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a run id: %w", err)
	}
	return name + "-" + hex.EncodeToString(b[:]), nil
}

// prepare chooses the victims and makes what the traffic needs.
func (r *runner) prepare(ctx context.Context) error {
	state, err := waitHealthy(ctx, r.c, r.opt.Settle)
	if err != nil {
		return &UnsafeError{Err: err, unhealthy: true}
	}
	r.state = state
	if state.Holders, err = r.holders(ctx); err != nil {
		return &UnsafeError{Err: err, unhealthy: true}
	}
	hits, err := r.sc.Hits(r.c, state)
	if err == nil {
		err = keepsQuorum(r.c, &r.sc, hits)
	}
	if err != nil {
		return &UnsafeError{Err: err}
	}
	var victims, what []string
	for _, h := range hits {
		r.strikes = append(r.strikes, &strike{Hit: h, run: r.id, power: r.c.Power, external: h.Fault.Power && r.c.Power != nil})
		victims = append(victims, h.Member.Name)
		what = append(what, h.Member.Name+": "+h.Fault.What)
	}
	if r.dial, r.from, err = r.c.route(ctx, victims); err != nil {
		return &UnsafeError{Err: err}
	}
	r.obs.say("%s: %s", r.sc.Name, strings.Join(what, "; "))
	if err := r.ready(ctx); err != nil {
		return &UnsafeError{Err: err}
	}
	return nil
}

// holders says who leads where the scenario is about that.
func (r *runner) holders(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range r.sc.Checks {
		if c.Kind != NewLeader {
			continue
		}
		dial, _, err := r.c.route(ctx, nil)
		if err != nil {
			return nil, err
		}
		k := &kube{client: r.c.client(dial, false), at: r.c.API}
		if out[c.Of], err = k.renewed(ctx, c.Of, max(r.opt.Settle, 20*time.Second)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ready makes the namespace, removes what an interrupted drill left, and
// deploys the demo where the scenario wants it.
func (r *runner) ready(ctx context.Context) error {
	k := r.vip(false)
	if err := k.ensureNamespace(ctx); err != nil {
		return err
	}
	clearCtx, cancel := context.WithTimeout(ctx, max(r.opt.Settle, 30*time.Second))
	defer cancel()
	if err := r.clear(clearCtx); err != nil {
		return err
	}
	if !r.sc.Workload {
		return nil
	}
	r.demo = &workload{k: k, image: r.c.Demo}
	if err := r.demo.clear(ctx); err != nil {
		return err
	}
	r.obs.say("%s: waiting for %d demo replicas", r.sc.Name, demoReplicas)
	err := r.demo.deploy(ctx, r.strikes[0].Member.Name)
	if err != nil { // nobody else takes it away, and Ctrl-C must not keep it there
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if left := r.demo.remove(after); left != nil {
			r.obs.say("%s: %v", r.sc.Name, left)
		}
	}
	return err
}

// vip is the API behind the VIP.
func (r *runner) vip(kept bool) *kube { return r.at(r.c.API, kept) }

// at is the API at one address.
func (r *runner) at(addr string, kept bool) *kube {
	c := r.c.client(r.dial, kept)
	if kept {
		r.kept = append(r.kept, c)
	}
	return &kube{client: c, at: addr}
}

func (r *runner) clear(ctx context.Context) error {
	keys := insist(ctx, func(ctx context.Context) error { return r.c.Etcd.Clear(ctx, etcdPrefix) })
	return errors.Join(r.vip(false).clear(ctx), wrap("remove the keys written", keys))
}

// perform is the run from the first request to the last look. Whatever ends
// it, the fault is undone and what was made is removed.
func (r *runner) perform(ctx context.Context) error {
	watchCtx, endWatch := context.WithCancel(ctx)
	var watches sync.WaitGroup
	r.buildTraffic()
	r.watch(watchCtx, &watches)
	r.traffic.start(ctx)
	err := r.breakAndHeal(ctx, watchCtx, &watches)
	r.mark(&r.end)
	r.traffic.finish()
	for _, c := range r.kept {
		c.CloseIdleConnections()
	}
	endWatch()
	watches.Wait()
	for _, m := range r.c.Masters() {
		r.problem(r.blind[m.Name])
	}
	// What follows must happen after Ctrl-C, too.
	after, cancel := lasting(ctx)
	defer cancel()
	r.problem(each(r.strikes, func(k *strike) error { return k.undo(after) }))
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
		if drift := wrap("not as it was before", r.settled(ctx)); drift != nil {
			r.problem(drift)
			err = &UnsafeError{Err: drift, unhealthy: true, after: true}
		}
	}
	if err == nil && len(r.lost) > 0 {
		err = &UnsafeError{Err: errors.New("acknowledged writes were lost"), unhealthy: true, after: true}
	}
	return err
}

// lasting is a context for two minutes of work that has to be done even when ctx
// has ended.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
}

// settled asks for the plan until it is empty, for a minute: what recovers is
// looked at by a plan that asks once, and an apiserver that has just come back may
// refuse to answer.
func (r *runner) settled(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := r.c.PlanEmpty(ctx)
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

func (r *runner) watch(ctx context.Context, wg *sync.WaitGroup) {
	bound := time.Minute + r.sc.Hold + 2*r.sc.Recover
	for _, m := range r.c.Masters() {
		wg.Go(func() {
			watchVIP(ctx, m, r.c.VIP, r.zero, bound, r.owners, func(heard time.Duration, err error) { r.unseen(m, heard, err) })
		})
	}
	wg.Go(func() { watchLeader(ctx, r.c, r.zero, r.leaders) })
	if r.obs.Frame != nil {
		wg.Go(func() {
			for pause(ctx, 250*time.Millisecond) {
				r.obs.Frame(r.frame())
			}
		})
	}
}

// unseen is for a master whose watch is lost. One that was to lose its power is off
// since it was last heard: what it held, nobody can reach there. About another one
// nothing is known, and the run says so.
func (r *runner) unseen(m *Member, heard time.Duration, err error) {
	for _, k := range r.strikes {
		if k.Member == m && k.Fault.Power {
			r.owners.set(m.Name, heard, false)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blind[m.Name] = fmt.Errorf("the watch of the VIP on %s was lost: %w", m.Name, err)
}

// breakAndHeal is warm-up, arm, fault, proof, hold, undo and recovery.
func (r *runner) breakAndHeal(ctx, watchCtx context.Context, watches *sync.WaitGroup) error {
	if err := r.warm(ctx); err != nil {
		return &UnsafeError{Err: err}
	}
	if err := each(r.strikes, func(k *strike) error { return k.identify(ctx) }); err != nil {
		return &UnsafeError{Err: err}
	}
	armFor := r.sc.Hold + r.opt.Armed
	if r.sc.Heals {
		armFor += r.sc.Recover
	}
	if err := each(r.strikes, func(k *strike) error { return k.arm(ctx, armFor) }); err != nil {
		return &UnsafeError{Err: err}
	}
	if err := r.unchanged(ctx); err != nil {
		return &UnsafeError{Err: err}
	}
	r.follow(watchCtx, watches)
	r.mark(&r.fault)
	if err := each(r.strikes, func(k *strike) error { return k.do(ctx) }); err != nil {
		return r.stopped(ctx, err)
	}
	if err := each(r.strikes, func(k *strike) error { return k.prove(ctx) }); err != nil {
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
	r.mark(&r.undoBegan)
	// The undo outlives Ctrl-C.
	undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := each(r.strikes, func(k *strike) error { return k.undo(undoCtx) }); err != nil {
		r.problem(err)
	}
	r.mark(&r.undone)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.obs.say("%s: undone, waiting until everything is healthy", r.sc.Name)
	if _, err := waitHealthy(ctx, r.c, r.sc.Recover); err != nil {
		r.problem(fmt.Errorf("no recovery within %s of the undo: %w", r.sc.Recover, err))
	} else {
		r.mark(&r.healed)
		if err := each(r.strikes, func(k *strike) error { return k.restarted(ctx) }); ctx.Err() == nil {
			r.problem(err)
		}
	}
	pause(ctx, r.opt.tail)
	return ctx.Err()
}

// movedError says that what the victims were chosen by is no longer so.
type movedError struct{ why string }

func (e *movedError) Error() string { return e.why }

// unchanged looks once more whom the scenario is to hit, right before it does: the
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
		if was := r.strikes[i].Member.Name; was != h.Member.Name {
			return moved("what was on %s is on %s", was, h.Member.Name)
		}
	}
	if r.demo != nil {
		lost := r.strikes[0].Member.Name
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

// mark notes the time of something once.
func (r *runner) mark(at *time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*at = time.Since(r.zero)
}

// warm waits until every stream flows that must flow before the fault.
func (r *runner) warm(ctx context.Context) error {
	pause(ctx, r.opt.warm)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
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
		for _, m := range r.c.Masters() {
			if !r.owners.hears(m.Name) {
				idle = append(idle, "watch of the VIP on "+m.Name)
			}
		}
		if len(r.owners.holders()) != 1 {
			idle = append(idle, "one owner of the VIP")
		}
		if idle == nil {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return remote.Hint(fmt.Errorf("no steady traffic before the fault: %s: %w", strings.Join(idle, ", "), orCanceled(ctx, last)),
				"run hactl status, and look whether this machine reaches the apiservers")
		}
	}
}

func orCanceled(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return ctx.Err()
}

// follow starts the watches of checks that wait for something to come back. What
// was there before the fault has not come back.
func (r *runner) follow(ctx context.Context, wg *sync.WaitGroup) {
	note := func(c Check, at time.Duration, ok bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if ok && r.fault > 0 && at >= r.fault {
			r.found[c.Name()] = at
		}
	}
	for _, c := range r.sc.Checks {
		switch c.Kind {
		case NewLeader:
			before := r.state.Holders[c.Of]
			wg.Go(func() {
				at, ok := watchLease(ctx, r.vip(false), c.Of, before, r.zero)
				note(c, at, ok)
			})
		case Rescheduled:
			wg.Go(func() {
				at, ok := r.demo.watchRescheduled(ctx, r.strikes[0].Member.Name, r.zero)
				note(c, at, ok)
			})
		case Gap, Failures, Back, Refused, Owners, Held, Stays:
		}
	}
}

// hold lets the fault last. It ends early once everything that is waited for
// has come back, and at once on Ctrl-C.
func (r *runner) hold(ctx context.Context) {
	waits := 0
	for _, c := range r.sc.Checks {
		if c.Kind == NewLeader || c.Kind == Rescheduled {
			waits++
		}
	}
	until := time.Now().Add(r.sc.Hold)
	for time.Now().Before(until) && pause(ctx, min(100*time.Millisecond, time.Until(until))) {
		r.mu.Lock()
		back := len(r.found)
		r.mu.Unlock()
		if waits > 0 && back >= waits {
			return
		}
	}
}

// healsAlone waits until the cluster repaired itself, and says so when it did not.
func (r *runner) healsAlone(ctx context.Context) error {
	_, err := waitHealthyBut(ctx, r.c, r.sc.Recover, r.units())
	return wrap(fmt.Sprintf("did not heal by itself within %s", r.sc.Hold+r.sc.Recover), err)
}

// units are the undo timers of this run, which are armed and no sign of illness.
func (r *runner) units() []string {
	var out []string
	for _, k := range r.strikes {
		out = append(out, k.unit())
	}
	return out
}

// buildTraffic lists the streams of this run.
func (r *runner) buildTraffic() {
	r.traffic = newTraffic(r.zero, r.opt.Interval, r.opt.Deadline)
	t := r.traffic
	// The address is asked for most often, since its bounds are the tightest. Reads
	// and writes cost the apiservers and etcd ten times more.
	t.add(vipReady, 1, servesProbe(r.vip(false)))
	t.addKept("vip/ready/kept", 1, servesProbe(r.vip(true)))
	t.add(vipRead, inTurn, readProbe(r.vip(false)))
	t.add(vipWrite, inTurn, r.ledger.create(r.vip(false), "new"))
	t.addKept("vip/read/kept", inTurn, readProbe(r.vip(true)))
	t.addKept("vip/write/kept", inTurn, r.ledger.create(r.vip(true), "kept"))
	for _, m := range r.c.Masters() {
		t.addBeside(m.Name+"/ready/new", readyProbe(r.at(m.API, false)))
		t.addKept(m.Name+"/ready/kept", besides, readyProbe(r.at(m.API, true)))
	}
	t.add(etcdWrite, 1, r.ledger.put(r.c.Etcd))
	if r.sc.Inside {
		m := r.strikes[0].Member
		t.add(inWrite, inTurn, r.ledger.create(&kube{client: r.c.client(m.Host.Dial, false), at: m.API}, "inside"))
	}
	if r.demo != nil {
		spared := others(r.c.Masters(), r.strikes[0].Member.Name)[0]
		t.add(service, 1, getProbe(&kube{client: r.c.client(spared.Host.Dial, false), at: r.demo.at, scheme: "http"}))
	}
}

func readyProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.ready(ctx) }
}

func servesProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.serves(ctx) }
}

func readProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.do(ctx, "GET", namespacePath, nil, nil) }
}

func getProbe(k *kube) probe {
	return func(ctx context.Context, _ int) error { return k.do(ctx, "GET", "/", nil, nil) }
}
