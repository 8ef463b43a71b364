package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/state"
	"hactl/internal/ui"
	"hactl/inventory"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Look at the cluster: etcd, VIP, apiservers, nodes, certificates",
		Long: `Look at the cluster from outside and print what is seen: etcd members, leader and
an acknowledged write, the owner of the VIP, every apiserver, every node, the
system workloads, the next certificate to expire and, where backup.schedule is set,
the snapshots on the masters.
Exit code 0: healthy; 3: a host could not be looked at; 5: not healthy.`,
		Example: `  hactl status
  hactl status -i inventory.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.status(c) },
	}
}

func (a *app) status(c *cobra.Command) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	rep, err := ops.Status(c.Context(), run.request(inv))
	if err != nil {
		return err
	}
	run.endProgress()
	if a.json() {
		if err := a.printJSON(rep); err != nil {
			return err
		}
	} else {
		a.printReport(rep)
	}
	return statusCode(rep)
}

// statusCode is 5 when something is bad, else 3 when something is unknown.
func statusCode(rep *state.Report) error {
	code := exitcode.OK
	for _, k := range rep.Checks {
		switch {
		case k.State == state.Bad:
			return exitcode.With(exitcode.Unhealthy, nil)
		case k.State == state.Unknown:
			code = exitcode.Unknown
		}
	}
	if code != exitcode.OK {
		return exitcode.With(code, nil)
	}
	return nil
}

// printReport shows a report as a table, hosts of which the same is known in one
// line.
func (a *app) printReport(rep *state.Report) {
	st := a.style()
	t := ui.Table{Header: []string{"AREA", "WHAT", "STATE", "DETAIL"}, Color: func(column, cell string) func(string) string {
		switch {
		case column != "STATE":
			return nil
		case cell == string(state.OK):
			return st.Green
		case cell == string(state.Bad):
			return st.Red
		}
		return st.Yellow
	}}
	for _, k := range rep.Grouped() {
		t.Add(k.Area, inventory.Ranges(k.Names), string(k.State), k.Detail)
	}
	_ = t.Write(a.stdout, st)
	verdict := st.Green("healthy")
	if !rep.Healthy {
		verdict = st.Red("not healthy")
	}
	fmt.Fprintf(a.stdout, "\ncluster %s is %s\n", rep.Cluster, verdict)
}
