package drill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hactl/internal/wait"
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

	operation bool // of hactl, instead of a fault: see During

	unit float64 // as of a Drill; where the operator has not chosen the interval

	id         string
	state      *State
	injections []*injection
	backOff    time.Duration // the kubelet's, for what it has restarted before
	dial       dialFunc
	from       string // where requests come from, for the report
	traffic    *Traffic
	ledger     *ledger
	demo       *workload
	kept       []*http.Client // hold a connection each until the run ends
	owners     *holderLog
	leaders    *holderLog

	watching context.Context // of the watches; ends with the traffic
	timeline
	lost     []string
	problems []string
}

// runOnce does the scenario once. An UnsafeError means that nothing was broken, or,
// beside a problem of the run, that nothing else may be after it; any other error
// that the drill cannot go on (the context's: it ended).
func (d *Drill) runOnce(ctx context.Context, sc Scenario) (*Run, error) {
	r, err := newRunner(d.Cluster, &d.Options, d.Observer, sc)
	if err != nil {
		return nil, err
	}
	r.unit = d.unit
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.backOff = d.restarts.backOff(r.injections, time.Now())
	err = r.perform(ctx)
	if r.proved > 0 {
		d.restarts.note(r.injections, time.Now())
	}
	return r.report(), err
}

func newRunner(c *Cluster, opt *Options, obs Observer, sc Scenario) (*runner, error) {
	id, err := newID(sc.Name)
	if err != nil {
		return nil, err
	}
	own := *opt // each run has an interval of its own
	r := &runner{c: c, opt: &own, obs: obs, sc: sc, id: id, timeline: newTimeline(), owners: newHolderLog(), leaders: newHolderLog(), ledger: newLedger(id)}
	if opt.Hold > 0 {
		r.sc.Hold = opt.Hold
	}
	if r.sc.Recover == 0 {
		r.sc.Recover = defaultRecover
	}
	return r, nil
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
		r.injections = append(r.injections, &injection{Hit: h, run: r.id, power: r.c.Power, external: h.Fault.Power && r.c.Power != nil})
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
	clearCtx, cancel := wait.Within(ctx, "what an earlier drill left to go", max(r.opt.Settle, 30*time.Second))
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
	err := r.demo.deploy(ctx, r.injections[0].Member.Name)
	if err != nil { // nobody else takes it away, and Ctrl-C must not keep it there
		after, cancel := wait.Within(context.WithoutCancel(ctx), "the demo to go", 30*time.Second)
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
