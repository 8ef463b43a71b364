package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/preflight"
	"hactl/internal/ui"
)

func (a *app) preflightCommand() *cobra.Command {
	var ignore, takeOver []string
	c := &cobra.Command{
		Use:   "preflight",
		Short: "Look whether the hosts can become the cluster, and change nothing",
		Long: `Look at all hosts at once, alone and between one another, and say what would keep
them from becoming the cluster of the inventory. Nothing is changed; a scratch
file beside etcd's data measures the disk and is removed again.
Every check has an id that --ignore takes. What could not be looked at is shown
as unknown; it never counts as passed.
Exit code 0: no errors; 1: an error that is not ignored; 3: a check that could
have found an error could not look.`,
		Example: `  hactl preflight
  hactl preflight -i inventory.yaml --ignore disk-space --ignore os
  hactl preflight -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.preflight(c, ignore, takeOver) },
	}
	c.Flags().StringSliceVar(&ignore, "ignore", nil, "`id` of a check whose findings do not count; repeat for more")
	takeOverFlag(c, &takeOver)
	_ = c.RegisterFlagCompletionFunc("ignore", completeChecks)
	return c
}

func (a *app) preflight(c *cobra.Command, ignore, takeOver []string) error {
	if err := checkTakeOver(takeOver); err != nil {
		return err
	}
	if err := checkIgnored(ignore); err != nil {
		return err
	}
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	req := run.request(inv)
	req.TakeOver = takeOver
	rep, err := ops.Preflight(c.Context(), req, ignore)
	if err != nil {
		return err
	}
	run.endProgress()
	if a.json() {
		err = a.printJSON(rep)
	} else {
		err = a.printPreflight(rep, len(inv.Hosts))
	}
	if err != nil {
		return err
	}
	switch {
	case rep.Err() != nil:
		return exitcode.With(exitcode.Error, nil)
	case rep.Blind():
		return exitcode.With(exitcode.Unknown, nil)
	}
	return nil
}

// checkIgnored refuses what --ignore names and no check is called.
func checkIgnored(ids []string) error {
	if err := preflight.CheckIgnored(ids); err != nil {
		return didYouMean(&usageError{err}, ids, preflight.IDs())
	}
	return nil
}

// printPreflight shows one line a check, and under it what was found, hosts with
// the same finding together; hosts is how many the inventory has.
func (a *app) printPreflight(rep *preflight.Report, hosts int) error {
	st := a.style()
	paint := map[preflight.State]func(string) string{
		preflight.Passed: st.Green, preflight.Failed: st.Red, preflight.Weak: st.Yellow,
		preflight.NotSeen: st.Cyan, preflight.Ignored: st.Dim,
	}
	t := ui.Table{Header: []string{"CHECK", "STATE", "HOSTS", "WHAT"}, Color: func(column, cell string) func(string) string {
		if column != "STATE" {
			return nil
		}
		return paint[preflight.State(cell)]
	}}
	for _, r := range rep.Results {
		if r.State == preflight.Passed {
			t.Add(r.ID, string(r.State), "", r.Title)
		}
		groups := r.Grouped()
		for i, g := range groups {
			state := string(g.Severity)
			if r.State == preflight.Ignored {
				state = string(r.State)
			}
			t.Add(r.ID, state, ui.HostList(g.Hosts, hosts), g.Message)
			// A hint that holds for the next line as well is given once, after it.
			if last := i == len(groups)-1; g.Hint != "" && (last || groups[i+1].Hint != g.Hint) {
				t.Add("", "", "", "hint: "+g.Hint)
			}
		}
	}
	if err := t.Write(a.stdout, st); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\n%s: %d passed, %d with errors, %d with warnings, %d unknown, %d ignored, in %s\n", ui.Count(len(rep.Results), "check"),
		rep.Count(preflight.Passed), rep.Count(preflight.Failed), rep.Count(preflight.Weak), rep.Count(preflight.NotSeen), rep.Count(preflight.Ignored), ui.Took(rep.Took))
	return err
}
