package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"hactl/internal/remote"
)

// Parallel is how many hosts are worked on at the same time.
const Parallel = 32

// Plan is what Make found: for every step whether it is in sync, would change
// something, or could not be looked at.
type Plan struct {
	Stages []StagePlan
	// Record, when set, is told once for each host what the plan makes there, and what
	// is there as hactl would make it, before Apply changes anything. Its error ends
	// the run. See [WriteOwned].
	Record func(ctx context.Context, h remote.Host, made, inSync []Made) error
}

// StagePlan is a stage with what was found for each of its steps, in order.
type StagePlan struct {
	Name   string
	Serial bool
	Items  []*Item

	roll *rollPlan // nil: an ordinary stage
}

// Item is one step and what Make found: Change nil and Err nil means in sync.
type Item struct {
	Step   *Step
	Change *Change
	Err    error // could not look, or what was seen makes no sense

	answers map[string]Answer
}

// Pending lists the items that would change something, in order.
func (p *Plan) Pending() []*Item {
	return p.filter(func(i *Item) bool { return i.Err == nil && i.Change != nil })
}

// Unknown lists the items that could not be looked at, in order.
func (p *Plan) Unknown() []*Item {
	return p.filter(func(i *Item) bool { return i.Err != nil })
}

// InSync counts the steps that need nothing.
func (p *Plan) InSync() int {
	return len(p.filter(func(i *Item) bool { return i.Err == nil && i.Change == nil }))
}

func (p *Plan) filter(keep func(*Item) bool) []*Item {
	var out []*Item
	for _, s := range p.Stages {
		for _, i := range s.Items {
			if keep(i) {
				out = append(out, i)
			}
		}
	}
	return out
}

// Err joins what could not be looked at, or is nil.
func (p *Plan) Err() error {
	var errs []error
	for _, i := range p.Unknown() {
		errs = append(errs, &StepError{ID: i.Step.ID, Err: i.Err})
	}
	return errors.Join(errs...)
}

// StepError says which step failed.
type StepError struct {
	ID  ID
	Err error
}

// Error puts the step's id before the error.
func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.ID, e.Err) }

// Unwrap returns the error without the step.
func (e *StepError) Unwrap() error { return e.Err }

// Make runs every Check. It changes nothing. A host that cannot be looked at
// makes its items Unknown; Make itself fails only on a broken stage list.
func Make(ctx context.Context, stages []Stage, hosts Hosts, rep Reporter) (*Plan, error) {
	p := &Plan{Stages: make([]StagePlan, len(stages))}
	byHost := map[string][]*Item{}
	var order []string
	ids, scripts := map[ID]bool{}, map[[2]string]string{}
	for i := range stages {
		sp, err := stages[i].items(ctx)
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", stages[i].Name, err)
		}
		p.Stages[i] = sp
		for _, it := range sp.Items {
			s := it.Step
			if ids[s.ID] {
				return nil, fmt.Errorf("step %s is listed twice", s.ID)
			}
			ids[s.ID] = true
			if hosts[s.Host] == nil {
				return nil, fmt.Errorf("step %s: no connection to host %q", s.ID, s.Host)
			}
			// A key stands for one answer: another question under it would get
			// the answer to the first.
			for _, l := range s.Look {
				k := [2]string{s.Host, l.Key}
				if was, asked := scripts[k]; asked && was != l.Script {
					return nil, fmt.Errorf("step %s looks at %q in another way than a step before it", s.ID, l.Key)
				}
				scripts[k] = l.Script
			}
			if byHost[s.Host] == nil {
				order = append(order, s.Host)
			}
			byHost[s.Host] = append(byHost[s.Host], it)
		}
	}
	var g errgroup.Group
	g.SetLimit(Parallel)
	for _, name := range order {
		g.Go(func() error {
			checkItems(ctx, hosts[name], byHost[name], rep)
			return nil
		})
	}
	err := g.Wait()
	for _, st := range p.Stages {
		if st.roll != nil {
			st.roll.settle()
		}
	}
	return p, err
}

// items are the stage's steps in order, none of them checked yet.
func (st *Stage) items(ctx context.Context) (StagePlan, error) {
	sp := StagePlan{Name: st.Name, Serial: st.Serial}
	if st.Roll != nil {
		rp, err := st.Roll.expand(ctx)
		if err != nil {
			return sp, err
		}
		return StagePlan{Name: st.Name, Serial: true, Items: rp.items(), roll: rp}, nil
	}
	for i := range st.Steps {
		sp.Items = append(sp.Items, &Item{Step: &st.Steps[i]})
	}
	return sp, nil
}

// checkItems looks once for all items of a host and checks each.
func checkItems(ctx context.Context, h remote.Host, items []*Item, rep Reporter) {
	var looks []Look
	for _, it := range items {
		looks = append(looks, it.Step.Look...)
	}
	seen, err := look(ctx, h, looks)
	for _, it := range items {
		if err != nil {
			it.Change, it.Err = nil, err
			continue
		}
		it.answers = seen
		env := Env{Host: h, Say: sayer(rep, "", it.Step), seen: seen}
		it.Change, it.Err = it.Step.Check(ctx, env)
	}
}

// sayer returns a Say that reports on behalf of a step.
func sayer(rep Reporter, stage string, s *Step) func(string, ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		rep.Report(event(StepSay, stage, s, fmt.Sprintf(format, args...)))
	}
}
