package plan

import (
	"slices"
	"time"
)

// CriticalPath picks from what ran the steps that the run waited for: of each
// stage the lane that ended last.
func CriticalPath(ts []Timing) []Timing {
	type key struct{ stage, host, lane string }
	ends := map[key]time.Time{}
	last := map[string]key{} // of each stage
	for _, t := range ts {
		k := key{t.Stage, t.Host, t.Lane}
		if t.End.After(ends[k]) {
			ends[k] = t.End
		}
		if ends[k].After(ends[last[t.Stage]]) {
			last[t.Stage] = k
		}
	}
	var out []Timing
	for _, t := range ts {
		if last[t.Stage] == (key{t.Stage, t.Host, t.Lane}) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Timing) int { return a.Start.Compare(b.Start) })
	return out
}
