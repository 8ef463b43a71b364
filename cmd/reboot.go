package cmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/kubeadm"
)

func (a *app) rebootCommand() *cobra.Command {
	var o ops.RebootOptions
	c := &cobra.Command{
		Use:   "reboot [HOST...]",
		Short: "Reboot hosts one after the other, while the cluster goes on serving",
		Long: `Reboot hosts one after the other. Each is taken out of service first: its node is
cordoned and drained (disruption budgets are respected), another member leads etcd,
another master holds the VIP. Then it reboots, and once its node is Ready it is given
back. Between two hosts the whole cluster has to be well: every etcd member, every
apiserver, the VIP, every node that was Ready before. If it is not, or a host does not
come back, no further host is begun.

It can be killed at any moment; the next run completes what was begun. A node that an
operator cordoned stays cordoned.

Exit code 0: done; 2: --dry-run, hosts are due; 3: a host could not be looked at;
5: a host did not come back, or the cluster was not well between two hosts; 7: refused,
not safe; 8: another run holds the lock.`,
		Example: `  hactl reboot --all
  hactl reboot --if-required --yes
  hactl reboot master-2 worker-1 --dry-run`,
		ValidArgsFunction: a.completeHosts(),
		RunE: func(c *cobra.Command, names []string) error {
			chosen := 0
			for _, is := range []bool{len(names) > 0, o.All, o.IfRequired && !o.All} {
				if is {
					chosen++
				}
			}
			if chosen != 1 {
				return usagef("name hosts, or give --all or --if-required")
			}
			if o.Drain < time.Second || o.Return < time.Second {
				return usagef("--drain-timeout and --boot-timeout must be 1s or more")
			}
			o.Hosts = names
			return a.operate(c, &o.Options, names, func(ctx context.Context, r ops.Request) (*ops.Result, error) {
				o.Drain = stretched(ctx, c, "drain-timeout", o.Drain)
				o.Return = stretched(ctx, c, "boot-timeout", o.Return)
				return ops.Reboot(ctx, r, o)
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&o.All, "all", false, "every host of the inventory")
	f.BoolVar(&o.IfRequired, "if-required", false, "the hosts that want it: /run/reboot-required exists, or a newer kernel is installed")
	f.BoolVar(&o.AcceptDowntime, "accept-downtime", false, "reboot masters although the API is down meanwhile (one or two masters)")
	f.DurationVar(&o.Drain, "drain-timeout", kubeadm.DrainTimeout, "how long the pods of a host may take to leave it")
	f.DurationVar(&o.Return, "boot-timeout", 10*time.Minute, "how long a host may take to come back")
	a.operationFlags(c, &o.Options)
	return c
}
