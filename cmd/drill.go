package cmd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/remote"
)

// drillOptions are the flags of drill.
type drillOptions struct {
	list, all        bool
	report, schedule string
	ops.DrillOptions
}

func (a *app) drillCommand() *cobra.Command {
	var o drillOptions
	c := &cobra.Command{
		Use:   "drill [SCENARIO...]",
		Short: "Break the cluster on purpose and time what its clients see",
		Long: `Break the cluster on purpose, one scenario after the other, while requests are
sent through the VIP, to every apiserver and to etcd, and compare the fault's part
of the largest gap that a client saw with its bound: requests past the VIP, echoes of
every host and this process's own clock tell when it was the machine that stood still.
Every acknowledged write is read back.

It starts only on a healthy cluster, shows what it is about to do, and asks. Each
fault's undo is armed on the host itself before the fault: the cluster heals even
when hactl is killed half-way. A host without power has nothing armed: a process
here switches it on (--power-on-command), or it starts again by itself (reboot -f).

Exit code 0: every bound was met; 3: a host could not be reached; 6: a bound was
missed, or something did not recover; 7: refused, not safe to start; 8: another
run holds the lock; 9: no bound was missed, but the machine was too busy to tell
about some; 130: interrupted, what was broken is undone.`,
		Example: `  hactl drill --list
  hactl drill owner-cut-off apiserver-killed --repeat 20
  hactl drill --all --yes --report drill-report
  hactl drill etcd-no-quorum --accept-risk=quorum
  hactl drill owner-cut-off apiserver-killed --print-schedule cron
  hactl drill owner-powered-off --power-off-command 'off {host}' --power-on-command 'on {host}'`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, s := range drill.Scenarios() {
				names = append(names, s.Name+"\t"+s.Summary)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			if o.list {
				if len(args) > 0 || o.all {
					return usagef("--list shows every scenario, and goes without names and --all")
				}
				return a.listDrills()
			}
			if o.schedule != "" {
				return a.printSchedule(o, args)
			}
			scenarios, err := o.choose(args)
			if err != nil {
				return err
			}
			return a.drill(c, o, scenarios)
		},
	}
	o.flags(c)
	return c
}

func (a *app) drill(c *cobra.Command, o drillOptions, scenarios []drill.Scenario) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := writable(o.report); err != nil {
		return err
	}
	if err := o.Check(inv, scenarios); err != nil {
		return err
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	rep, err := ops.Drill(c.Context(), run.request(inv), o.DrillOptions, scenarios, func() (drill.Observer, func()) {
		run.endProgress()
		p := a.drillView(run)
		return p.observer(), p.close
	})
	if rep == nil {
		return err
	}
	return errors.Join(err, a.finishDrill(o.report, rep))
}

// writable makes the folder of the reports, and a file in it: what is found out
// only when the cluster was broken costs the result. The last drill's reports go: who
// reads them after this one was refused takes them for its own.
func writable(folder string) error {
	if folder == "" {
		return nil
	}
	err := os.MkdirAll(folder, 0o755) //nolint:gosec // a report is for others to read
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(folder, ".drill-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err == nil {
		err = drill.RemoveReports(folder)
	}
	if err != nil {
		return exitcode.With(exitcode.Usage, remote.Hint(fmt.Errorf("--report: %w", err), "name a folder that can be written to"))
	}
	return nil
}

// finishDrill prints the result and writes the reports.
func (a *app) finishDrill(folder string, rep *drill.Report) error {
	if folder != "" {
		_ = rep.Compare(folder) // where it cannot be read, Save says so
	}
	if a.json() {
		if err := a.printJSON(rep); err != nil {
			return err
		}
	} else {
		a.printDrill(rep)
	}
	if folder == "" {
		return nil
	}
	files, err := rep.Save(folder)
	if err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	fmt.Fprintln(a.stderr, "report: "+strings.Join(files, " "))
	return nil
}
