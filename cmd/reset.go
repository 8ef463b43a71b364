package cmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/internal/ui"
	"hactl/inventory"
)

func (a *app) resetCommand() *cobra.Command {
	var o ops.ResetOptions
	c := &cobra.Command{
		Use:   "reset HOST... | --all",
		Short: "Bring hosts back to what they were before hactl",
		Long: `Bring hosts back to what they were before hactl, all at once. Each host keeps a record
of what hactl made there and of what was there before; what is not in it stays: other
tables, containers, mounts, programs. The data of etcd is moved to
/var/lib/hactl/removed-TIME unless --data is given, and packages stay unless --packages
is given. Logs stay.

A host that a running cluster still counts on is refused; hactl remove takes it out.
With --all the whole cluster is given up: that asks for the cluster's name, which --yes
does not answer and --cluster does. hactl up works again afterwards.

It can be killed at any moment; the next run completes what was begun.

Exit code 0: done; 2: --dry-run, something is to be done; 3: a host could not be looked
at; 7: refused, not safe; 8: another run holds the lock.`,
		Example: `  hactl reset worker-3
  hactl reset --all --cluster prod
  hactl reset --all --dry-run`,
		ValidArgsFunction: a.completeHosts(),
		RunE: func(c *cobra.Command, names []string) error {
			if (len(names) > 0) == o.All {
				return usagef("name hosts, or give --all")
			}
			o.Hosts = names
			return a.reset(c, o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.All, "all", false, "every host of the inventory, and with them the cluster")
	f.StringVar(&o.Cluster, "cluster", "", "the `name` of the cluster, instead of typing it")
	f.BoolVar(&o.Data, "data", false, "delete the data of etcd")
	f.BoolVar(&o.Packages, "packages", false, "remove the packages that hactl installed")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask before changing hosts")
	f.BoolVar(&o.DryRun, "dry-run", false, "only show what would be done")
	fullFlag(c, &o.Full)
	f.StringSliceVar(&o.Skip, "skip", nil, "leave this `host` as it is if it does not answer")
	f.BoolVar(&o.Force, "force-unlock", false, "break the lock of another run, saying whose it was")
	_ = c.RegisterFlagCompletionFunc("skip", a.completeHosts())
	return c
}

func (a *app) reset(c *cobra.Command, o ops.ResetOptions) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, append(o.Hosts, o.Skip...)); err != nil {
		return err
	}
	run, err := a.start(c, !o.DryRun)
	if err != nil {
		return err
	}
	res, err := ops.Reset(c.Context(), run.request(inv), o)
	run.endProgress()
	if err != nil {
		return err
	}
	if res.Plan != nil {
		return a.printDryRun(res, o.Full)
	}
	if a.json() {
		return a.printJSON(map[string]any{"kind": "result", "changed": res.Changed, "trips": res.Trips, "leftOut": res.LeftOut})
	}
	what := ui.Count(res.Changed, "step") + " changed"
	if res.Changed == 0 {
		what = "nothing of hactl was there"
	}
	fmt.Fprintf(a.stdout, "%s, %s after the start\n", what, ui.Took(time.Since(run.Started)))
	if len(res.LeftOut) > 0 {
		fmt.Fprintf(a.stdout, "left out, as asked: %s\n", inventory.Ranges(res.LeftOut))
	}
	return nil
}
