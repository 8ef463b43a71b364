package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"hactl/internal/backup"
	"hactl/internal/ops"
	"hactl/internal/ui"
)

func (a *app) snapshotRehearseCommand() *cobra.Command {
	var o ops.RehearseOptions
	c := &cobra.Command{
		Use:   "rehearse FILE",
		Short: "Start a throw-away etcd and apiserver on a snapshot, apart from the cluster",
		Long: `Restore a snapshot on a master to an etcd that is thrown away: it comes up, every
key is read with its value, a write is taken. It has a network of its own and no access
to the host's data and keys; nothing of it stays. With --objects a throw-away apiserver
starts on it, with the flags and files of the inventory, and reads every object: one
that is damaged, or encrypted with a key that is not there, is found. --for takes the
etcd and the apiserver of another version. The manifest says afterwards what was shown.
Exit code 0: it can be restored; 7: it cannot, with the reason.`,
		Example: `  hactl snapshot rehearse snapshots-prod/prod-20270101T000000Z.db
  hactl snapshot rehearse snapshots-prod/prod-20270101T000000Z.db --objects
  hactl snapshot rehearse snapshots-prod/prod-20270101T000000Z.db --for v1.37.2 --on master-2`,
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
			got, err := ops.RehearseSnapshot(c.Context(), run.request(inv), args[0], o)
			run.endProgress()
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(map[string]any{"kind": "rehearsed", "file": args[0], "rehearsed": got})
			}
			a.printRehearsed(args[0], got)
			return nil
		},
	}
	c.Flags().BoolVar(&o.Objects, "objects", false, "have an apiserver read every object, too")
	c.Flags().StringVar(&o.For, "for", "", "read every object with the apiserver of this `version` of Kubernetes")
	c.Flags().StringVar(&o.On, "on", "", "the `master` to start it on (default: the last one of the inventory)")
	_ = c.RegisterFlagCompletionFunc("on", a.completeHosts())
	return c
}

func (a *app) printRehearsed(file string, got *backup.Rehearsed) {
	fmt.Fprintf(a.stdout, "%s can be restored: etcd %s came up on %s, read %s and took a write, in %.1f s\n", file, got.Etcd, got.Host, ui.Count(got.Keys, "key"), got.Seconds)
	if got.Kubernetes == "" {
		return
	}
	objects := 0
	for _, n := range got.Objects {
		objects += n
	}
	fmt.Fprintf(a.stdout, "Kubernetes %s read %s of %s from it: ready after %.1f s, read in %.1f s\n", got.Kubernetes, ui.Count(objects, "object"), ui.Count(len(got.Objects), "kind"), got.Ready, got.Read)
}
