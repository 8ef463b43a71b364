package cmd

import (
	"fmt"
	"time"

	"hactl/internal/plan"
	"hactl/internal/ui"
)

// printTimeline prints the critical path from the start of the run: for each
// stage the lane that took longest, step by step with their parts, so that the
// next second to be won is visible.
func (a *app) printTimeline(path []plan.Timing) {
	t := ui.Table{Header: []string{"AT", "TOOK", "STAGE", "STEP"}}
	add := func(start, end time.Time, stage, step string) {
		t.Add(ui.Took(start.Sub(path[0].Start)), ui.Took(end.Sub(start)), stage, step)
	}
	for _, k := range path {
		add(k.Start, k.End, k.Stage, string(k.Step))
		for _, p := range k.Parts {
			add(p.Start, p.End, "", "- "+p.Name)
		}
	}
	fmt.Fprintln(a.stderr, "critical path:")
	_ = t.Write(a.stderr, a.style())
}
