package drill

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// report turns the finished run into what is kept of it, judged.
func (r *runner) report() *Run {
	owners, leaders := r.owners.until(r.end), r.leaders.until(r.end)
	run := &Run{
		ID: r.id, Started: r.zero, From: r.from,
		FaultMS: millis(r.fault), ProvedMS: millis(r.proved), UndoMS: millis(r.undone),
		HealedMS: millis(r.healed), EndMS: millis(r.end),
		Owners: lanesOf(r.c, owners), Leaders: lanesOf(r.c, leaders),
		Acked: r.ledger.count(), Lost: r.lost, Values: map[string]Value{}, Problems: r.problems,
	}
	for _, k := range r.strikes {
		run.Victims = append(run.Victims, Victim{k.Member.Name, k.Fault.What})
	}
	for _, s := range r.traffic.Streams {
		run.Streams = append(run.Streams, r.streamReport(s))
	}
	if r.proved == 0 {
		return run
	}
	if n := len(r.lost); n > 0 {
		run.Problems = append(run.Problems, fmt.Sprintf("%d acknowledged writes were lost, the first: %s", n, r.lost[0]))
	}
	for _, c := range r.sc.Checks {
		run.Values[c.Name()] = r.measure(c, owners)
	}
	return run
}

// onset is how long after a fault a gap may begin that the fault has made.
const onset = time.Second

// never stands for something that did not come back before the run's end.
const never = time.Hour

// measure is one check on this run. Gap times are compared as they were
// measured, without tolerance.
func (r *runner) measure(c Check, owners map[string][]Span) Value {
	from := r.fault
	if c.Healed {
		from = r.undoBegan // what follows healing may be over before the undo is known to be done
	}
	if c.Spared {
		owners = maps.Clone(owners)
		for _, k := range r.strikes {
			delete(owners, k.Member.Name)
		}
	}
	if c.Kind == Refused {
		from = max(r.fault, r.proved) // stopping a member takes seconds, in which it still serves
	}
	switch c.Kind {
	case Failures:
		n := failures(r.samples(c.Of), from, r.end)
		return Value{Measured: float64(n), Met: n == 0}
	case Stays:
		n := moves(owners, from, r.end)
		if c.Healed {
			n += left(owners, from, r.end)
		}
		return Value{Measured: float64(n), Met: n == 0}
	case Gap, Back, Refused, Owners, Held, NewLeader, Rescheduled:
	}
	d := r.duration(c, from, owners)
	v := Value{Measured: millis(d), Met: d <= c.Bound}
	samples := r.samples(c.Of)
	if c.Kind == Gap {
		v.Failed, v.Sent = failures(samples, 0, r.end), len(samples)
	}
	if c.Kind == Gap && !c.Healed {
		if begin, ok := firstSuccess(samples, 0); ok {
			v.Before = millis(longestGap(samples, begin, r.fault).Len())
		}
		for _, g := range gaps(samples, r.fault, r.end, 0) {
			if g.From <= r.fault+onset {
				v.AtFault = max(v.AtFault, millis(g.Len()))
			}
		}
	}
	return v
}

func (r *runner) duration(c Check, from time.Duration, owners map[string][]Span) time.Duration {
	switch c.Kind {
	case Gap:
		return longestGap(r.samples(c.Of), from, r.end).Len()
	case Back:
		if at, ok := firstSuccess(r.samples(c.Of), r.undoBegan); ok {
			return at - r.undoBegan
		}
		return never
	case Refused:
		// The traffic goes on while the undo runs; what succeeds in the last
		// moment before it is known to be done is the recovery.
		if at, ok := lastSuccess(r.samples(c.Of), from, r.undoBegan); ok {
			return at - from
		}
		return 0
	case Owners:
		return longest(owners, from, r.end, func(n int) bool { return n > 1 })
	case Held:
		return longest(owners, from, r.end, func(n int) bool { return n == 0 })
	case NewLeader, Rescheduled:
		if at, ok := r.found[c.Name()]; ok {
			return at - from
		}
		return never
	case Failures, Stays:
	}
	return never
}

func (r *runner) samples(stream string) []Sample {
	if s := r.traffic.stream(stream); s != nil {
		return s.Samples()
	}
	return nil
}

// streamReport sums a stream up: its requests of the whole run, its gap since the
// fault.
func (r *runner) streamReport(s *Stream) StreamReport {
	samples := s.Samples()
	worst := longestGap(samples, r.fault, r.end)
	out := StreamReport{
		Name: s.Name, Sent: len(samples), Failed: failures(samples, 0, r.end),
		GapMS: millis(worst.Len()), GapAtMS: millis(worst.From),
		Outages: []SpanMS{}, Failures: []SpanMS{},
	}
	var took []float64
	for _, x := range samples {
		if x.OK {
			took = append(took, millis(x.End-x.Start))
		}
	}
	out.P50MS, out.P99MS = percentile(took, 50), percentile(took, 99)
	pace := r.opt.Interval * time.Duration(s.every)
	for _, g := range gaps(samples, 0, r.end, outageFrom(pace)) {
		out.Outages = append(out.Outages, spanMS(g))
	}
	out.Failures = failing(samples, 4*pace)
	if err := s.err(); err != nil {
		out.LastErr = err.Error()
	}
	return out
}

// outageFrom is the shortest gap that pictures show as an outage: below it,
// a late answer or two look the same.
func outageFrom(pace time.Duration) time.Duration { return max(5*pace, 80*time.Millisecond) }

// failing merges failed requests closer than join into stretches.
func failing(samples []Sample, join time.Duration) []SpanMS {
	bad := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.OK })
	slices.SortFunc(bad, func(a, b Sample) int { return int(a.Start - b.Start) })
	out := []SpanMS{}
	var at Span
	for i, s := range bad {
		if i == 0 || s.Start-at.To > join {
			if i > 0 {
				out = append(out, spanMS(at))
			}
			at = Span{s.Start, s.Start}
		}
		at.To = s.Start
	}
	if len(bad) > 0 {
		out = append(out, spanMS(at))
	}
	return out
}

func spanMS(s Span) SpanMS { return SpanMS{millis(s.From), millis(s.To)} }

func lanesOf(c *Cluster, spans map[string][]Span) []Lane {
	out := []Lane{}
	for _, m := range c.Masters() {
		l := Lane{Host: m.Name, Spans: []SpanMS{}}
		for _, s := range spans[m.Name] {
			l.Spans = append(l.Spans, spanMS(s))
		}
		out = append(out, l)
	}
	return out
}

// outcomes puts the runs of a scenario together, check by check. What no run
// measured, since none got as far as the fault, is left out.
func outcomes(sc Scenario, runs []*Run) []Outcome {
	var out []Outcome
	for _, c := range sc.Checks {
		o := Outcome{Check: c.Name(), Unit: "ms", Bound: millis(c.Bound), Met: true}
		if c.Kind == Failures || c.Kind == Stays {
			o.Unit, o.Bound = "count", 0
		}
		for _, r := range runs {
			if v, ok := r.Values[c.Name()]; ok {
				o.add(v)
			}
		}
		o.P50, o.P95, o.Max = percentile(o.Values, 50), percentile(o.Values, 95), percentile(o.Values, 100)
		if o.Values != nil {
			out = append(out, o)
		}
	}
	return out
}

func (o *Outcome) add(v Value) {
	o.Values = append(o.Values, v.Measured)
	o.Before, o.AtFault = max(o.Before, v.Before), max(o.AtFault, v.AtFault)
	if o.Sent == 0 || v.Failed*o.Sent > o.Failed*v.Sent { // the largest share of all runs
		o.Failed, o.Sent = v.Failed, v.Sent
	}
	o.Met = o.Met && v.Met
}

// verdict of a scenario: what went wrong outside of the bounds weighs more.
func verdict(res *Result) string {
	switch {
	case res.problem() != "":
		return Failed
	case slices.ContainsFunc(res.Checks, func(o Outcome) bool { return !o.Met }):
		return Missed
	case len(res.Checks) == 0: // no run got as far as the fault
		return Failed
	}
	return Met
}
