package plan

import (
	"context"
	"sync"
	"time"

	"hactl/internal/remote"
)

// applier is the state of one Apply.
type applier struct {
	hosts Hosts
	rep   Reporter
	stop  <-chan struct{}

	mu    sync.Mutex
	out   Applied
	begun map[ID]bool // steps whose change was begun
}

// begin notes that the changes of these steps begin.
func (a *applier) begin(items []*Item) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, it := range items {
		a.begun[it.Step.ID] = true
	}
}

func (a *applier) result() *Applied {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.out
	return &out
}

func (a *applier) stopped(ctx context.Context) bool {
	select {
	case <-a.stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func (a *applier) done(s *Step, t *Timing, c *Change) {
	a.mu.Lock()
	a.out.Done++
	a.out.Timings = append(a.out.Timings, *t)
	a.mu.Unlock()
	e := withOp(event(StepDone, t.Stage, s, c.Summary), c)
	e.Elapsed = time.Since(t.Start)
	a.rep.Report(e)
}

func (a *applier) failed(stage string, s *Step, start time.Time, err error) error {
	e := event(StepFailed, stage, s, "")
	e.Err, e.Elapsed = err.Error(), time.Since(start)
	a.rep.Report(e)
	return &StepError{ID: s.ID, Err: err}
}

// recheck looks freshly at items; the results are in the same order.
func recheck(ctx context.Context, h remote.Host, items []*Item, rep Reporter) []*Item {
	if len(items) == 0 {
		return nil
	}
	out := make([]*Item, len(items))
	for i, it := range items {
		out[i] = &Item{Step: it.Step}
	}
	checkItems(ctx, h, out, rep)
	return out
}

func event(k Kind, stage string, s *Step, text string) Event {
	return Event{Time: time.Now(), Kind: k, Stage: stage, Host: s.Host, Step: s.ID, Text: text}
}

func withOp(e Event, c *Change) Event {
	if c != nil {
		e.Op = c.Op
	}
	return e
}

func summary(it *Item) string {
	if it.Change == nil {
		return it.Step.Title
	}
	return it.Change.Summary
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func pendingIn(items []*Item) int {
	n := 0
	for _, it := range items {
		if it.Change != nil {
			n++
		}
	}
	return n
}
