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

// bounded returns the scenario with bounds from the cluster's settings and from the
// inventory, where its own name sets the first check, name/Key any of them.
func (s Scenario) bounded(settings Settings, bounds map[string]time.Duration) Scenario {
	settings = settings.filled()
	s.Checks = slices.Clone(s.Checks)
	for i := range s.Checks {
		c := &s.Checks[i]
		if c.bound != nil {
			c.Bound = c.bound(settings)
		}
		if c.silence > 0 {
			c.silence = 4 * settings.Advert
		}
		b, ok := bounds[s.Name+"/"+c.Key()]
		if i == 0 && !ok {
			b, ok = bounds[s.Name]
		}
		if ok && c.set != nil {
			*c = c.set(*c, b)
		}
	}
	return s
}

// BoundNames is what a bound of the inventory may be called: every scenario, each with
// its checks behind it. Counts and shares have none.
func BoundNames() []string {
	var out []string
	for _, s := range Scenarios() {
		if s.Checks[0].set != nil {
			out = append(out, s.Name)
		}
		for _, c := range s.Checks {
			if c.set != nil {
				out = append(out, s.Name+"/"+c.Key())
			}
		}
	}
	return out
}
