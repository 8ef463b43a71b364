package preflight

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hactl/internal/remote"
)

// State is the outcome of a check: the worst of its findings.
type State string

// The states of a check.
const (
	Passed  State = "passed"
	Failed  State = "error"
	Weak    State = "warning"
	NotSeen State = "unknown"
	Ignored State = "ignored" // it found something, and --ignore names it
)

// Result is what one check found.
type Result struct {
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Severity Severity  `json:"severity"`
	State    State     `json:"state"`
	Findings []Finding `json:"findings"`
}

// Report is what a preflight found, in the order of the list.
type Report struct {
	Cluster string        `json:"cluster"`
	Results []Result      `json:"checks"`
	Took    time.Duration `json:"took_ns"`
}

// add judges the findings of one check.
func (r *Report) add(k Check, found []Finding, ignored bool) {
	res := Result{ID: k.ID, Title: k.Title, Severity: k.Severity, State: Passed, Findings: []Finding{}}
	for _, f := range found {
		if f.Severity == "" {
			f.Severity = k.Severity
		}
		if f.Hint == "" && f.Severity != Unknown {
			f.Hint = k.Hint
		}
		f.Message, f.Hint = remote.Clean(f.Message), remote.Clean(f.Hint)
		res.Findings = append(res.Findings, f)
		res.State = worse(res.State, f.Severity)
	}
	if ignored && res.State != Passed {
		res.State = Ignored
	}
	r.Results = append(r.Results, res)
}

func worse(s State, f Severity) State {
	rank := map[State]int{Passed: 0, Weak: 1, NotSeen: 2, Failed: 3}
	if t := State(f); rank[t] > rank[s] {
		return t
	}
	return s
}

// Count returns how many checks ended in the state.
func (r *Report) Count(s State) int {
	n := 0
	for _, res := range r.Results {
		if res.State == s {
			n++
		}
	}
	return n
}

// Blind reports whether a check that would be an error could not look.
func (r *Report) Blind() bool {
	for _, res := range r.Results {
		if res.State == NotSeen && res.Severity == Error {
			return true
		}
	}
	return false
}

// Refuses reports whether something belongs to others and was not permitted.
func (r *Report) Refuses() bool {
	return slices.ContainsFunc(r.Results, func(res Result) bool { return res.ID == othersID && res.State == Failed })
}

// Err joins every finding that must be mended before the hosts can be a
// cluster; it is nil when there is none. What could not be looked at is not in
// it: see Blind.
func (r *Report) Err() error {
	var errs []error
	for _, res := range r.Results {
		if res.State != Failed {
			continue
		}
		for _, f := range res.Findings {
			if f.Severity != Error {
				continue
			}
			err := fmt.Errorf("preflight %s: %s", res.ID, f.Message)
			if f.Host != "" {
				err = fmt.Errorf("%s: preflight %s: %s", f.Host, res.ID, f.Message)
			}
			if f.Hint != "" && res.ID == othersID {
				err = remote.Hint(err, "%s", f.Hint)
			} else if f.Hint != "" {
				err = remote.Hint(err, "%s (or --ignore %s)", f.Hint, res.ID)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Group is hosts that share a finding.
type Group struct {
	Finding
	Hosts []string
}

// Grouped puts hosts with the same finding together, in order.
func (r Result) Grouped() []Group {
	var out []Group
	for _, f := range r.Findings {
		i := slices.IndexFunc(out, func(g Group) bool {
			return g.Severity == f.Severity && g.Message == f.Message && g.Hint == f.Hint
		})
		if i < 0 {
			out = append(out, Group{Finding: f})
			i = len(out) - 1
		}
		if f.Host != "" {
			out[i].Hosts = append(out[i].Hosts, f.Host)
		}
	}
	return out
}
