package drill

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
)

// Options are what an operator chooses.
type Options struct {
	Repeat     int           // runs of each scenario, 1 to 1000
	Settle     time.Duration // wait for health before each run, at most
	Interval   time.Duration // between two requests of a stream, 5ms to 1s; 0: calibrated
	Deadline   time.Duration // of one request
	Armed      time.Duration // after the hold, when the hosts undo by themselves, at least 10s
	Hold       time.Duration // overrides the scenarios' own when more than 0
	UntilClear int           // how often an unclear run is done again, 0 to 20
	AcceptRisk []string      // "quorum", "drift"
	Allow      []string      // "reboot"
	Bounds     map[string]time.Duration

	warm, tail time.Duration // traffic before the fault and after the recovery
}

// Defaults of Options.
const (
	DefaultInterval = 20 * time.Millisecond // the shortest that calibration chooses
	DefaultSettle   = 3 * time.Minute
	DefaultArmed    = time.Minute
	defaultRecover  = 3 * time.Minute
	warmUp          = 1500 * time.Millisecond
	tail            = 2 * time.Second
)

func (o *Options) fill() {
	o.Repeat = max(o.Repeat, 1)
	for _, d := range []struct {
		to *time.Duration
		by time.Duration
	}{{&o.Settle, DefaultSettle}, {&o.Deadline, requestDeadline}, {&o.Armed, DefaultArmed},
		{&o.warm, warmUp}, {&o.tail, tail}} {
		if *d.to <= 0 {
			*d.to = d.by
		}
	}
}

// MissedError says that a bound was missed or a run failed; exit code 6.
type MissedError struct{ Scenarios []string }

// Error names the scenarios.
func (e *MissedError) Error() string { return "missed: " + strings.Join(e.Scenarios, ", ") }

// ExitCode is 6.
func (e *MissedError) ExitCode() int { return 6 }

// UnclearError says that nothing was missed, but that the machine was too busy to tell
// about some; exit code 9.
type UnclearError struct{ Scenarios []string }

// Error names the scenarios.
func (e *UnclearError) Error() string { return "unclear: " + strings.Join(e.Scenarios, ", ") }

// ExitCode is 9.
func (e *UnclearError) ExitCode() int { return 9 }

// UnsafeError says that the drill was not started, or not gone on with; exit code 7.
type UnsafeError struct {
	Err       error
	unhealthy bool // no other scenario may start either
	after     bool // a run has found it
}

// Error is the cause.
func (e *UnsafeError) Error() string {
	if e.after {
		return "not safe to go on: " + e.Err.Error()
	}
	return "not safe to start: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnsafeError) Unwrap() error { return e.Err }

// ExitCode is 7.
func (e *UnsafeError) ExitCode() int { return 7 }

// errCannot marks a scenario that this cluster or these permissions cannot run.
var errCannot = errors.New("not run")

// permitted says why the scenario may not run here, or nil.
func (o *Options) permitted(c *Cluster, s *Scenario) error {
	switch {
	case len(c.Masters()) < s.Masters:
		return fmt.Errorf("%w: needs %d or more masters", errCannot, s.Masters)
	case len(c.Workers()) < s.Workers:
		return fmt.Errorf("%w: needs %d or more workers", errCannot, s.Workers)
	case s.Workload && c.Demo == "":
		return remote.Hint(fmt.Errorf("%w: the demo's images are not on the hosts", errCannot), "set artifacts.demo: true in the inventory and run hactl up")
	}
	if err := o.vacuous(s, c.Settings); err != nil {
		return err
	}
	var why, hints []string
	if s.Risk != "" && !slices.Contains(o.AcceptRisk, s.Risk) {
		why, hints = append(why, "takes the majority away on purpose"), append(hints, "accept it with --accept-risk="+s.Risk)
	}
	if s.Reboots && c.Power == nil && !slices.Contains(o.Allow, "reboot") {
		why = append(why, "switches hosts off")
		hints = append(hints, "permit it with --allow=reboot, or give --power-off-command and --power-on-command")
	}
	if why == nil {
		return nil
	}
	return remote.Hint(fmt.Errorf("%w: %s", errCannot, strings.Join(why, " and ")), "%s", strings.Join(hints, "; "))
}

// vacuous says which check of the scenario could not be missed for what the operator
// chose: a bound no shorter than the fault lasts before hactl undoes it.
func (o *Options) vacuous(s *Scenario, settings Settings) error {
	hold := cmp.Or(o.Hold, s.Hold)
	for i, c := range s.bounded(settings, o.Bounds).Checks {
		chosen := o.Hold > 0 || c.Bound != s.Checks[i].Bound
		if chosen && c.lasts && !c.Healed && !s.Heals && c.Bound >= hold {
			return remote.Hint(fmt.Errorf("%w: the fault lasts %s: too short to miss a bound of %s (%s)", errCannot, hold, c.Bound, c.Name()),
				"give --hold more than %s, or the inventory's drill.bounds a shorter one", c.Bound)
		}
	}
	return nil
}

// Refused is an [*UnsafeError] with every reason when none of the scenarios may
// run on the cluster with these options, or one that is Named may not.
func (o *Options) Refused(c *Cluster, scenarios []Scenario) error {
	may, not := o.Permitted(c, scenarios)
	named := func(s Scenario) bool { return s.Named && not[s.Name] != nil }
	if len(may) > 0 && !slices.ContainsFunc(scenarios, named) {
		return nil
	}
	return &UnsafeError{Err: nothingPermitted(scenarios, not)}
}

// Permitted splits scenarios into those that may run on the cluster with these
// options and the reasons why the others may not, by name.
func (o *Options) Permitted(c *Cluster, scenarios []Scenario) (may []Scenario, not map[string]error) {
	not = map[string]error{}
	for _, s := range scenarios {
		if err := o.permitted(c, &s); err != nil {
			not[s.Name] = err
			continue
		}
		may = append(may, s)
	}
	return may, not
}

// keepsQuorum refuses hits that leave etcd without quorum unless the scenario
// is about that.
func keepsQuorum(c *Cluster, s *Scenario, hits []Hit) error {
	n, down := len(c.Masters()), 0
	for _, h := range hits {
		if h.Fault.Etcd && h.Member.Master {
			down++
		}
	}
	if n-down < quorum(n) && s.Risk != QuorumRisk {
		return fmt.Errorf("%s would leave %d of %d etcd members: no quorum", s.Name, n-down, n)
	}
	return nil
}
