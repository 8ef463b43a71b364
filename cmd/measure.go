package cmd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/spf13/cobra"

	"hactl/internal/drill"
	"hactl/internal/ops"
	"hactl/internal/remote"
)

func (a *app) measureCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "measure -- COMMAND [ARGUMENT...]",
		Short: "Run a command and count the requests that fail meanwhile",
		Long: `Run a command of yours, such as a playbook or a script, and send requests to the
cluster meanwhile: readiness, reads and acknowledged writes through the VIP, each on a
new connection. It ends with the requests that failed, the largest gap and the writes
that were lost, each with the part that the machine does not explain: the same
measurement as --measure of hactl's own verbs.

It needs a running cluster, removes what it wrote, and takes no lock. The command
gets this terminal; its output goes to stderr, the measurement to stdout.

Exit code 0: the command ended with 0, whatever was counted; 1: it failed; 3: a host
could not be reached.`,
		Example: `  hactl measure -- ansible-playbook patch-hosts.yaml
  hactl measure -o json -- sh -c 'ssh root@10.0.0.11 kubeadm upgrade node'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the command, after --")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.measure(c, args) },
	}
}

func (a *app) measure(c *cobra.Command, command []string) error {
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return usagef("the command: %v", err)
	}
	run, err := a.start(c, resultsOnly)
	if err != nil {
		return err
	}
	m, err := ops.Measure(c.Context(), run.request(inv), func(ctx context.Context) error {
		run.endProgress()
		child := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the operator's own command
		child.Stdin, child.Stdout, child.Stderr = a.stdin, a.stderr, a.stderr
		err := child.Run()
		a.sayOnStderr("the command has ended: reading the writes back")
		if err != nil {
			return remote.Hint(fmt.Errorf("%s: %w", command[0], err), "its output stands above")
		}
		return nil
	})
	run.endProgress()
	return errors.Join(a.printMeasurement(m), err)
}

func (a *app) printMeasurement(m *drill.Measurement) error {
	if m == nil {
		return nil
	}
	if a.json() {
		return a.printJSON(m)
	}
	_, err := fmt.Fprintln(a.stdout, m)
	return err
}
