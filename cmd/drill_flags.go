package cmd

import (
	"time"

	"hactl/internal/drill"

	"github.com/spf13/cobra"
)

func (o *drillOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.list, "list", false, "list the scenarios: bounds, how each is undone, needs")
	f.BoolVar(&o.all, "all", false, "run every scenario that is permitted, in a safe order")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask before breaking things")
	f.BoolVar(&o.Force, "force-unlock", false, "break the lock of another run, saying whose it was")
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
	f.StringVar(&o.PowerOff, "power-off-command", "", "local `command` that cuts a host's power; {host} is its name")
	f.StringVar(&o.PowerOn, "power-on-command", "", "local `command` that switches it on again")
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
	case (o.PowerOff == "") != (o.PowerOn == ""):
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
