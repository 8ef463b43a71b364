package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/internal/ui"
)

func (a *app) snapshotRehearseCommand() *cobra.Command {
	on := ""
	c := &cobra.Command{
		Use:   "rehearse FILE",
		Short: "Start a throw-away etcd on a snapshot, apart from the cluster",
		Long: `Restore a snapshot on a master to an etcd that is thrown away: it comes up, every
key is read with its value, a write is taken. It has a network of its own and no access
to the host's data and keys; nothing of it stays. The manifest says afterwards that it
was rehearsed.
Exit code 0: it can be restored; 7: it cannot, with the reason.`,
		Example: `  hactl snapshot rehearse snapshots-prod/prod-20270101T000000Z.db
  hactl snapshot rehearse snapshots-prod/prod-20270101T000000Z.db --on master-2`,
		Args: everyWord,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			run, err := a.start(c, resultsOnly)
			if err != nil {
				return err
			}
			got, err := ops.RehearseSnapshot(c.Context(), run.request(inv), args[0], on)
			run.endProgress()
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(map[string]any{"kind": "rehearsed", "file": args[0], "rehearsed": got})
			}
			fmt.Fprintf(a.stdout, "%s can be restored: etcd %s came up on %s, read %s and took a write, in %.1f s\n", args[0], got.Etcd, got.Host, ui.Count(got.Keys, "key"), got.Seconds)
			return nil
		},
	}
	c.Flags().StringVar(&on, "on", "", "the `master` to start it on (default: the last one of the inventory)")
	_ = c.RegisterFlagCompletionFunc("on", a.completeHosts())
	return c
}
