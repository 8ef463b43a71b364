package cmd

import (
	"fmt"
	"strings"

	"hactl/internal/exitcode"
)

// exitCodeHelp is the text of the help topic exit-codes.
func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes are stable; scripts may branch on them.\n\n")
	for _, e := range exitcode.All {
		fmt.Fprintf(&b, "  %3d  %s\n", e.Code, e.Meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

// usagef is a mistake on the command line; the command's usage line is printed with it.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// ExitCode is that of wrong usage.
func (e *usageError) ExitCode() int { return exitcode.Usage }
