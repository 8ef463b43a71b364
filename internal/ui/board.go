package ui

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"hactl/internal/plan"
)

// board is what is going on at a moment: the stages that are open and the
// steps that run. It is fed with events and knows nothing of how it is shown.
type board struct {
	stages []*openStage
	steps  map[plan.ID]*runningStep
	seq    int
}

type openStage struct {
	name, text   string
	started      time.Time
	done, failed int
	hosts        map[string]bool
}

type runningStep struct {
	id        plan.ID
	host      string
	text, say string
	started   time.Time
	mentioned time.Time // when plain output last said something of it
	order     int       // grows with every start
	active    int       // grows with every sign of life
}

func newBoard() *board {
	return &board{steps: map[plan.ID]*runningStep{}}
}

// see takes e in.
func (b *board) see(e plan.Event, now time.Time) {
	b.seq++
	switch e.Kind {
	case plan.StageStart:
		b.stages = append(b.stages, &openStage{name: e.Stage, text: e.Text, started: now, hosts: map[string]bool{}})
	case plan.StageDone:
		b.stages = slices.DeleteFunc(b.stages, func(s *openStage) bool { return s.name == e.Stage })
	case plan.StepStart:
		b.steps[e.Step] = &runningStep{
			id: e.Step, host: e.Host, text: opText(e), started: now, mentioned: now, order: b.seq, active: b.seq,
		}
	case plan.StepSay:
		if r := b.steps[e.Step]; r != nil {
			r.say, r.mentioned, r.active = e.Text, now, b.seq
		}
	case plan.StepDone, plan.StepFailed:
		delete(b.steps, e.Step)
		if s := b.stage(e.Stage); s != nil {
			s.hosts[e.Host] = true
			if e.Kind == plan.StepDone {
				s.done++
			} else {
				s.failed++
			}
		}
	case plan.Note:
	}
}

func (b *board) stage(name string) *openStage {
	for _, s := range b.stages {
		if s.name == name {
			return s
		}
	}
	return nil
}

// running lists the steps that run: by host, then by start.
func (b *board) running() []*runningStep {
	out := make([]*runningStep, 0, len(b.steps))
	for _, r := range b.steps {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y *runningStep) int {
		if d := natural(x.host, y.host); d != 0 {
			return d
		}
		return x.order - y.order
	})
	return out
}

// byHost groups running, in the same order.
func (b *board) byHost() [][]*runningStep {
	var out [][]*runningStep
	for _, r := range b.running() {
		if n := len(out); n > 0 && out[n-1][0].host == r.host {
			out[n-1] = append(out[n-1], r)
			continue
		}
		out = append(out, []*runningStep{r})
	}
	return out
}

// liveliest keeps the n steps that gave a sign of life last, in their order.
func liveliest(steps []*runningStep, n int) []*runningStep {
	if len(steps) <= n {
		return steps
	}
	by := slices.Clone(steps)
	slices.SortFunc(by, func(x, y *runningStep) int { return y.active - x.active })
	by = by[:n]
	return slices.DeleteFunc(slices.Clone(steps), func(r *runningStep) bool { return !slices.Contains(by, r) })
}

// flat puts a text of several lines on one.
func flat(s string) string {
	return strings.NewReplacer("\n", " | ", "\t", " ").Replace(strings.TrimRight(s, " \n\t"))
}

// natural compares names as a person sorts them: master-2 before master-10.
func natural(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da == 0 || db == 0 {
			if a[0] != b[0] {
				return int(a[0]) - int(b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
		if d := cmp.Or(len(x)-len(y), strings.Compare(x, y)); d != 0 {
			return d
		}
		a, b = a[da:], b[db:]
	}
	return len(a) - len(b)
}

// digits is how many digits s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
