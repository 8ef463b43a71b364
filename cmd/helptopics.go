package cmd

import "github.com/spf13/cobra"

// exitCodesTopic is hactl help exit-codes: a topic, not a command.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  exitCodeHelp(),
	}
}
