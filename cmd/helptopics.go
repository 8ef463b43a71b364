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

// helpRun shows the help of the command that args name. Cobra would show that of
// the nearest one and exit 0.
func helpRun(c *cobra.Command, args []string) error {
	found, rest, err := c.Root().Find(args)
	if err != nil {
		return &usageError{err}
	}
	if len(rest) > 0 {
		return unknownWord(found, rest[0])
	}
	found.InitDefaultHelpFlag()
	return found.Help()
}
