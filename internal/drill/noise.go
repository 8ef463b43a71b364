package drill

import (
	"slices"
	"time"
)

// noise is when the machines stood still or were slow, as far as the controls and the
// client's own clock tell. What is in it did not come from the fault.
type noise struct {
	// any is every moment at which some control that was not hit had no prompt answer,
	// or this process stood still. It is wide: an accusation must hold without it.
	any []Span
	// firm is by host when that machine, not only its apiserver, was slow: its echo was
	// late, or its apiserver together with another host. It is narrow: only this excuses.
	firm map[string][]Span
	// shared is the same for what has no fixed host: this process stood still, or two
	// hosts were slow at once.
	shared []Span
}

// prompt is how much later than usual an answer may be and still be in time.
const prompt = 10 * ms

// noise reads the controls. beside are names of further tracks that serve as controls.
func (o *Observations) noise(beside ...string) *noise {
	stalls := union(o.Stalls)
	wide, api, echo := map[string][]Span{}, map[string][]Span{}, map[string][]Span{}
	all := slices.Clone(stalls)
	for i := range o.Tracks {
		t := &o.Tracks[i]
		if t.Role == Judged && !slices.Contains(beside, t.Name) {
			continue
		}
		near, far := o.slow(t)
		switch t.Role {
		case Control:
			api[t.Host] = union(api[t.Host], near)
		case Echo:
			echo[t.Host] = union(echo[t.Host], near)
		case Judged:
			all = append(all, far...)
			continue
		}
		wide[t.Host] = union(wide[t.Host], far)
		all = append(all, far...)
	}
	n := &noise{any: union(all), firm: map[string][]Span{}, shared: stalls}
	for host := range wide {
		var others []Span
		for other, spans := range wide {
			if other != host {
				others = union(others, spans)
			}
		}
		both := intersect(union(api[host], echo[host]), others)
		n.firm[host] = union(stalls, echo[host], both)
		n.shared = union(n.shared, both)
	}
	return n
}

// slow is when answers of the track were late: narrowly, from when they were due, and
// widely, from when the request before them may still have been in time. Of a victim
// only what was before the fault counts, of a host that an operation touches only what
// was before and after. An error that comes at once is no slowness.
func (o *Observations) slow(t *Track) (near, far []Span) {
	usual := o.usual(t, 50)
	for _, s := range t.Samples {
		took := s.End - s.Start
		if took <= usual+prompt || !s.OK && !o.timedOut(s) || o.hit(t.Host) && s.End > o.Fault {
			continue
		}
		if within(o.Touched[t.Host], Span{s.Start, s.End}) > 0 {
			continue
		}
		near = append(near, Span{s.Start + usual, s.End})
		far = append(far, Span{s.Start - t.Pace, s.End})
	}
	return union(near), union(far)
}

// steady is when the VIP was on a host that the fault did not hit, and on no other, by
// host. A victim counts until the fault. While etcd is what was hit and the track needs
// it, its leader has to be steady too.
func (o *Observations) steady(needsEtcd bool) map[string][]Span {
	out := map[string][]Span{}
	led := []Span{{0, o.End}}
	if needsEtcd {
		led = nil
		for host, spans := range o.Leaders {
			led = union(led, o.unhit(host, spans))
		}
	}
	for host, spans := range o.Owners {
		out[host] = intersect(o.unhit(host, spans), led)
	}
	return out
}

// unhit is the spans of a host up to the fault, or all of them when it was not hit.
func (o *Observations) unhit(host string, spans []Span) []Span {
	spans = union(spans)
	if o.hit(host) {
		return intersect(spans, []Span{{0, o.Fault}})
	}
	return spans
}

// explained is when a track that was not answered could not have been: its address was
// where it belongs, and the machine behind it stood still.
func (o *Observations) explained(t *Track, n *noise) []Span {
	switch t.Name {
	case vipReady, vipRead, vipWrite:
		var out []Span
		for host, spans := range o.steady(t.Name != vipReady && o.EtcdHit) {
			out = union(out, intersect(spans, n.firm[host]))
		}
		return out
	case etcdWrite:
		var out []Span
		for host, spans := range o.Leaders {
			out = union(out, intersect(o.unhit(host, spans), n.firm[host]))
		}
		return out
	}
	return n.shared
}

// besideOf are the judged tracks that are controls of another: etcd's own writes for
// what goes to etcd through an apiserver, unless etcd was hit.
func (o *Observations) besideOf(name string) []string {
	if (name == vipRead || name == vipWrite) && !o.EtcdHit {
		return []string{etcdWrite}
	}
	return nil
}

// gapOf is a gap with what of it is the machine's.
type gapOf struct {
	Span
	least, most time.Duration // the fault's part lies between these
	noise       time.Duration // of it the controls were slow
}

// gapsOf attributes every gap of the track in [from, to] that could matter. What is
// explained is excused up to the bound: more could hide a miss. So an outage of twice
// the bound is never met, whatever the machine does meanwhile.
func (o *Observations) gapsOf(t *Track, n *noise, from, to, bound time.Duration) []gapOf {
	res, explained := o.resolution(t), o.explained(t, n)
	var out []gapOf
	for _, g := range gaps(t.Samples, from, to, t.Pace) {
		whole := Span{o.opened(t, g.From), g.To}
		k := gapOf{Span: g, noise: within(n.any, g)}
		k.least = max(g.Len()-k.noise-res, 0)
		k.most = whole.Len()
		if excused := within(explained, whole); excused <= bound {
			k.most = max(k.most-excused, k.least)
		}
		out = append(out, k)
	}
	return out
}

// opened is when the gap that is seen to begin at a time may have begun: an answer that
// was read when this process awoke from a stall may have come at its start.
func (o *Observations) opened(t *Track, at time.Duration) time.Duration {
	for _, stall := range o.Stalls {
		if stall.From > at || stall.To+prompt < at {
			continue
		}
		for _, s := range t.Samples {
			if s.OK && s.End == at {
				return max(s.Start, stall.From)
			}
		}
	}
	return at
}
