// Package exitcode says which exit code an error stands for. Codes are stable:
// scripts and CI pipelines branch on them. A code is never given another meaning.
package exitcode

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// The exit codes of hactl.
const (
	OK          = 0
	Error       = 1
	Pending     = 2
	Unknown     = 3
	Usage       = 4
	Unhealthy   = 5
	BoundMissed = 6
	Unsafe      = 7
	Locked      = 8
	Unclear     = 9
	Interrupted = 130
)

// All lists every code with its meaning, for the help text and the README.
var All = []struct {
	Code    int
	Meaning string
}{
	{OK, "done; for plan and diff: every host is in sync"},
	{Error, "something went wrong"},
	{Pending, "plan, diff: changes are pending"},
	{Unknown, "unknown: a host could not be looked at"},
	{Usage, "wrong usage, or an inventory with problems"},
	{Unhealthy, "verification: the cluster is up but not healthy"},
	{BoundMissed, "drill: a recovery took longer than its bound"},
	{Unsafe, "refused: not safe to start (quorum, health, a guard)"},
	{Locked, "another run holds the lock"},
	{Unclear, "drill: no bound was missed, but the machine was too busy to tell about some"},
	{Interrupted, "interrupted, or not confirmed; what was running has been finished unless aborted"},
}

// coded is an error with the exit code it stands for. Err may be nil: the code
// alone is the message (changes pending), and nothing more is printed.
type coded struct {
	code int
	err  error
}

// With gives err an exit code. A nil err is a silent code: see [Silent].
func With(code int, err error) error { return &coded{code: code, err: err} }

func (e *coded) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *coded) Unwrap() error { return e.err }

// ExitCode makes coded one of the errors that know their code.
func (e *coded) ExitCode() int { return e.code }

// Silent reports whether err is a code without a message.
func Silent(err error) bool {
	var e *coded
	return errors.As(err, &e) && e.err == nil
}

// coder is an error type that knows its exit code.
type coder interface{ ExitCode() int }

// Of maps an error to its exit code. An error type of another package says
// its own code with a method ExitCode() int. Of several errors joined, an
// interruption and then any definite failure comes before "could not look".
func Of(err error) int {
	if err == nil {
		return OK
	}
	var knows coder
	var problems inventory.Problems
	var locked *remote.LockedError
	switch {
	case errors.As(err, &knows):
		return knows.ExitCode()
	case errors.As(err, &problems):
		return Usage
	case errors.As(err, &locked):
		return Locked
	case errors.Is(err, plan.ErrStopped), errors.Is(err, context.Canceled):
		return Interrupted
	}
	for _, e := range Flatten(err) {
		if !remote.Unreachable(e) {
			return Error
		}
	}
	return Unknown
}

// Flatten lists the errors of a join, at any depth as long as nothing is
// wrapped around it that would be lost; a hint or a code may be.
func Flatten(err error) []error {
	switch e := err.(type) { //nolint:errorlint // only what is outermost is taken apart
	case nil:
		return nil
	case several:
		if !isJoin(err) {
			break
		}
		var out []error
		for _, sub := range e.Unwrap() {
			out = append(out, Flatten(sub)...)
		}
		return out
	case *remote.HintError:
		if isJoin(e.Err) {
			return Flatten(e.Err)
		}
	case interface {
		coder
		wrapper
	}:
		if inner := e.Unwrap(); inner == nil || inner.Error() == err.Error() {
			return Flatten(inner)
		}
	}
	return []error{err}
}

// several is an error that wraps more than one, wrapper one that wraps one.
type (
	several interface{ Unwrap() []error }
	wrapper interface{ Unwrap() error }
)

// isJoin tells errors.Join, which says nothing of its own, from a text around
// several errors.
func isJoin(err error) bool {
	e, ok := err.(several) //nolint:errorlint // only what is outermost is asked
	if !ok {
		return false
	}
	var lines []string
	for _, sub := range e.Unwrap() {
		lines = append(lines, sub.Error())
	}
	return err.Error() == strings.Join(lines, "\n")
}
