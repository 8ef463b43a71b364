package drill

import (
	"context"
	"errors"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// startWithin is how long the cluster may take to look healthy before the first scenario,
// and its plan to be empty: longer than two looks of a busy cluster, shorter than a recovery.
const startWithin = 30 * time.Second

// Drill is a list of scenarios against a cluster.
type Drill struct {
	Cluster   *Cluster
	Options   Options
	Scenarios []Scenario
	Observer  Observer

	restarts  restarts
	operation bool // calibrates for an operation
	// unit is which part of the busiest machine's processors a request of cost 1 takes
	// in every second, as calibrated; 0 when the operator chose the interval.
	unit float64
}

// Run does all scenarios in order and returns the report, which is complete up
// to where the drill ended whatever the error is: a *MissedError when a bound
// was missed or a run failed, an *UnsafeError when nothing of that happened but
// the drill or a scenario was refused, or the context's error after the fault in
// progress was undone.
func (d *Drill) Run(ctx context.Context) (*Report, error) {
	d.Options.fill()
	d.restarts = restarts{}
	rep := &Report{
		Schema: Schema, Cluster: d.Cluster.Name, Started: time.Now(), DeadlineMS: millis(d.Options.Deadline),
		Scenarios: []*Result{},
	}
	refused, err := d.all(ctx, rep)
	err = orStopped(ctx, err)
	rep.IntervalMS = millis(d.Options.Interval)
	for _, r := range rep.Scenarios {
		for _, run := range r.Runs {
			rep.IntervalMS = max(rep.IntervalMS, run.IntervalMS)
		}
	}
	rep.TookMS = millis(time.Since(rep.Started))
	var bad, unclear []string
	rep.Verdict = Met
	for _, r := range rep.Scenarios {
		switch r.Verdict {
		case Missed, Failed:
			bad = append(bad, r.Name)
		case Unclear:
			unclear = append(unclear, r.Name)
		}
	}
	switch {
	case bad != nil:
		rep.Verdict = Missed
	case unclear != nil:
		rep.Verdict = Unclear
	}
	switch {
	case err != nil:
		rep.Verdict = Failed
		if len(rep.Scenarios) == 0 {
			rep.Reason = err.Error()
		}
		return rep, err
	case len(bad) > len(refused):
		return rep, &MissedError{bad}
	case refused != nil:
		rep.Verdict = Failed
		return rep, errors.Join(refused...)
	case unclear != nil:
		return rep, &UnclearError{unclear}
	}
	return rep, nil
}

// orStopped is err unless ctx has ended: then that is why, whatever failed.
func orStopped(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// all returns an *UnsafeError for each scenario that was refused while nothing
// else was wrong with it, and an error when no scenario could be started or the
// drill was stopped.
func (d *Drill) all(ctx context.Context, rep *Report) (refused []error, err error) {
	if err := d.Options.Refused(d.Cluster, d.Scenarios); err != nil {
		return nil, err
	}
	_, not := d.Options.Permitted(d.Cluster, d.Scenarios)
	if err := d.inOrder(ctx); err != nil {
		return nil, &UnsafeError{Err: err}
	}
	if err := d.pace(ctx, rep); err != nil {
		return nil, &UnsafeError{Err: err}
	}
	for i, sc := range d.Scenarios {
		sc = sc.bounded(d.Cluster.Settings, d.Options.Bounds)
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
		if res.Verdict != Missed && res.problem() == "" {
			refused = append(refused, wrap(sc.Name, err))
		}
		res.Verdict, res.Reason = Failed, err.Error()
		var unsafe *UnsafeError
		if !errors.As(err, &unsafe) {
			rep.skip(d.Scenarios[i+1:], "the drill ended before it")
			return nil, err
		}
		if unsafe.unhealthy {
			rep.skip(d.Scenarios[i+1:], "the cluster was not in order any more after "+sc.Name)
			break
		}
	}
	return refused, nil
}

// pace chooses the interval between requests, unless the operator has.
func (d *Drill) pace(ctx context.Context, rep *Report) error {
	if d.Options.Interval > 0 {
		return nil
	}
	d.Observer.say("calibrating: how much of the hosts' processors the requests take")
	cal, err := d.calibrate(ctx)
	if err != nil {
		return wrap("calibrate", err)
	}
	rep.Calibration = cal
	d.Observer.say("requests will take %.0f %% of the processors of the busiest host", cal.LoadPercent)
	return nil
}

// skip notes scenarios that were not begun.
func (rep *Report) skip(scenarios []Scenario, why string) {
	for _, sc := range scenarios {
		rep.Scenarios = append(rep.Scenarios, &Result{Name: sc.Name, Summary: sc.Summary, Verdict: Skipped, Reason: why})
	}
}

// inOrder waits until a drill may start at all, and says what it waits for.
func (d *Drill) inOrder(ctx context.Context) error {
	c := d.Cluster
	_, err := c.Look(ctx)
	if err != nil {
		d.Observer.say("waiting %s at most: %v", wait.Bound(ctx, startWithin), err)
		_, err = waitHealthy(ctx, c, startWithin)
	}
	if err != nil {
		return remote.Hint(err, "bring the cluster into order first: hactl status, hactl up")
	}
	if c.PlanEmpty == nil {
		return nil
	}
	if err = c.PlanEmpty(ctx); err != nil {
		d.Observer.say("waiting %s at most until the plan is empty: %v", wait.Bound(ctx, startWithin), err)
		err = c.settled(ctx, startWithin)
	}
	return wrap("the hosts are not as the inventory wants", err)
}

func (d *Drill) repeat(ctx context.Context, sc Scenario, res *Result) error {
	for i := range d.Options.Repeat {
		if d.Options.Repeat > 1 {
			d.Observer.say("%s: run %d of %d", sc.Name, i+1, d.Options.Repeat)
		}
		if err := d.untilClear(ctx, sc, res); err != nil {
			return orStopped(ctx, err)
		}
	}
	return nil
}

// untilClear does one run, and with --until-clear another one in its place while it is
// unclear. A miss is a miss: it is never repeated.
func (d *Drill) untilClear(ctx context.Context, sc Scenario, res *Result) error {
	for again := d.Options.UntilClear; ; again-- {
		run, err := d.run(ctx, sc)
		if run != nil {
			res.Runs = append(res.Runs, run)
		}
		if err != nil || again <= 0 || run == nil || !run.unclear() {
			return err
		}
		run.SetAside = true
		d.Observer.say("%s: unclear, it is done again", sc.Name)
	}
}

// tries is how often a run is begun until its victims are still the same when they
// are to be hit.
const tries = 3

func (d *Drill) run(ctx context.Context, sc Scenario) (*Run, error) {
	for n := 1; ; n++ {
		run, err := d.runOnce(ctx, sc)
		var moved *movedError
		if !errors.As(err, &moved) || n == tries {
			return run, err
		}
		d.Observer.say("%s: %v: it begins anew", sc.Name, moved)
	}
}

func nothingPermitted(scenarios []Scenario, not map[string]error) error {
	var errs []error
	for _, s := range scenarios {
		errs = append(errs, wrap(s.Name, not[s.Name]))
	}
	return errors.Join(errs...)
}
