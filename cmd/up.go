package cmd

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"hactl/internal/ops"
	takeover "hactl/internal/others"
	"hactl/internal/ui"
	"hactl/inventory"

	"github.com/spf13/cobra"
)

// upOptions are the flags of up.
type upOptions struct {
	ops.UpOptions
	takeOver []string
	dryRun   bool
	timeline bool
}

func (a *app) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring the hosts to what the inventory says, then look whether it works",
		Long: `Bring every host of the inventory to what it says: look at all of them, show what
would change, change it, and verify the cluster from outside. It can be killed
at any moment and run again; on a cluster that is as it should be it changes
nothing.`,
		Example: `  hactl up -i inventory.yaml
  hactl up --yes -o json
  hactl up --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkIgnored(o.Ignore); err != nil {
				return err
			}
			if err := checkTakeOver(o.takeOver); err != nil {
				return err
			}
			switch {
			case o.dryRun && o.Force:
				return usagef("--dry-run takes no lock: leave --force-unlock out")
			case o.dryRun:
				return a.plan(c, planOptions{full: o.Full, skip: o.Skip, takeOver: o.takeOver})
			}
			return a.up(c, o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask before changing hosts")
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would change, as hactl plan does")
	fullFlag(c, &o.Full)
	f.BoolVar(&o.timeline, "timeline", false, "print the critical path of the run")
	f.StringSliceVar(&o.Skip, "skip", nil, "go on without this `host` if it does not answer; a quorum of masters must be left")
	f.StringSliceVar(&o.Ignore, "ignore", nil, "`id` of a preflight check whose findings do not count; repeat for more")
	takeOverFlag(c, &o.takeOver)
	f.BoolVar(&o.Force, "force-unlock", false, "break the lock of another run, saying whose it was")
	f.BoolVar(&o.NoTry, "no-try", false, "do not try other flags and files of the apiservers, apart from the cluster, before they get them")
	f.StringSliceVar(&o.BringBack, "bring-back", nil, "bring in this `host` again, which hactl remove took out")
	a.certsFlag(c)
	measureFlag(c, &o.Measure)
	_ = c.RegisterFlagCompletionFunc("skip", a.completeHosts())
	_ = c.RegisterFlagCompletionFunc("ignore", completeChecks)
	return c
}

func (a *app) up(c *cobra.Command, o upOptions) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, slices.Concat(o.Skip, o.BringBack)); err != nil {
		return err
	}
	run, err := a.start(c, eventStream)
	if err != nil {
		return err
	}
	req := run.request(inv)
	req.TakeOver = o.takeOver
	res, err := ops.Up(c.Context(), req, o.UpOptions)
	run.endProgress()
	return errors.Join(a.printResult(run, res, o.timeline), err)
}

// takeOverFlag is --take-over of every verb that looks at what belongs to others.
func takeOverFlag(c *cobra.Command, words *[]string) {
	c.Flags().StringSliceVar(words, "take-over", nil, "permit to remove, replace or work beside this `thing` that hactl did not make, as a refusal names it; repeat for more")
}

// checkTakeOver refuses words that permit nothing.
func checkTakeOver(words []string) error {
	if err := takeover.CheckWords(words); err != nil {
		return usagef("--take-over %v", err)
	}
	return nil
}

// printResult says what came of an operation that went to its end, and with timeline
// where the time went, in any case.
func (a *app) printResult(run *verbRun, res *ops.Result, timeline bool) error {
	if timeline {
		defer a.printTimeline(res.Path)
	}
	if a.json() {
		if res.Report == nil {
			return nil
		}
		result := map[string]any{"kind": "result", "changed": res.Changed, "kubeconfig": res.Kubeconfig, "trips": res.Trips, "status": res.Report}
		if res.Next != nil {
			result["next"] = res.Next
		}
		if res.Measured != nil {
			result["measured"] = res.Measured
		}
		return a.printJSON(result)
	}
	defer func() {
		for _, m := range res.Measured {
			fmt.Fprintln(a.stdout, m)
		}
	}()
	if res.Report == nil {
		return nil
	}
	a.printReport(res.Report)
	what := ui.Count(res.Changed, "step") + " changed"
	if res.Changed == 0 {
		what = "in sync: nothing was changed"
	}
	fmt.Fprintf(a.stdout, "\n%s, %s after the start\n", what, ui.Took(time.Since(run.Started)))
	if res.Kubeconfig != "" {
		fmt.Fprintf(a.stdout, "kubeconfig: %s\n", res.Kubeconfig)
	}
	for _, next := range res.Next {
		fmt.Fprintf(a.stdout, "next: %s\n", next)
	}
	if len(res.LeftOut) > 0 {
		fmt.Fprintf(a.stdout, "left out, as asked: %s; hactl up brings them in once they answer\n", inventory.Ranges(res.LeftOut))
	}
	return nil
}
