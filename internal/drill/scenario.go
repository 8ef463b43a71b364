package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
)

// Scenario is one way to break the cluster and what must hold meanwhile.
type Scenario struct {
	Name    string
	Summary string
	// Named means that it was asked for by its name: where it may not run, the
	// drill is refused instead of this scenario skipped.
	Named bool
	// Hits chooses victims by the state of the moment. An error means that this
	// cluster cannot run the scenario.
	Hits func(c *Cluster, s *State) ([]Hit, error)
	// Undone is how the fault is undone, or who does it without hactl, in a few words.
	Undone string
	// Hold is how long the fault lasts before hactl undoes it.
	Hold time.Duration
	// Heals means that the cluster repairs itself while the fault is held; the
	// undo is only run when it did not, and then the run has failed.
	Heals bool
	// Recover bounds the time from the undo to everything healthy.
	Recover time.Duration
	Masters int    // fewest masters
	Workers int    // fewest workers
	Risk    string // must be named with --accept-risk: "quorum"
	Reboots bool   // needs --allow=reboot or power commands
	// Inside adds writes sent to the first victim from itself.
	Inside bool
	// Workload runs ten replicas behind a service and asks it, too.
	Workload bool
	Checks   []Check // the first one carries the scenario's bound
}

// Hit is a fault on a member.
type Hit struct {
	Member *Member
	Fault  Fault
}

// Kind says what a check measures.
type Kind string

// The kinds of checks. All but Stays are compared with a bound in time.
const (
	Gap         Kind = "gap"         // longest time without a successful answer
	Failures    Kind = "failures"    // number of failed requests, must be 0
	Back        Kind = "back"        // from the undo to the first successful answer
	Refused     Kind = "refused"     // this long after the fault is in effect nothing may succeed
	Owners      Kind = "owners"      // longest time with two owners of the VIP
	Held        Kind = "held"        // longest time without an owner of the VIP
	Stays       Kind = "stays"       // number of moves of the VIP, must be 0
	NewLeader   Kind = "new-leader"  // from the fault to a new holder of a lease
	Rescheduled Kind = "rescheduled" // from the fault to ten ready replicas elsewhere
)

// Check is one thing that is measured and judged.
type Check struct {
	Kind   Kind
	Of     string        // stream or lease; empty for checks of the VIP
	Bound  time.Duration // unused for Failures and Stays
	Healed bool          // look only at what comes after the undo
	Spared bool          // look only at hosts that the fault did not hit
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

// Find returns the scenarios of those names, as Named, in the order of the list,
// which is the safe one. Every unknown name is reported at once.
func Find(names ...string) ([]Scenario, error) {
	all := Scenarios()
	var out []Scenario
	for _, s := range all {
		if slices.Contains(names, s.Name) {
			s.Named = true
			out = append(out, s)
		}
	}
	var unknown []string
	for _, n := range names {
		if !slices.ContainsFunc(all, func(s Scenario) bool { return s.Name == n }) {
			unknown = append(unknown, n)
		}
	}
	if unknown != nil {
		return nil, remote.Hint(fmt.Errorf("no scenario is called %s", strings.Join(unknown, ", ")), "see hactl drill --list")
	}
	return out, nil
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

// bounded returns the scenario with bounds from the inventory: its own name
// sets the first check, name/Key any of them. For a check that allows
// no failed request a bound above 0 allows a gap of that length.
func (s Scenario) bounded(bounds map[string]time.Duration) Scenario {
	s.Checks = slices.Clone(s.Checks)
	for i := range s.Checks {
		c := &s.Checks[i]
		b, ok := bounds[s.Name+"/"+c.Key()]
		if i == 0 && !ok {
			b, ok = bounds[s.Name]
		}
		switch {
		case !ok || c.Kind == Stays:
		case c.Kind == Gap && b == 0:
			c.Kind = Failures
		case c.Kind == Failures && b > 0:
			c.Kind, c.Bound = Gap, b
		default:
			c.Bound = b
		}
	}
	return s
}

// BoundNames is what a bound of the inventory may be called: every scenario,
// each with its checks behind it. Whether the VIP stays is no question of time.
func BoundNames() []string {
	var out []string
	for _, s := range Scenarios() {
		if s.Checks[0].Kind != Stays {
			out = append(out, s.Name)
		}
		for _, c := range s.Checks {
			if c.Kind != Stays {
				out = append(out, s.Name+"/"+c.Key())
			}
		}
	}
	return out
}
