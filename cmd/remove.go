package cmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/kubeadm"
)

func (a *app) removeCommand() *cobra.Command {
	var o ops.RemoveOptions
	c := &cobra.Command{
		Use:   "remove HOST",
		Short: "Take a host out of the cluster for good, alive or dead",
		Long: `Take a host out of the cluster for good: a worker or a master, the VIP's owner and
etcd's leader included. Its node is cordoned and drained, etcd's leadership and the VIP
move away, and its programs stop, now and at every boot. Then the hosts that stay are
brought to what the inventory says without it, one after another, its member leaves
etcd and its Node is deleted. The host keeps its files.

Afterwards delete the host from the inventory: until then hactl up refuses to bring it in
again. A host that does not answer is removed with --dead, if no other host hears it.

Exit code 0: done; 2: --dry-run; 5: the cluster is not well; 7: refused: etcd would
have no quorum, or the host is not dead; 8: another run holds the lock.`,
		Example: `  hactl remove worker-3
  hactl remove master-2 --dead
  hactl remove worker-3 --dry-run`,
		Args:              everyWord,
		ValidArgsFunction: a.completeHosts(),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one host at a time")
			}
			if o.Drain < time.Second {
				return usagef("--drain-timeout must be 1s or more")
			}
			o.Host = args[0]
			return a.operate(c, &o.Options, args, func(ctx context.Context, r ops.Request) (*ops.Result, error) {
				o.Drain = stretched(ctx, c, "drain-timeout", o.Drain)
				return ops.Remove(ctx, r, o)
			})
		},
	}
	c.Flags().BoolVar(&o.Dead, "dead", false, "the host is off for good and need not answer")
	c.Flags().DurationVar(&o.Drain, "drain-timeout", kubeadm.DrainTimeout, "how long the pods of the host may take to leave it")
	a.operationFlags(c, &o.Options)
	return c
}
