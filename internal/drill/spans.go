package drill

import (
	"slices"
	"time"
)

// union merges spans into ones that do not overlap, in order.
func union(lists ...[]Span) []Span {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b Span) int { return int(a.From - b.From) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

// intersect is what lies in both. Each list is in order and without overlaps, as
// [union] returns it.
func intersect(a, b []Span) []Span {
	var out []Span
	for i, j := 0, 0; i < len(a) && j < len(b); {
		from, to := max(a[i].From, b[j].From), min(a[i].To, b[j].To)
		if from < to {
			out = append(out, Span{from, to})
		}
		if a[i].To < b[j].To {
			i++
		} else {
			j++
		}
	}
	return out
}

// within is how much of the window the spans fill. They are in order and without
// overlaps.
func within(spans []Span, window Span) time.Duration {
	var sum time.Duration
	i, _ := slices.BinarySearchFunc(spans, window.From, func(s Span, at time.Duration) int { return int(s.To - at) })
	for ; i < len(spans) && spans[i].From < window.To; i++ {
		if d := min(spans[i].To, window.To) - max(spans[i].From, window.From); d > 0 {
			sum += d
		}
	}
	return sum
}
