package cmd

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/internal/ui"
	"hactl/internal/wait"
)

// operate runs an operation on the inventory and shows what came of it. The names are of
// hosts that the inventory must have.
func (a *app) operate(c *cobra.Command, o *ops.Options, names []string, run func(context.Context, ops.Request) (*ops.Result, error)) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, slices.Concat(names, o.Skip)); err != nil {
		return err
	}
	r, err := a.start(c, !o.DryRun)
	if err != nil {
		return err
	}
	res, err := run(c.Context(), r.request(inv))
	r.endProgress()
	return errors.Join(a.printResult(r, res, false), err, a.printDryRun(res, o.Full))
}

// stretched is the value of a flag with a duration: the default is stretched for slow
// hosts, what a person wrote is not.
func stretched(ctx context.Context, c *cobra.Command, flag string, d time.Duration) time.Duration {
	if c.Flags().Changed(flag) {
		return d
	}
	return wait.Bound(ctx, d)
}

// operationFlags are the flags of every operation on a running cluster.
func (a *app) operationFlags(c *cobra.Command, o *ops.Options) {
	f := c.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask before changing hosts")
	f.BoolVar(&o.DryRun, "dry-run", false, "only show what would be done")
	fullFlag(c, &o.Full)
	f.StringSliceVar(&o.Skip, "skip", nil, "go on without this `host` if it does not answer; a quorum of masters must be left")
	f.BoolVar(&o.Force, "force-unlock", false, "break the lock of another run, saying whose it was")
	measureFlag(c, &o.Measure)
	_ = c.RegisterFlagCompletionFunc("skip", a.completeHosts())
}

// measureFlag is --measure of every verb that changes a running cluster.
func measureFlag(c *cobra.Command, measure *bool) {
	c.Flags().BoolVar(measure, "measure", false, "send requests through the VIP meanwhile, and count those that fail because of it")
}

// printDryRun shows the plan of a dry run, and gives its exit code.
func (a *app) printDryRun(res *ops.Result, full bool) error {
	if res.Plan == nil {
		return nil
	}
	var err error
	if a.json() {
		err = a.printPlanJSON(res.Plan, false)
	} else {
		err = ui.WritePlan(a.stdout, res.Plan, full, a.style())
	}
	return errors.Join(err, planCode(res.Plan))
}
