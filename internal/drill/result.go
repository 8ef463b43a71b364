package drill

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// observe is what was seen of the run by now.
func (r *runner) observe() *Observations {
	r.mu.Lock()
	o := &Observations{
		Fault: r.fault, Proved: r.proved, UndoBegan: r.undoBegan, Undone: r.undone, Healed: r.healed, End: r.end,
		Stalls: slices.Clone(r.stalls), Found: maps.Clone(r.found), BackOff: r.backOff, Deadline: r.opt.Deadline,
	}
	r.mu.Unlock()
	if o.End == 0 {
		o.End = time.Since(r.zero)
	}
	o.Owners, o.Leaders = r.owners.until(o.End), r.leaders.until(o.End)
	for _, k := range r.injections {
		o.Victims = append(o.Victims, k.Member.Name)
		o.EtcdHit = o.EtcdHit || k.Fault.Etcd && k.Member.Master
	}
	for _, s := range r.traffic.Streams {
		o.Tracks = append(o.Tracks, Track{Name: s.Name, Role: s.role, Host: s.host, Pace: r.opt.Interval * time.Duration(s.every), Samples: s.Samples()})
	}
	return o
}

// report turns the finished run into what is kept of it, judged.
func (r *runner) report() *Run {
	o := r.observe()
	run := &Run{
		ID: r.id, Started: r.zero, From: r.from,
		FaultMS: millis(o.Fault), ProvedMS: millis(o.Proved), UndoMS: millis(o.Undone),
		HealedMS: millis(o.Healed), EndMS: millis(o.End), IntervalMS: millis(r.opt.Interval),
		Owners: lanesOf(r.c, o.Owners), Leaders: lanesOf(r.c, o.Leaders),
		Acked: r.ledger.count(), Lost: r.lost, Values: map[string]Value{}, Problems: r.problems,
		ResolutionMS: millis(o.resolution(o.track(vipReady))), Noise: []SpanMS{}, observations: o,
	}
	n := o.noise()
	for _, s := range n.any {
		run.Noise = append(run.Noise, spanMS(Span{max(s.From, 0), s.To}))
	}
	for _, k := range r.injections {
		run.Victims = append(run.Victims, Victim{k.Member.Name, k.Fault.What})
	}
	for i, s := range r.traffic.Streams {
		run.Streams = append(run.Streams, o.streamReport(&o.Tracks[i], n, s.err()))
	}
	if o.Proved == 0 {
		return run
	}
	if n := len(r.lost); n > 0 {
		run.Problems = append(run.Problems, fmt.Sprintf("%d acknowledged writes were lost, the first: %s", n, r.lost[0]))
	}
	run.Values = judge(r.sc.Checks, o)
	return run
}

// streamReport sums a track up: its requests of the whole run, its gap since the
// fault.
func (o *Observations) streamReport(t *Track, n *noise, last error) StreamReport {
	worst := longestGap(t.Samples, o.Fault, o.End)
	out := StreamReport{
		Name: t.Name, Role: t.Role, PaceMS: millis(t.Pace), Sent: len(t.Samples), Failed: failures(t.Samples, o.End),
		GapMS: millis(worst.Len()), GapAtMS: millis(worst.From),
		Outages: []SpanMS{}, Failures: []SpanMS{},
	}
	var took []float64
	for _, x := range t.Samples {
		if x.OK {
			took = append(took, millis(x.End-x.Start))
		}
	}
	out.P50MS, out.P99MS = percentile(took, 50), percentile(took, 99)
	outages := gaps(t.Samples, 0, o.End, outageFrom(t.Pace))
	for _, g := range outages {
		out.Outages = append(out.Outages, spanMS(g))
	}
	for _, s := range intersect(union(outages), o.explained(t, n)) {
		out.Excused = append(out.Excused, spanMS(s))
	}
	out.Failures = failing(t.Samples, 4*t.Pace)
	if last != nil {
		out.LastErr = last.Error()
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
