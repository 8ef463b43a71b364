package cmd

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hactl/internal/ops"
)

func (a *app) certsRenewCommand() *cobra.Command {
	var o ops.RenewOptions
	c := &cobra.Command{
		Use:   "renew",
		Short: "Sign certificates anew and have them used, without restarting an apiserver",
		Long: `Sign every certificate anew that ends within 30 days, with --all every one. hactl
signs all of them itself, those of kubeadm and of the kubelets too. Masters take
theirs one after another, with a look at the whole cluster in between; each process
has to serve what it was given before the next host is begun. No apiserver restarts.

If something has expired already, all masters take theirs at once: etcd first, then
the kubelets, then the control plane. The CAs stay.

Where the key of an authority is not here (pki.externalCA without key), the signing
requests are written to requests-CLUSTER beside the inventory, and nothing else is
done. Have them signed, then run the same command with --certs FOLDER.

It can be killed at any moment; the next run completes what was begun.
Exit code 0: done; 2: --dry-run, something is due; 5: the cluster was not well between
two hosts, or a certificate is not in order at the end; 7: certificates wait for a
signature, or a signed one does not serve; 8: another run holds the lock.`,
		Example: `  hactl certs renew
  hactl certs renew --all --yes
  hactl certs renew --only etcd --dry-run
  hactl certs renew --all --certs signed/`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, g := range o.Only {
				if !slices.Contains(ops.RenewGroups, g) {
					return usagef("there is no group %q: write %s", g, strings.Join(ops.RenewGroups, ", "))
				}
			}
			return a.operate(c, &o.Options, nil, func(ctx context.Context, r ops.Request) (*ops.Result, error) { return ops.Renew(ctx, r, o) })
		},
	}
	c.Flags().BoolVar(&o.All, "all", false, "renew every certificate, due or not")
	c.Flags().StringSliceVar(&o.Only, "only", nil, "renew this `group`, due or not, besides what is due: "+strings.Join(ops.RenewGroups, ", "))
	a.certsFlag(c)
	a.operationFlags(c, &o.Options)
	return c
}
