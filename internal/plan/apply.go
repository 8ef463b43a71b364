package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
)

// ErrStopped is returned by Apply when it was asked to stop; the running steps
// were finished.
var ErrStopped = errors.New("stopped on request: every step that was running has finished")

// GuardError says that a step's Guard refused its change; nothing was changed
// by that step.
type GuardError struct{ Err error }

// Error gives the guard's reason.
func (e *GuardError) Error() string { return fmt.Sprintf("guard: %v", e.Err) }

// Unwrap returns the guard's reason.
func (e *GuardError) Unwrap() error { return e.Err }

// ExitCode is the code for "refused: not safe".
func (e *GuardError) ExitCode() int { return 7 }

// Timing is when a step ran, for the critical path: until its change was made,
// not until a look confirmed it.
type Timing struct {
	Stage, Host, Lane string
	Step              ID
	Start, End        time.Time
	Parts             []Part // one after the other, if the step named any
}

// Part is a named part of a step.
type Part struct {
	Name       string
	Start, End time.Time
}

// part begins a part, which ends the one before.
func (t *Timing) part(name string) {
	t.end()
	t.Parts = append(t.Parts, Part{Name: name, Start: t.End})
}

// end says that what ran so far, the last part too, ended now.
func (t *Timing) end() {
	t.End = time.Now()
	if n := len(t.Parts); n > 0 {
		t.Parts[n-1].End = t.End
	}
}

// Applied is what Apply did.
type Applied struct {
	Done    int // steps that changed something
	Timings []Timing
}

// Apply makes the planned changes, stage by stage. For each step: look again
// and check (in sync by now: skip; other acts than were shown: stop), Guard, Apply, Ready,
// look and check again, which must find it in sync. A failing step ends its
// lane; other hosts finish the stage, and no further stage is begun.
//
// Nothing is begun while a step of the plan is Unknown. Closing stop ends the
// run after the steps that are running.
func (p *Plan) Apply(ctx context.Context, hosts Hosts, rep Reporter, stop <-chan struct{}) (*Applied, error) {
	if err := p.Err(); err != nil {
		return &Applied{}, err
	}
	if err := p.record(ctx, hosts); err != nil {
		return &Applied{}, err
	}
	a := &applier{hosts: hosts, rep: rep, stop: stop, begun: map[ID]bool{}}
	for i := range p.Stages {
		st := &p.Stages[i]
		if pendingIn(st.Items) == 0 {
			continue
		}
		start := time.Now()
		rep.Report(Event{Time: start, Kind: StageStart, Stage: st.Name, Text: fmt.Sprintf("%d to do", pendingIn(st.Items))})
		run := a.stage
		if st.roll != nil {
			run = a.roll
		}
		err := run(ctx, st)
		rep.Report(Event{Time: time.Now(), Kind: StageDone, Stage: st.Name, Elapsed: time.Since(start), Err: errText(err)})
		if err != nil {
			return a.result(), err
		}
	}
	return a.result(), nil
}

// stage works on all hosts side by side, or, when the stage is serial, on one
// host after the other until one fails. The lanes of a host always run side by
// side.
func (a *applier) stage(ctx context.Context, st *StagePlan) error {
	hosts := byHost(st.Items)
	errs := make([]error, len(hosts))
	var g errgroup.Group
	g.SetLimit(Parallel)
	for i, lanes := range hosts {
		if st.Serial {
			if errs[i] = a.host(ctx, st.Name, lanes); errs[i] != nil {
				break
			}
			continue
		}
		g.Go(func() error {
			errs[i] = a.host(ctx, st.Name, lanes)
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// host runs the lanes of one host side by side.
func (a *applier) host(ctx context.Context, stage string, lanes [][]*Item) error {
	errs := make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, items := range lanes {
		wg.Go(func() { errs[i] = a.lane(ctx, stage, items) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// byHost groups the items that would change something: first by host, then by
// lane, both in order of appearance.
func byHost(items []*Item) [][][]*Item {
	type lane struct{ host, name string }
	var out [][][]*Item
	hosts, lanes := map[string]int{}, map[lane]int{}
	for _, it := range items {
		if it.Change == nil {
			continue
		}
		h, known := hosts[it.Step.Host]
		if !known {
			h = len(out)
			hosts[it.Step.Host] = h
			out = append(out, nil)
		}
		k := lane{it.Step.Host, it.Step.Lane}
		if _, known := lanes[k]; !known {
			lanes[k] = len(out[h])
			out[h] = append(out[h], nil)
		}
		out[h][lanes[k]] = append(out[h][lanes[k]], it)
	}
	return out
}

// lane works through one host's steps in order. Neighbouring quick steps share
// their looks: one round trip before, and the one after is that before the next.
func (a *applier) lane(ctx context.Context, stage string, items []*Item) error {
	h := a.hosts[items[0].Step.Host]
	var did []*Item // changed, and not looked at again yet
	ran := map[ID]*Timing{}
	for len(items) > 0 && !a.stopped(ctx) {
		n := 1
		for n < len(items) && items[n-1].Step.Quick && items[n].Step.Quick {
			n++
		}
		now := recheck(ctx, h, slices.Concat(did, items[:n]), a.rep)
		if err := a.confirm(stage, did, now[:len(did)], ran); err != nil {
			return err
		}
		var err error
		if did, err = a.group(ctx, h, stage, items[:n], now[len(did):], ran); err != nil {
			if remote.Unreachable(err) {
				return err // nor could the others be looked at
			}
			return errors.Join(err, a.confirm(stage, did, recheck(ctx, h, did, a.rep), ran))
		}
		items = items[n:]
	}
	if err := a.confirm(stage, did, recheck(ctx, h, did, a.rep), ran); err != nil {
		return err
	}
	if a.stopped(ctx) {
		return ErrStopped
	}
	return nil
}

// group changes what a fresh look found to need it, and returns what it changed.
func (a *applier) group(ctx context.Context, h remote.Host, stage string, items, now []*Item, ran map[ID]*Timing) (did []*Item, err error) {
	for n := 0; n < len(items) && !a.stopped(ctx); {
		batch := together(items[n:], now[n:])
		was := now[n : n+len(batch)]
		n += len(batch)
		if was[0].Err == nil && was[0].Change == nil {
			continue // in sync by now: done by another operator or by an earlier step
		}
		for i, it := range batch {
			ran[it.Step.ID] = &Timing{Stage: stage, Host: it.Step.Host, Lane: it.Step.Lane, Step: it.Step.ID, Start: time.Now()}
			a.rep.Report(withOp(event(StepStart, stage, it.Step, summary(was[i])), was[i].Change))
		}
		if failed, err := a.change(ctx, h, stage, batch, was, ran[batch[0].Step.ID].part); err != nil {
			return did, a.failed(stage, failed, ran[failed.ID].Start, err)
		}
		for _, it := range batch {
			ran[it.Step.ID].end()
		}
		did = append(did, batch...)
	}
	return did, nil
}

// together is the first of the items with those after it that are written in
// the same call. now is what a fresh look found for each.
func together(items, now []*Item) []*Item {
	n := 1
	for i := range items {
		if items[i].Step.File == nil || now[i].Err != nil || now[i].Change == nil {
			break
		}
		n = i + 1
	}
	return items[:n]
}

// writing is the step whose file could not be written: a host's refusal names
// it.
func writing(items []*Item, err error) *Step {
	var refused *remote.ExitError
	if errors.As(err, &refused) {
		for _, it := range items {
			if refused.Title == "write "+it.Step.File.Path {
				return it.Step
			}
		}
	}
	return items[0].Step
}

// change applies steps whose fresh looks are now: one, or several that only
// write files. On an error it names the step. A part that the step names is told
// to part.
func (a *applier) change(ctx context.Context, h remote.Host, stage string, planned, now []*Item, part func(name string)) (*Step, error) {
	var files []remote.File
	for i, it := range planned {
		if now[i].Err != nil {
			return it.Step, now[i].Err
		}
		if err := differs(it.Change, now[i].Change); err != nil {
			return it.Step, err
		}
		if f := it.Step.File; f != nil {
			files = append(files, *f)
		}
	}
	s := planned[0].Step
	if len(files) > 0 {
		a.begin(planned)
		err := h.Put(ctx, files...)
		return writing(planned, err), err
	}
	env := Env{Host: h, Say: sayer(a.rep, stage, s), part: part, seen: now[0].answers}
	if s.Guard != nil {
		if err := s.Guard(ctx, env); err != nil {
			return s, &GuardError{Err: err}
		}
	}
	a.begin(planned[:1])
	if err := s.Apply(ctx, env, now[0].Change); err != nil {
		return s, err
	}
	if s.Ready != nil {
		return s, s.Ready(ctx, env)
	}
	return s, nil
}

// confirm takes in how the changed steps look now; one that still differs failed.
func (a *applier) confirm(stage string, did, now []*Item, ran map[ID]*Timing) error {
	for i, after := range now {
		s := did[i].Step
		err := after.Err
		if err == nil && after.Change != nil {
			err = fmt.Errorf("not in sync after it was applied: %s", after.Change.Summary)
		}
		if err != nil {
			return a.failed(stage, s, ran[s.ID].Start, err)
		}
		a.done(s, ran[s.ID], did[i].Change)
	}
	return nil
}
