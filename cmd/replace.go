package cmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/kubeadm"
)

func (a *app) replaceCommand() *cobra.Command {
	var o ops.ReplaceOptions
	var takeOver []string
	c := &cobra.Command{
		Use:   "replace OLD [NEW]",
		Short: "Put a new host in the place of another one, dead or alive",
		Long: `Put a new host in the place of another one, a master or a worker.

Alone, OLD is a host that was made anew: an empty machine under the same name, at the
same address or at another one that the inventory now names. With NEW, the new host
takes the place of OLD under its own name: the inventory names NEW, and OLD beside it or
no more.

The new host is prepared fully first: packages, programs, certificates, images. Then OLD
is taken out. If it answers and is in the inventory, it is emptied as by hactl remove. If
it does not, hactl asks twice, five seconds apart, from here and from the other hosts,
whether it is dead; a host that others still reach is refused, unless --dead says that it
is off for good. Its member leaves etcd, its Node is deleted, and the new host joins;
what the other hosts know of it is changed on one host after the other.

Afterwards delete OLD from the inventory: until then hactl up refuses to bring it in
again. It can be killed at any moment; the next run completes what was begun.

Exit code 0: done; 2: --dry-run; 3: the new host does not answer; 5: the cluster is not
well; 7: refused: OLD is not dead, or etcd would have no quorum; 8: another run holds
the lock.`,
		Example: `  hactl replace master-2
  hactl replace master-2 master-4
  hactl replace worker-1 worker-7 --dry-run`,
		Args:              everyWord,
		ValidArgsFunction: a.completeHosts(),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 2 {
				return usagef("one host at a time")
			}
			if o.Drain < time.Second {
				return usagef("--drain-timeout must be 1s or more")
			}
			if err := checkIgnored(o.Ignore); err != nil {
				return err
			}
			if err := checkTakeOver(takeOver); err != nil {
				return err
			}
			if o.Old = args[0]; len(args) == 2 {
				o.New = args[1]
			}
			return a.operate(c, &o.Options, args[len(args)-1:], func(ctx context.Context, r ops.Request) (*ops.Result, error) {
				r.TakeOver = takeOver
				o.Drain = stretched(ctx, c, "drain-timeout", o.Drain)
				return ops.Replace(ctx, r, o)
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Dead, "dead", false, "OLD is off for good: do not ask whether it is")
	f.DurationVar(&o.Drain, "drain-timeout", kubeadm.DrainTimeout, "how long the pods of OLD may take to leave it, if it answers")
	f.StringSliceVar(&o.Ignore, "ignore", nil, "`id` of a preflight check whose findings do not count; repeat for more")
	takeOverFlag(c, &takeOver)
	a.certsFlag(c)
	_ = c.RegisterFlagCompletionFunc("ignore", completeChecks)
	a.operationFlags(c, &o.Options)
	return c
}
