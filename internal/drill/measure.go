package drill

import (
	"fmt"
	"math"
	"time"
)

// Measured is what one check found in one run. Least and Most bound the fault's part:
// Most leaves out only what is known to be the machine's, Least all that may be.
// They are milliseconds, counts or percent, as the check's unit says.
type Measured struct {
	Seen    float64 // without any difference made
	Least   float64
	Most    float64
	Noise   float64 // milliseconds of what was seen in which the machine stood still
	Before  float64 // the largest gap before the fault; 0 for checks that are no gap
	AtFault float64 // the largest gap that began within a second of the fault
	Failed  int     // requests of the whole run that failed
	Sent    int
	Why     string // why it cannot be told, where that is not the noise
}

// never stands for something that did not come back before the run's end.
const never = time.Hour

// onset is how long after a fault a gap may begin that the fault has made.
const onset = time.Second

// from is when a check begins to look: at the fault, or when the undo begins, since
// what follows healing may be over before the undo is known to be done.
func (c Check) from(o *Observations) time.Duration {
	if c.Healed {
		return o.UndoBegan
	}
	return o.Fault
}

// measureGap is the longest time without success. What the same requests lacked before
// the fault, and the controls do not explain, they may lack after it, too.
func measureGap(c Check, o *Observations) Measured {
	t := o.track(c.Of)
	n := o.noise(o.besideOf(c.Of)...)
	m := Measured{Sent: len(t.Samples), Failed: failures(t.Samples, o.End)}
	seen := longestGap(t.Samples, c.from(o), o.End)
	m.Seen, m.Noise = millis(seen.Len()), millis(within(n.any, seen))
	var least, most, floor time.Duration
	for _, g := range o.gapsOf(t, n, c.from(o), o.End, c.Bound) {
		least, most = max(least, g.least), max(most, g.most)
	}
	begin, flowed := firstSuccess(t.Samples, 0)
	if flowed {
		for _, g := range o.gapsOf(t, n, begin, o.Fault, c.Bound) {
			floor = max(floor, g.least)
		}
	}
	m.Least, m.Most = millis(max(least-floor, 0)), millis(max(most, least))
	if most == 0 { // no gap longer than the pace
		m.Most = m.Seen
	}
	if c.Healed {
		return m
	}
	if flowed {
		m.Before = millis(longestGap(t.Samples, begin, o.Fault).Len())
	}
	for _, g := range gaps(t.Samples, o.Fault, o.End, 0) {
		if g.From <= o.Fault+onset {
			m.AtFault = max(m.AtFault, millis(g.Len()))
		}
	}
	return m
}

// measureFailures counts requests that failed. One that had no answer in time while the
// machine stood still for a good part of that time may have failed for that.
func measureFailures(c Check, o *Observations) Measured {
	t := o.track(c.Of)
	n := o.noise(o.besideOf(c.Of)...)
	m := Measured{Sent: len(t.Samples), Failed: failures(t.Samples, o.End)}
	for _, s := range t.Samples {
		if s.OK || s.Start < c.from(o) || s.Start > o.End {
			continue
		}
		m.Most++
		if stood := within(n.any, Span{s.Start, s.End}); stood > 0 && stood >= (s.End-s.Start)/4 {
			m.Noise = max(m.Noise, millis(stood))
			continue
		}
		m.Least++
	}
	m.Seen = m.Most
	return m
}

// loses is the share of its requests that a service with a dead replica among four loses:
// the least that a share of failures has to find.
const loses = 0.25

// fewFor reports whether so many failures among so many requests may be chance, more than
// once in ten thousand times, where a quarter of them is lost.
func fewFor(failed, sent int) bool {
	sum, term := 0.0, math.Pow(1-loses, float64(sent)) // of the binomial distribution
	for k := 0; k <= failed; k++ {
		sum += term
		term *= float64(sent-k) / float64(k+1) * loses / (1 - loses)
	}
	return sum > 0.0001
}

// measureLoss is the share, in percent, of requests that failed while others succeeded.
// It begins a second after the fault, or with the end of the gap that the fault has made;
// for what is rescheduled some seconds after that, before which requests are sent to
// replicas that are gone. Within a gap as long as an outage no request counts.
func measureLoss(c Check, o *Observations) Measured {
	t := o.track(c.Of)
	n := o.noise(o.besideOf(c.Of)...)
	from := o.Fault + onset
	var out []Span
	for _, g := range gaps(t.Samples, o.Fault, o.End, 2*t.Pace) {
		if g.From <= o.Fault+onset {
			from = max(from, g.To)
		}
		if g.Len() > outageFrom(t.Pace) {
			out = append(out, Span{sentBefore(t, g), g.To})
		}
	}
	if c.after != "" {
		from = o.End
		if at, ok := o.Found[c.after]; ok {
			from = at + forget
		}
	}
	out = union(out)
	var sent, failed, clear int
	for _, s := range t.Samples {
		if s.Start < from || s.Start > o.End || within(out, Span{s.Start, s.Start + 1}) > 0 {
			continue
		}
		sent++
		if !s.OK {
			failed++
			if within(n.any, Span{s.Start, s.End}) == 0 {
				clear++
			}
		}
	}
	m := Measured{Sent: len(t.Samples), Failed: failures(t.Samples, o.End)}
	if float64(failed) <= c.Most/100*float64(sent) && fewFor(failed, sent) {
		m.Most, m.Why = 100, fmt.Sprintf("%d requests are too few for a share", sent)
		return m
	}
	m.Most, m.Least = share(failed, sent), share(clear, sent)
	m.Seen = m.Most
	return m
}

// sentBefore is when the request was sent whose success begins the gap: what was sent
// after it and failed may have met the same outage, though that answer was late.
func sentBefore(t *Track, g Span) time.Duration {
	at := g.From
	for _, s := range t.Samples {
		if s.OK && s.End == g.From {
			at = min(at, s.Start)
		}
	}
	return at
}

func share(n, of int) float64 { return round1(100 * float64(n) / float64(of)) }

// forget is how long a service may still be sent to replicas that are gone once others
// are ready: the nodes' proxies are told within seconds.
const forget = 5 * s1

// lasted is a time in which something was not as it must be, with the noise in it.
func (o *Observations) lasted(from, took time.Duration) Measured {
	stood := within(o.noise().any, Span{from, from + took})
	return Measured{Seen: millis(took), Most: millis(took), Least: millis(took - stood), Noise: millis(stood)}
}

// measureBack is how long after the undo began the first request succeeded.
func measureBack(c Check, o *Observations) Measured {
	if at, ok := firstSuccess(o.track(c.Of).Samples, o.UndoBegan); ok {
		return o.lasted(o.UndoBegan, at-o.UndoBegan)
	}
	return Measured{Seen: millis(never), Most: millis(never), Least: millis(never)}
}

// measureRefused is how long requests went on to succeed once the fault was in effect:
// stopping a member takes seconds, in which it still serves. What succeeds in the last
// moment before the undo is known to be done is the recovery.
func measureRefused(c Check, o *Observations) Measured {
	from := max(o.Fault, o.Proved)
	var m Measured
	for _, s := range o.track(c.Of).Samples {
		if s.OK && s.End >= from && s.End <= o.UndoBegan {
			m.Most = millis(s.End - from)
			m.Least = max(m.Least, millis(s.Start-from))
		}
	}
	m.Seen = m.Most
	m.Noise = m.Most - m.Least
	return m
}

// measureOwners is the longest time with two owners of the VIP.
func measureOwners(c Check, o *Observations) Measured {
	return o.longest(c, func(n int) bool { return n > 1 })
}

// measureHeld is the longest time without an owner.
func measureHeld(c Check, o *Observations) Measured {
	return o.longest(c, func(n int) bool { return n == 0 })
}

func (o *Observations) longest(c Check, want func(int) bool) Measured {
	owners := o.Owners
	if c.Spared {
		owners = o.spared(owners)
	}
	at := longest(owners, c.from(o), o.End, want)
	return o.lasted(at.From, at.Len())
}

// measureStays counts the moves of the VIP. One right after its owner, or the machine,
// stood still for as long as silence means death was the right thing to do.
func measureStays(c Check, o *Observations) Measured {
	silence := o.noise().any
	var m Measured
	for _, at := range moves(o.Owners, c.from(o), o.End) {
		m.Most++
		stood := within(silence, Span{at - 2*c.silence, at})
		m.Noise = max(m.Noise, millis(stood))
		if stood < c.silence/2 {
			m.Least++
		}
	}
	if c.Healed && lastHolderLost(o.Owners, c.from(o), o.End) {
		m.Most++
		if m.Noise == 0 {
			m.Least++
		}
	}
	m.Seen = m.Most
	return m
}

// measureFound is how long after the fault what the check waits for was there.
func measureFound(c Check, o *Observations) Measured {
	if at, ok := o.Found[c.Name()]; ok {
		return o.lasted(o.Fault, at-o.Fault)
	}
	return Measured{Seen: millis(never), Most: millis(never), Least: millis(never)}
}

// measureRestart is how long after the fault every victim's apiserver was ready again,
// without the time for which the kubelet waits after earlier restarts.
func measureRestart(_ Check, o *Observations) Measured {
	var worst time.Duration
	for _, host := range o.Victims {
		var back time.Duration // it may be back before it is asked again
		t := o.track(host + readyNew)
		for _, s := range t.Samples {
			if !s.OK && s.Start >= o.Fault { // before its first failure it had not stopped
				back = never
				if at, ok := firstSuccess(t.Samples, s.Start); ok {
					back = at - o.Fault
				}
				break
			}
		}
		worst = max(worst, back)
	}
	if worst == never {
		return Measured{Seen: millis(never), Most: millis(never), Least: millis(never)}
	}
	m := o.lasted(o.Fault, worst)
	m.Most = max(m.Most-millis(o.BackOff), 0)
	m.Least = max(m.Least-millis(o.BackOff), 0)
	return m
}
