package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"hactl/internal/drill"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
)

// DrillOptions are the flags of a drill.
type DrillOptions struct {
	drill.Options
	Yes, Force        bool
	PowerOff, PowerOn string // commands of this machine; {host} is the host's name
}

// Check takes the bounds of the inventory, and refuses scenarios that may not run as
// far as the inventory and the flags tell: before any host is asked.
func (o *DrillOptions) Check(inv *inventory.Inventory, scenarios []drill.Scenario) error {
	o.Bounds = inv.Drill.Bounds
	return o.Refused(o.cluster(inv, nil), scenarios)
}

// Drill breaks the cluster on purpose and times what its clients see, with options
// that were checked. The observer is made once nothing is asked any more; it is told what happens.
func Drill(ctx context.Context, r Request, o DrillOptions, scenarios []drill.Scenario, observer func() (drill.Observer, func())) (*drill.Report, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.everyHost("", nil); err != nil {
		return nil, err
	}
	if o.Force {
		if err := s.breakLocks(ctx); err != nil {
			return nil, err
		}
	}
	release, err := s.lock(ctx, "drill")
	if err != nil {
		return nil, err
	}
	defer release()
	cluster, hangUp, err := s.drillCluster(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	if slices.Contains(o.AcceptRisk, drill.DriftRisk) {
		cluster.PlanEmpty = nil
	}
	if err := s.Confirm(ctx, o.Question(cluster, scenarios)); err != nil {
		return nil, err
	}
	watch, done := observer()
	defer done()
	return (&drill.Drill{Cluster: cluster, Options: o.Options, Scenarios: scenarios, Observer: watch}).Run(ctx)
}

// Question shows what is about to happen. With Yes it is shown all the same.
func (o *DrillOptions) Question(cluster *drill.Cluster, scenarios []drill.Scenario) Question {
	may, not := o.Permitted(cluster, scenarios)
	return Question{
		Show: func(w io.Writer, st ui.Style) error { return writeIntent(w, st, cluster, scenarios, not) },
		Text: fmt.Sprintf("\n%s, %s each. Go on?", ui.Count(len(may), "scenario"), ui.Count(o.Repeat, "run")),
		Yes:  o.Yes, NoTerminal: "the cluster would be broken, and there is no terminal to ask on",
		Undone: "nothing was broken",
	}
}

// writeIntent lists the scenarios that will run, and those that will not with
// the reason.
func writeIntent(w io.Writer, st ui.Style, cluster *drill.Cluster, scenarios []drill.Scenario, not map[string]error) error {
	if _, err := fmt.Fprintf(w, "about to break cluster %s on purpose:\n", cluster.Name); err != nil {
		return err
	}
	t := ui.Table{Indent: "  "}
	for _, s := range scenarios {
		if why := not[s.Name]; why != nil {
			t.Add("-", s.Name, strings.TrimSuffix(why.Error()+"; "+remote.HintOf(why), "; "))
			continue
		}
		t.Add("!", s.Name, s.Summary)
	}
	return t.Write(w, st)
}

// planEmpty is nil when hactl up would change nothing.
func (s *session) planEmpty(ctx context.Context) error {
	p, err := s.makePlan(ctx, nil)
	if err != nil {
		return err
	}
	if err := p.Err(); err != nil {
		return err
	}
	var what []error
	for _, i := range p.Pending() {
		what = append(what, fmt.Errorf("%s: %s", i.Step.ID, i.Change.Summary))
	}
	if what != nil {
		return fmt.Errorf("%s pending: %s", ui.Count(len(what), "change"), strings.ReplaceAll(errors.Join(what...).Error(), "\n", "; "))
	}
	return nil
}
