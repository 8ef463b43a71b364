package cmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
	"hactl/kubeadm"
)

func (a *app) upgradeCommand() *cobra.Command {
	var o ops.UpgradeOptions
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Walk a running cluster to the versions in the inventory, host by host",
		Long: `Walk a running cluster to the versions in the inventory, while it goes on serving. A
named versions.kubernetes takes etcd and containerd of its set along. First everything
that is in the way is listed, and if there is anything, nothing is changed. Then a
snapshot of etcd is saved here, the wanted apiserver is tried on it apart from the
cluster, and programs and images are brought to all hosts, which
changes nothing that runs. Then, one host after the other: etcd (its leader last), the
control planes (the VIP moves first), CoreDNS, kube-proxy and kubeadm's settings once all
apiservers are new, and containerd and the kubelet of masters and then of workers. For
another minor of Kubernetes each host is drained before. Between two hosts the whole
cluster has to be well.

It can be killed at any moment; the next run completes it. etcd, containerd or a kubelet
that does not come up is put back to the version of before, as is an apiserver, and the
run ends there. --abort walks back: within a minor always, etcd to its minor of before
until the last member has the new one, Kubernetes until the apiservers have begun.

Exit code 0: done; 2: --dry-run, something is due; 3: a host could not be looked at; 5: a
component did not come up, or the cluster was not well between two hosts; 7: refused,
something is in the way; 8: another run holds the lock.`,
		Example: `  hactl upgrade --dry-run
  hactl upgrade --measure
  hactl upgrade --stop-after 1
  hactl upgrade --abort`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.DrainTimeout < time.Second:
				return usagef("--drain-timeout must be 1s or more")
			case o.Batch < 1:
				return usagef("--batch must be 1 or more")
			case o.StopAfter < 0 || o.Soak < 0:
				return usagef("--stop-after and --soak must not be negative")
			}
			return a.operate(c, &o.Options, nil, func(ctx context.Context, r ops.Request) (*ops.Result, error) {
				o.DrainTimeout = stretched(ctx, c, "drain-timeout", o.DrainTimeout)
				return ops.Upgrade(ctx, r, o)
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Drain, "drain", false, "drain each host for a patch of Kubernetes, too")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", kubeadm.DrainTimeout, "how long the pods of a host may take to leave it")
	f.IntVar(&o.Batch, "batch", 1, "how many workers are changed side by side")
	f.IntVar(&o.StopAfter, "stop-after", 0, "end after so many turns of hosts; the next run goes on")
	f.DurationVar(&o.Soak, "soak", 0, "wait so long after each turn, and look at the cluster again")
	f.BoolVar(&o.Abort, "abort", false, "walk back to the versions of before, as far as that is possible")
	f.BoolVar(&o.AcceptDowntime, "accept-downtime", false, "go on although the API is down meanwhile (one or two masters)")
	f.BoolVar(&o.NoTry, "no-try", false, "do not try the wanted apiserver on a snapshot before")
	f.StringSliceVar(&o.Ignore, "ignore", nil, "go on in spite of obstacles of this `id`: disk, budgets, deprecated")
	a.operationFlags(c, &o.Options)
	return c
}
