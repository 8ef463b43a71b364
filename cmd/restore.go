package cmd

import (
	"errors"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
)

func (a *app) restoreCommand() *cobra.Command {
	var o ops.RestoreOptions
	c := &cobra.Command{
		Use:   "restore [FILE]",
		Short: "Make the cluster anew from a snapshot of etcd",
		Long: `Make the cluster anew from a snapshot: after a quorum was lost, with all masters
replaced by empty hosts, or to undo what happened to objects. The snapshot is
verified first. Then all masters are stopped, each gets the data of the snapshot as
the next generation of the cluster, and they start again. The data of before is moved
aside and kept. Objects that are newer than the snapshot are gone.

Where the key of an authority is not here, and a certificate is missing or has expired,
it ends before anything stops: see hactl certs renew.

Hosts that do not answer have to be named with --dead. --survivor, in place of FILE,
takes the snapshot from a member that still answers.

The cluster's name has to be typed; --yes-restore NAME does so in CI. It can be killed
at any moment; the same command completes it.
Exit code 0: done; 5: not healthy at the end; 7: refused: not safe, or the snapshot is
not in order; 8: another run holds the lock.`,
		Example: `  hactl restore snapshots-prod/prod-20270101T000000Z.db
  hactl restore snapshots-prod/prod-20270101T000000Z.db --dry-run
  hactl restore --survivor --dead master-2 --dead master-3
  hactl restore snapshots-prod/prod-20270101T000000Z.db --yes-restore prod`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Survivor == (len(args) == 1) {
				return usagef("name a snapshot, or give --survivor")
			}
			if len(args) == 1 {
				o.File = args[0]
			}
			return a.restore(c, o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Survivor, "survivor", false, "restore what a member that still answers has")
	f.StringSliceVar(&o.Skip, "dead", nil, "`host` that does not answer; repeat for more")
	f.StringVar(&o.Word, "yes-restore", "", "the cluster's `name`: do not ask for it")
	f.BoolVar(&o.DryRun, "dry-run", false, "only verify the snapshot, and show what would be stopped and what would be lost")
	fullFlag(c, &o.Full)
	a.certsFlag(c)
	f.BoolVar(&o.Force, "force-unlock", false, "break the lock of another run, saying whose it was")
	_ = c.RegisterFlagCompletionFunc("dead", a.completeHosts())
	return c
}

func (a *app) restore(c *cobra.Command, o ops.RestoreOptions) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, o.Skip); err != nil {
		return err
	}
	if o.Word != "" && o.Word != inv.Cluster {
		return usagef("--yes-restore %s is not the cluster of %s, which is %s", o.Word, a.inventory, inv.Cluster)
	}
	run, err := a.start(c, !o.DryRun)
	if err != nil {
		return err
	}
	res, err := ops.Restore(c.Context(), run.request(inv), o)
	run.endProgress()
	return errors.Join(a.printResult(run, res, false), err, a.printDryRun(res, o.Full))
}
