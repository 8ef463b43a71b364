package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hactl/internal/remote"
)

// startWithin is how long the cluster may take to look healthy before the
// first scenario: long enough for one lost packet, not for a recovery.
const startWithin = 10 * time.Second

// Drill is a list of scenarios against a cluster.
type Drill struct {
	Cluster   *Cluster
	Options   Options
	Scenarios []Scenario
	Observer  Observer
}

// Run does all scenarios in order and returns the report, which is complete up
// to where the drill ended whatever the error is: a *MissedError when a bound
// was missed or a run failed, an *UnsafeError when it was refused or could not
// go on, or the context's error after the fault in progress was undone.
func (d *Drill) Run(ctx context.Context) (*Report, error) {
	d.Options.fill()
	rep := &Report{
		Schema: Schema, Cluster: d.Cluster.Name, Started: time.Now(),
		IntervalMS: millis(d.Options.Interval), DeadlineMS: millis(d.Options.Deadline),
		Scenarios: []*Result{},
	}
	err := d.all(ctx, rep)
	rep.TookMS = millis(time.Since(rep.Started))
	var bad []string
	rep.Verdict = Met
	for _, r := range rep.Scenarios {
		if r.Verdict == Missed || r.Verdict == Failed {
			bad = append(bad, r.Name)
			rep.Verdict = Missed
		}
	}
	switch {
	case err != nil:
		rep.Verdict = Failed
		return rep, err
	case bad != nil:
		return rep, &MissedError{bad}
	}
	return rep, nil
}

func (d *Drill) all(ctx context.Context, rep *Report) error {
	if err := CheckBounds(d.Options.Bounds); err != nil {
		return err
	}
	may, not := d.Options.Permitted(d.Cluster, d.Scenarios)
	if len(may) == 0 {
		return &UnsafeError{Err: nothingPermitted(d.Scenarios, not)}
	}
	if _, err := waitHealthy(ctx, d.Cluster, startWithin); err != nil {
		return &UnsafeError{Err: remote.Hint(err, "bring the cluster into order first: hactl status, hactl up")}
	}
	if d.Cluster.PlanEmpty != nil {
		if err := d.Cluster.PlanEmpty(ctx); err != nil {
			return &UnsafeError{Err: fmt.Errorf("the hosts are not as the inventory wants: %w", err)}
		}
	}
	for _, sc := range d.Scenarios {
		sc = sc.bounded(d.Options.Bounds)
		res := &Result{Name: sc.Name, Summary: sc.Summary}
		rep.Scenarios = append(rep.Scenarios, res)
		if why := not[sc.Name]; why != nil {
			res.Verdict, res.Reason = Skipped, why.Error()
			continue
		}
		err := d.repeat(ctx, sc, res)
		res.Checks = outcomes(sc, res.Runs)
		res.Verdict = verdict(res)
		if err == nil {
			continue
		}
		res.Verdict, res.Reason = Failed, err.Error()
		var unsafe *UnsafeError
		if ctx.Err() != nil || !errors.As(err, &unsafe) || unsafe.unhealthy {
			return err
		}
	}
	return nil
}

func (d *Drill) repeat(ctx context.Context, sc Scenario, res *Result) error {
	for i := range d.Options.Repeat {
		if d.Options.Repeat > 1 {
			d.Observer.say("%s: run %d of %d", sc.Name, i+1, d.Options.Repeat)
		}
		run, err := runOnce(ctx, d.Cluster, &d.Options, sc, d.Observer)
		if run != nil {
			res.Runs = append(res.Runs, run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func nothingPermitted(scenarios []Scenario, not map[string]error) error {
	var errs []error
	for _, s := range scenarios {
		errs = append(errs, wrap(s.Name, not[s.Name]))
	}
	return errors.Join(errs...)
}
