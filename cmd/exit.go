package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// Exit codes are stable: scripts and CI pipelines branch on them. A code is
// never given another meaning.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitPending     = 2
	ExitUnknown     = 3
	ExitUsage       = 4
	ExitUnhealthy   = 5
	ExitBoundMissed = 6
	ExitUnsafe      = 7
	ExitLocked      = 8
	ExitUnclear     = 9
	ExitInterrupted = 130
)

// exitCodes is the one list behind hactl help exit-codes and the README.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{ExitOK, "done; for plan and diff: every host is in sync"},
	{ExitError, "something went wrong"},
	{ExitPending, "plan, diff: changes are pending"},
	{ExitUnknown, "unknown: a host could not be looked at"},
	{ExitUsage, "wrong usage, or an inventory with problems"},
	{ExitUnhealthy, "verification: the cluster is up but not healthy"},
	{ExitBoundMissed, "drill: a recovery took longer than its bound"},
	{ExitUnsafe, "refused: not safe to start (quorum, health, a guard)"},
	{ExitLocked, "another run holds the lock"},
	{ExitUnclear, "drill: no bound was missed, but the machine was too busy to tell about some"},
	{ExitInterrupted, "interrupted, or not confirmed; what was running has been finished unless aborted"},
}

// exitCodeHelp is the text of the help topic exit-codes.
func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes are stable; scripts may branch on them.\n\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// exitError is an error with the exit code it stands for. Err may be nil: the
// code alone is the message (changes pending), and nothing more is printed.
type exitError struct {
	code int
	err  error
}

// withCode gives err an exit code; a nil err is a silent code.
func withCode(code int, err error) error { return &exitError{code: code, err: err} }

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// ExitCode makes exitError one of the errors that know their code.
func (e *exitError) ExitCode() int { return e.code }

// usageError is a mistake on the command line.
type usageError struct{ err error }

// usagef is a mistake on the command line; the command's usage line is printed with it.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
func (e *usageError) ExitCode() int { return ExitUsage }

// codeOf maps an error to its exit code. An error type of another package says
// its own code with a method ExitCode() int. Of several errors joined, an
// interruption and then any definite failure comes before "could not look".
func codeOf(err error) int {
	if err == nil {
		return ExitOK
	}
	var coder interface{ ExitCode() int }
	var problems inventory.Problems
	var locked *remote.LockedError
	switch {
	case errors.As(err, &coder):
		return coder.ExitCode()
	case errors.As(err, &problems):
		return ExitUsage
	case errors.As(err, &locked):
		return ExitLocked
	case errors.Is(err, plan.ErrStopped), errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	for _, e := range flatten(err) {
		if !remote.Unreachable(e) {
			return ExitError
		}
	}
	return ExitUnknown
}
