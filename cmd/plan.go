package cmd

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/internal/wait"
)

// planOptions say what a plan shows.
type planOptions struct {
	diffs bool     // the lines that change
	full  bool     // every step, not the short form
	skip  []string // hosts that may be missing

	takeOver []string // what of others may be taken over
}

func (a *app) planCommand() *cobra.Command {
	var o planOptions
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what up would change, and change nothing",
		Long: `Look at every host and show what hactl up would change: what, in how many steps,
on which hosts. --full and -o json list every step. Nothing is changed.
Exit code 0: in sync; 2: changes are pending; 3: a host could not be looked at.`,
		Example: `  hactl plan
  hactl plan --full
  hactl plan -i inventory.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c, o) },
	}
	fullFlag(c, &o.full)
	takeOverFlag(c, &o.takeOver)
	return c
}

// fullFlag is --full of every verb that shows a plan.
func fullFlag(c *cobra.Command, full *bool) {
	c.Flags().BoolVar(full, "full", false, "show every step of the plan, one a line")
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Show what up would change, line by line, with secrets masked",
		Long: `Look at every host and show, as a unified diff, where it differs from what the
inventory says. Secrets are masked. Nothing is changed. Exit codes as of plan.`,
		Example: `  hactl diff
  hactl diff -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c, planOptions{diffs: true}) },
	}
}

// plan looks at the hosts and shows what would change.
func (a *app) plan(c *cobra.Command, o planOptions) error {
	if err := checkTakeOver(o.takeOver); err != nil {
		return err
	}
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, o.skip); err != nil {
		return err
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	req := run.request(inv)
	req.TakeOver = o.takeOver
	p, err := ops.Plan(c.Context(), req, o.skip)
	if err != nil {
		return err
	}
	run.endProgress()
	switch {
	case a.json():
		err = a.printPlanJSON(p, o.diffs)
	case o.diffs:
		err = ui.WriteDiff(a.stdout, p, a.style())
	default:
		err = ui.WritePlan(a.stdout, p, o.full, a.style())
	}
	if err != nil {
		return err
	}
	return planCode(p)
}

// planCode is 0 in sync, 2 pending, 3 unknown, 7 where up would refuse.
func planCode(p *plan.Plan) error {
	if err := p.Err(); err != nil {
		if exitcode.Of(err) == exitcode.Unsafe {
			return err
		}
		return exitcode.With(exitcode.Unknown, remote.Hint(err, "see what is wrong with these hosts; what could not be looked at is neither there nor absent"))
	}
	if len(p.Pending()) > 0 {
		return exitcode.With(exitcode.Pending, nil)
	}
	return nil
}

// printPlanJSON writes a plan as one document.
func (a *app) printPlanJSON(p *plan.Plan, diffs bool) error {
	d := ui.Document(p, diffs)
	if a.slowHosts > wait.Usual {
		d.SlowHosts = a.slowHosts
	}
	return a.printJSON(d)
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
