package cmd

import (
	"github.com/spf13/cobra"

	"hactl/inventory"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the inventory",
		Long: `Print the JSON schema of the inventory file, for editors and other tools. hactl
init writes it beside a new inventory; after an upgrade of hactl, write it again.`,
		Example: `  hactl schema > inventory.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := inventory.Schema()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(s)
			return err
		},
	}
}
