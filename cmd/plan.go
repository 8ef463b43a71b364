package cmd

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

func (a *app) planCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show what up would change, and change nothing",
		Long: `Look at every host and show what hactl up would change. Nothing is changed.
Exit code 0: in sync; 2: changes are pending; 3: a host could not be looked at.`,
		Example: `  hactl plan
  hactl plan -i inventory.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c, false, nil) },
	}
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Show what up would change, line by line, with secrets masked",
		Long: `Look at every host and show, as a unified diff, where it differs from what the
inventory says. Secrets are masked. Nothing is changed. Exit codes as of plan.`,
		Example: `  hactl diff
  hactl diff -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c, true, nil) },
	}
}

// plan looks and shows; diffs adds the lines, hosts in skip may be missing.
func (a *app) plan(c *cobra.Command, diffs bool, skip []string) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, skip); err != nil {
		return err
	}
	s, err := a.connect(c, resultsOnly, inv)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.everyHost(skip); err != nil {
		return err
	}
	p, err := s.makePlan(c.Context(), nil)
	if err != nil {
		return err
	}
	s.endProgress()
	switch {
	case a.json():
		err = a.printJSON(ui.Document(p, diffs))
	case diffs:
		err = ui.WriteDiff(a.stdout, p, a.style())
	default:
		err = ui.WritePlan(a.stdout, p, a.style())
	}
	if err != nil {
		return err
	}
	return planCode(p)
}

// planCode is 0 in sync, 2 pending, 3 unknown, 7 where up would refuse.
func planCode(p *plan.Plan) error {
	if err := p.Err(); err != nil {
		if codeOf(err) == ExitUnsafe {
			return err
		}
		return withCode(ExitUnknown, remote.Hint(err, "see what is wrong with these hosts; what could not be looked at is neither there nor absent"))
	}
	if len(p.Pending()) > 0 {
		return withCode(ExitPending, nil)
	}
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
