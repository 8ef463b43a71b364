package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/drill"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

// drillOptions are the flags of drill.
type drillOptions struct {
	list, all, yes, force bool
	report, schedule      string
	powerOff, powerOn     string
	drill.Options
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

func (o *drillOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.list, "list", false, "list the scenarios: bounds, how each is undone, needs")
	f.BoolVar(&o.all, "all", false, "run every scenario that is permitted, in a safe order")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before breaking things")
	f.BoolVar(&o.force, "force-unlock", false, "break the lock of another run, saying whose it was")
	f.IntVar(&o.Repeat, "repeat", 1, "run each scenario `N` times")
	f.IntVar(&o.UntilClear, "until-clear", 0, "do an unclear run again, `N` times at most; a miss is never repeated")
	f.Lookup("until-clear").NoOptDefVal = "5"
	f.DurationVar(&o.Settle, "settle", drill.DefaultSettle, "wait this long for health between runs")
	f.DurationVar(&o.Interval, "interval", 0, "time between two requests of a kind, 5ms to 1s (default: so that they take a fifth of the busiest host's processors)")
	f.DurationVar(&o.Hold, "hold", 0, "let each fault last this long instead of the scenario's own time")
	f.DurationVar(&o.Armed, "armed", drill.DefaultArmed, "hosts undo a fault by themselves this long after hactl should have")
	f.StringVar(&o.report, "report", "", "write drill.json, drill.xml (JUnit) and drill.html into `folder`")
	f.StringVar(&o.schedule, "print-schedule", "", "print a monthly schedule of the named scenarios for `cron`, systemd, github or gitlab, and do nothing")
	f.StringSliceVar(&o.AcceptRisk, "accept-risk", nil, "accept a `risk`: quorum, drift (hosts are not as wanted)")
	f.StringSliceVar(&o.Allow, "allow", nil, "permit a `means`: reboot (hosts are switched off by reboot -f)")
	f.StringVar(&o.powerOff, "power-off-command", "", "local `command` that cuts a host's power; {host} is its name")
	f.StringVar(&o.powerOn, "power-on-command", "", "local `command` that switches it on again")
	_ = c.MarkFlagDirname("report")
	_ = c.RegisterFlagCompletionFunc("print-schedule", cobra.FixedCompletions([]string{"cron", "systemd", "github", "gitlab"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("accept-risk", cobra.FixedCompletions([]string{drill.QuorumRisk, drill.DriftRisk}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("allow", cobra.FixedCompletions([]string{"reboot"}, cobra.ShellCompDirectiveNoFileComp))
}

// choose turns names or --all into scenarios, and finds mistakes of usage.
func (o *drillOptions) choose(names []string) ([]drill.Scenario, error) {
	switch {
	case o.all == (len(names) > 0):
		return nil, usagef("name scenarios, or give --all; hactl drill --list shows them")
	case (o.powerOff == "") != (o.powerOn == ""):
		return nil, usagef("--power-off-command and --power-on-command go together")
	case o.Repeat < 1 || o.Repeat > 1000:
		return nil, usagef("--repeat must be 1 to 1000")
	case o.UntilClear < 0 || o.UntilClear > 20:
		return nil, usagef("--until-clear must be 0 to 20")
	case o.Interval != 0 && (o.Interval < 5*time.Millisecond || o.Interval > time.Second):
		return nil, usagef("--interval must be 5ms to 1s")
	case o.Armed < 10*time.Second:
		return nil, usagef("--armed must be 10s or more")
	case o.Settle < time.Second:
		return nil, usagef("--settle must be 1s or more")
	case o.Hold < 0:
		return nil, usagef("--hold must be 0 (the scenario's own time) or more")
	}
	for _, r := range o.AcceptRisk {
		if r != drill.QuorumRisk && r != drill.DriftRisk {
			return nil, usagef("--accept-risk=%s: the risks are quorum and drift", r)
		}
	}
	for _, m := range o.Allow {
		if m != "reboot" {
			return nil, usagef("--allow=%s: the only means is reboot", m)
		}
	}
	if o.all {
		return drill.Scenarios(), nil
	}
	found, err := drill.Find(names...)
	if err != nil {
		var all []string
		for _, s := range drill.Scenarios() {
			all = append(all, s.Name)
		}
		return nil, didYouMean(&usageError{err}, names, all)
	}
	return found, nil
}

func (a *app) drill(c *cobra.Command, o drillOptions, scenarios []drill.Scenario) error {
	ctx := c.Context()
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	o.Bounds = inv.Drill.Bounds
	if err := writable(o.report); err != nil {
		return err
	}
	if err := o.Refused(o.cluster(inv, nil), scenarios); err != nil {
		return err
	}
	s, err := a.connect(c, resultsOnly, inv)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.everyHost(nil); err != nil {
		return err
	}
	if o.force {
		if err := s.breakLocks(ctx); err != nil {
			return err
		}
	}
	release, err := s.lock(ctx, "drill")
	if err != nil {
		return err
	}
	defer release()
	cluster, hangUp, err := s.drillCluster(ctx, &o)
	if err != nil {
		return err
	}
	defer hangUp()
	if slices.Contains(o.AcceptRisk, drill.DriftRisk) {
		cluster.PlanEmpty = nil
	}
	s.endProgress()
	if err := a.confirmDrill(ctx, cluster, &o, scenarios); err != nil {
		return err
	}
	p := a.drillPainter(s.verbRun)
	d := &drill.Drill{Cluster: cluster, Options: o.Options, Scenarios: scenarios, Observer: p.observer()}
	rep, err := d.Run(ctx)
	p.close()
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
		return withCode(ExitUsage, remote.Hint(fmt.Errorf("--report: %w", err), "name a folder that can be written to"))
	}
	return nil
}

// finishDrill prints the result and writes the reports.
func (a *app) finishDrill(folder string, rep *drill.Report) error {
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

// confirmDrill shows what is about to happen and asks.
func (a *app) confirmDrill(ctx context.Context, cluster *drill.Cluster, o *drillOptions, scenarios []drill.Scenario) error {
	may, not := o.Permitted(cluster, scenarios)
	show := func() error { return a.printIntent(cluster, scenarios, not) }
	if o.yes {
		defer a.pause()()
		return show()
	}
	return a.confirm(ctx, question{
		show:       show,
		text:       fmt.Sprintf("\n%s, %s each. Go on?", ui.Count(len(may), "scenario"), ui.Count(o.Repeat, "run")),
		noTerminal: "the cluster would be broken, and there is no terminal to ask on",
		undone:     "nothing was broken",
	})
}

// printIntent lists the scenarios that will run, and those that will not with
// the reason.
func (a *app) printIntent(cluster *drill.Cluster, scenarios []drill.Scenario, not map[string]error) error {
	fmt.Fprintf(a.stderr, "about to break cluster %s on purpose:\n", cluster.Name)
	t := ui.Table{Indent: "  "}
	for _, s := range scenarios {
		if why := not[s.Name]; why != nil {
			hint := strings.Join(hintsOf(why), "; ")
			t.Add("-", s.Name, strings.TrimSuffix(why.Error()+"; "+hint, "; "))
			continue
		}
		t.Add("!", s.Name, s.Summary)
	}
	return t.Write(a.stderr, a.errStyle())
}

// planEmpty is nil when hactl up would change nothing.
func (s *session) planEmpty(ctx context.Context) error {
	p, err := s.makePlan(ctx, nil)
	if err != nil {
		return err
	}
	if err := p.Err(); err != nil {
		return err
	}
	var what []string
	for _, i := range p.Pending() {
		what = append(what, fmt.Sprintf("%s: %s", i.Step.ID, i.Change.Summary))
	}
	if what != nil {
		return fmt.Errorf("%s pending: %s", ui.Count(len(what), "change"), strings.Join(what, "; "))
	}
	return nil
}
