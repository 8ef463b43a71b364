package cmd

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/ui"
	"hactl/inventory"
)

// listOnHosts prints the snapshots that the timers of the masters saved there.
func (a *app) listOnHosts(c *cobra.Command, inv *inventory.Inventory) error {
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	found, silent, err := ops.SnapshotsOnHosts(c.Context(), run.request(inv))
	run.endProgress()
	if err != nil {
		return err
	}
	if a.json() {
		err = a.printJSON(map[string]any{"kind": "snapshotsOnHosts", "snapshots": found, "notAsked": slices.Sorted(maps.Keys(silent))})
	} else {
		err = a.printOnHosts(found, silent)
	}
	if err == nil && len(silent) > 0 {
		return exitcode.With(exitcode.Unknown, nil)
	}
	return err
}

func (a *app) printOnHosts(found []ops.OnHost, silent map[string]error) error {
	t := ui.Table{Header: []string{"HOST", "FILE", "SAVED", "SIZE"}}
	for _, f := range found {
		t.Add(f.Host, f.Path, f.Modified.Local().Format(time.DateTime), ui.Bytes(f.Bytes))
	}
	if len(found) > 0 {
		if err := t.Write(a.stdout, a.style()); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.stdout, "no snapshot on a master; backup.schedule in the inventory has them saved")
	}
	for _, h := range slices.Sorted(maps.Keys(silent)) {
		fmt.Fprintf(a.stdout, "%s could not be asked: %v\n", h, silent[h])
	}
	return nil
}
