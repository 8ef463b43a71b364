package drill

import (
	"time"
)

// Kind is the word for what a check measures, in its name.
type Kind string

// The kinds of checks.
const (
	Gap         Kind = "gap"         // longest time without a successful answer
	Failures    Kind = "failures"    // number of failed requests, must be 0
	Loss        Kind = "loss"        // share of failed requests while others succeed
	Back        Kind = "back"        // from the undo to the first successful answer
	Refused     Kind = "refused"     // this long after the fault is in effect nothing may succeed
	Owners      Kind = "owners"      // longest time with two owners of the VIP
	Held        Kind = "held"        // longest time without an owner of the VIP
	Stays       Kind = "stays"       // number of moves of the VIP, must be 0
	NewLeader   Kind = "new-leader"  // from the fault to a new holder of a lease
	Rescheduled Kind = "rescheduled" // from the fault to ten ready replicas elsewhere
	Restart     Kind = "restart"     // from the fault to a ready apiserver on its host
)

// Units of checks.
const (
	InTime    = "ms"
	InCounts  = "count"
	InPercent = "%"
)

// Check is one thing that is measured and judged. It carries how: a new kind is a
// value made by a function like those below.
type Check struct {
	Kind   Kind
	Of     string        // stream, lease or process; empty for checks of the VIP
	Bound  time.Duration // of checks in time
	Most   float64       // the bound of checks in other units
	Unit   string
	Healed bool // look only at what comes after the undo
	Spared bool // look only at hosts that the fault did not hit

	// measure is a pure function of what was observed.
	measure func(Check, *Observations) Measured
	// decided reports whether the fault need not last longer for this check; nil means
	// that it needs the whole hold.
	decided func(Check, *Observations) bool
	// bound computes the bound from the cluster's settings; nil leaves it as it is.
	bound func(Settings) time.Duration
	// set is the check with a bound of the inventory; nil means that it cannot have one.
	set func(Check, time.Duration) Check
	// lasts means that it can only be missed while the fault is held.
	lasts bool
	// follow waits for what a check of something that comes back looks for.
	follow  func(*runner, Check) func() (time.Duration, bool)
	after   string        // a loss is looked for only after this check has found something
	silence time.Duration // without a sign of life for so long a host is taken for dead
}

// setBound is the bound of most checks.
func setBound(c Check, b time.Duration) Check {
	c.Bound, c.bound = b, nil
	return c
}

func gap(of string, bound time.Duration) Check {
	return Check{Kind: Gap, Of: of, Bound: bound, Unit: InTime, lasts: true, measure: measureGap, decided: flows, set: func(c Check, b time.Duration) Check {
		if b == 0 {
			return noFailure(c.Of)
		}
		return setBound(c, b)
	}}
}

// gapBy has a bound that follows from the cluster's settings.
func gapBy(of string, bound func(Settings) time.Duration) Check {
	c := gap(of, 0)
	c.bound = bound
	return c
}

// noFailure allows no failed request. A bound above 0 allows a gap of that length.
func noFailure(of string) Check {
	return Check{Kind: Failures, Of: of, Unit: InCounts, measure: measureFailures, set: func(c Check, b time.Duration) Check {
		if b == 0 {
			return c
		}
		return gap(c.Of, b)
	}}
}

// lossless finds the service that answers three requests of four. after names the
// check before whose finding requests may be lost.
func lossless(of, after string) Check {
	return Check{Kind: Loss, Of: of, Most: 5, Unit: InPercent, after: after, measure: measureLoss, decided: func(c Check, o *Observations) bool {
		if c.after == "" {
			return flows(c, o) && sentSince(o.track(c.Of), o.Fault+onset) >= enough
		}
		at, ok := o.Found[c.after]
		return ok && sentSince(o.track(c.Of), at+forget) >= enough
	}}
}

func stays() Check {
	return Check{Kind: Stays, Unit: InCounts, measure: measureStays, decided: calm, silence: 4 * 100 * ms}
}

func oneOwner() Check {
	return Check{Kind: Owners, Bound: twoOwners, Unit: InTime, measure: measureOwners, decided: calm, set: setBound}
}

// healedOwner is for hosts that are cut off: they cannot know that they lost
// the VIP before they hear of the others again.
func healedOwner() Check {
	c := oneOwner()
	c.Bound, c.Healed = s1, true
	return c
}

// oneElsewhere is for the others meanwhile: one of them at a time has the VIP.
func oneElsewhere() Check {
	c := oneOwner()
	c.Spared = true
	return c
}

func owners(bound time.Duration) Check {
	c := oneOwner()
	c.Bound = bound
	return c
}

func held(bound time.Duration) Check {
	return Check{Kind: Held, Bound: bound, Unit: InTime, lasts: true, measure: measureHeld, decided: calm, set: setBound}
}

func healed(c Check) Check {
	c.Healed = true
	return c
}

func back(of string, bound func(Settings) time.Duration) Check {
	return Check{Kind: Back, Of: of, bound: bound, Unit: InTime, measure: measureBack, decided: always, set: setBound}
}

func refused(of string, bound func(Settings) time.Duration) Check {
	return Check{Kind: Refused, Of: of, bound: bound, Unit: InTime, lasts: true, measure: measureRefused, set: setBound, decided: func(c Check, o *Observations) bool {
		return o.End >= max(o.Fault, o.Proved)+c.Bound+2*s1
	}}
}

func newLeader(lease string) Check {
	return Check{Kind: NewLeader, Of: lease, Bound: released, Unit: InTime, measure: measureFound, decided: found, set: setBound, follow: func(r *runner, c Check) func() (time.Duration, bool) {
		before := r.state.Holders[c.Of]
		return func() (time.Duration, bool) { return watchLease(r.watching, r.vip(false), c.Of, before, r.zero) }
	}}
}

func rescheduled(bound time.Duration) Check {
	return Check{Kind: Rescheduled, Bound: bound, Unit: InTime, measure: measureFound, decided: found, set: setBound, follow: func(r *runner, _ Check) func() (time.Duration, bool) {
		return func() (time.Duration, bool) {
			return r.demo.watchRescheduled(r.watching, r.injections[0].Member.Name, r.zero)
		}
	}}
}

func restart(bound time.Duration) Check {
	return Check{Kind: Restart, Of: "kube-apiserver", Bound: bound, Unit: InTime, measure: measureRestart, decided: always, set: setBound}
}

func fixed(d time.Duration) func(Settings) time.Duration {
	return func(Settings) time.Duration { return d }
}

// settled is how long everything must be in order again until a check is decided.
const settled = 1500 * ms

// enough is how many requests tell a share while the fault is held: without a failure
// among them a quarter is not lost. Those of the recovery come on top.
const enough = 40

func sentSince(t *Track, from time.Duration) int {
	n := 0
	for _, s := range t.Samples {
		if s.Start >= from {
			n++
		}
	}
	return n
}

func always(Check, *Observations) bool { return true }

// flows: the stream answers again, without a break for a while.
func flows(c Check, o *Observations) bool {
	from := o.End - settled
	t := o.track(c.Of)
	return from >= o.Proved && longestGap(t.Samples, from, o.End).Len() < outageFrom(t.Pace)
}

// calm: one host that was not hit, or none but a victim, has held the VIP for a while.
func calm(_ Check, o *Observations) bool {
	from := o.End - settled
	return from >= o.Proved && len(moves(o.Owners, from, o.End)) == 0 &&
		longest(o.spared(o.Owners), from, o.End, func(n int) bool { return n > 1 }).Len() == 0
}

// found: what the check waits for is there.
func found(c Check, o *Observations) bool {
	_, ok := o.Found[c.Name()]
	return ok
}

// Name is how the check is called in reports and in the inventory.
func (c Check) Name() string {
	n := string(c.Kind)
	if c.Of != "" {
		n += " " + c.Of
	}
	if c.Spared {
		n += " elsewhere"
	}
	if c.Healed {
		n += " after the undo"
	}
	return n
}

// Key is the check's part of a bound's name in the inventory: the stream, with
// the kind before it unless that is the gap.
func (c Check) Key() string {
	switch {
	case c.Kind == Gap || c.Kind == Failures:
		return c.Of
	case c.Spared:
		return string(c.Kind) + "/elsewhere"
	case c.Of == "":
		return string(c.Kind)
	}
	return string(c.Kind) + "/" + c.Of
}

// limit is the bound as a number of the check's unit.
func (c Check) limit() float64 {
	if c.Unit == InTime {
		return millis(c.Bound)
	}
	return c.Most
}

// Limit is the bound for a person.
func (c Check) Limit() string {
	switch c.Unit {
	case InTime:
		return short(c.Bound)
	case InPercent:
		return (&Outcome{Unit: InPercent}).Format(c.Most)
	}
	return "0"
}
