package drill

import (
	"fmt"
	"slices"
)

// judge is every check on what was observed of one run. It is a pure function: the same
// observations get the same verdicts.
func judge(checks []Check, o *Observations) map[string]Value {
	out := map[string]Value{}
	for _, c := range checks {
		out[c.Name()] = c.judge(o)
	}
	return out
}

// judge compares the fault's part with the bound, without tolerance: met when all of
// it that there can be is within the bound, missed when all that is certain is beyond
// it, unclear in between.
func (c Check) judge(o *Observations) Value {
	m := c.measure(c, o)
	v := Value{
		Measured: m.Most, Least: m.Least, Seen: m.Seen, Noise: round1(m.Noise),
		Before: m.Before, AtFault: m.AtFault, Failed: m.Failed, Sent: m.Sent,
	}
	switch limit := c.limit(); {
	case m.Why != "":
		v.Verdict, v.Why = Unclear, m.Why
	case m.Most <= limit:
		v.Verdict = Met
	case m.Least > limit:
		v.Verdict = Missed
	default:
		v.Verdict, v.Why = Unclear, c.doubt(m, o)
	}
	v.Met = v.Verdict == Met
	return v
}

// doubt is why a check is unclear.
func (c Check) doubt(m Measured, o *Observations) string {
	switch {
	case c.Unit == InTime && m.Noise > 0:
		return fmt.Sprintf("the machine stood still for %.0f of the %.0f ms", m.Noise, m.Seen)
	case c.Unit == InTime && m.Before > c.limit()/2:
		return fmt.Sprintf("the same requests had gaps of %.0f ms before the fault", m.Before)
	case c.Unit == InTime && c.Kind == Gap:
		return fmt.Sprintf("requests tell outages apart by %.0f ms", millis(o.resolution(o.track(c.Of))))
	case m.Noise > 0:
		return fmt.Sprintf("the machine stood still for %.0f ms in that time", m.Noise)
	}
	return "what was slow may have been the machine"
}

// outcomes puts the runs of a scenario together, check by check. What no run
// measured, since none got as far as the fault, is left out, and so are runs that
// were repeated since they were unclear.
func outcomes(sc Scenario, runs []*Run) []Outcome {
	var out []Outcome
	for _, c := range sc.Checks {
		o := Outcome{Check: c.Name(), Unit: c.Unit, Bound: c.limit(), Verdict: Met}
		for _, r := range runs {
			if v, ok := r.Values[c.Name()]; ok && !r.SetAside {
				o.add(v)
			}
		}
		o.Met = o.Verdict == Met
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
	o.Seen, o.Noise = max(o.Seen, v.Seen), max(o.Noise, v.Noise)
	if o.Sent == 0 || v.Failed*o.Sent > o.Failed*v.Sent { // the largest share of all runs
		o.Failed, o.Sent = v.Failed, v.Sent
	}
	if worse(v.Verdict, o.Verdict) {
		o.Verdict, o.Why = v.Verdict, v.Why
	}
}

// worse orders verdicts: a miss is one whatever else was seen, a doubt outweighs a met.
func worse(a, b string) bool {
	order := []string{Met, Unclear, Missed, Failed}
	return slices.Index(order, a) > slices.Index(order, b)
}

// verdict of a scenario: what went wrong outside of the bounds weighs more.
func verdict(res *Result) string {
	if res.problem() != "" || len(res.Checks) == 0 { // no run got as far as the fault
		return Failed
	}
	out := Met
	for _, o := range res.Checks {
		if worse(o.Verdict, out) {
			out = o.Verdict
		}
	}
	return out
}

// unclear reports whether a run decided nothing: no check was missed, one is unclear.
func (r *Run) unclear() bool {
	worst := Met
	for _, v := range r.Values {
		if worse(v.Verdict, worst) {
			worst = v.Verdict
		}
	}
	return worst == Unclear && len(r.Problems) == 0
}
