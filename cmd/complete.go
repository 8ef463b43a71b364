package cmd

import (
	"slices"

	"github.com/spf13/cobra"

	"hactl/internal/preflight"
	"hactl/inventory"
)

// completeHosts completes the names of the inventory's hosts of the given roles
// (all of them when none is given) that are not on the command line yet. It is
// for ValidArgsFunction and for flags that take a host.
func (a *app) completeHosts(roles ...inventory.Role) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		inv, err := inventory.Load(a.inventory)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []string
		for _, h := range inv.Hosts {
			if (len(roles) == 0 || slices.Contains(roles, h.Role)) && !slices.Contains(args, h.Name) {
				out = append(out, cobra.CompletionWithDesc(h.Name, string(h.Role)+" "+h.Address))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeChecks completes the ids of preflight's checks.
func completeChecks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return preflight.IDs(), cobra.ShellCompDirectiveNoFileComp
}
