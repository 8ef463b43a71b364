package drill

import (
	"math"
	"slices"
	"time"
)

// Span is a stretch of a run, from its start.
type Span struct{ From, To time.Duration }

// Len is how long the span lasts.
func (s Span) Len() time.Duration { return s.To - s.From }

// longestGap is the longest stretch within [from, to] in which no request
// succeeded. Samples are in the order of their end. A success before from and
// the first one after to do not count beyond the window's edges.
func longestGap(samples []Sample, from, to time.Duration) Span {
	worst := Span{from, from}
	for _, g := range gaps(samples, from, to, 0) {
		if g.Len() > worst.Len() {
			worst = g
		}
	}
	return worst
}

// gaps lists the stretches without success in [from, to] longer than least. A
// gap that begins before from is counted from its own beginning: a client saw
// all of it.
func gaps(samples []Sample, from, to, least time.Duration) []Span {
	var out []Span
	last := from
	for _, s := range samples {
		if !s.OK {
			continue
		}
		if s.End <= from {
			last = s.End
			continue
		}
		end := min(s.End, to)
		if end-last > least {
			out = append(out, Span{last, end})
		}
		if last = s.End; last >= to {
			return out
		}
	}
	if to-last > least {
		out = append(out, Span{last, to})
	}
	return out
}

// failures counts the requests that were sent up to a time and failed.
func failures(samples []Sample, to time.Duration) int {
	n := 0
	for _, s := range samples {
		if !s.OK && s.Start <= to {
			n++
		}
	}
	return n
}

// firstSuccess is when the first request sent at or after from succeeded.
func firstSuccess(samples []Sample, from time.Duration) (time.Duration, bool) {
	for _, s := range samples {
		if s.OK && s.Start >= from {
			return s.End, true
		}
	}
	return 0, false
}

// percentile is the nearest-rank percentile of values; 0 without values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Clone(values)
	slices.Sort(v)
	return v[max(int(math.Ceil(p/100*float64(len(v))))-1, 0)]
}
