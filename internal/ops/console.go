// Package ops is the operations of hactl: one file each, which reads as an ordered
// list of what the operation does. run.go is the one runner of those that change
// hosts. What is shown to a person, and how, is in cmd.
package ops

import (
	"context"
	"io"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
)

// Console is where an operation was started: a terminal, or CI.
type Console interface {
	plan.Reporter // events go to the person and to the log file
	// Note says something outside of steps.
	Note(text string)
	// Hide keeps a secret out of everything that is shown or logged from now on.
	Hide(secret string)
	// Confirm asks q; only yes is no error.
	Confirm(ctx context.Context, q Question) error
	// Remote is how hosts are reached.
	Remote() remote.Options
	// Stop is closed when the person asks to stop after the running step. Until it is
	// asked for, such a wish ends the operation at once.
	Stop() <-chan struct{}
}

// Question is what an operation asks a person before it changes something.
type Question struct {
	Show       func(w io.Writer, st ui.Style) error // what the answer is about; may be nil
	Text       string                               // "Apply this?"
	Word       string                               // the word to type in place of yes, which --yes does not replace; "" for yes
	Yes        bool                                 // the answer was given on the command line: only Show
	NoTerminal string                               // the error where there is no terminal to ask on
	Undone     string                               // what an answer other than yes leaves: "nothing was changed"
}

// Request is what every operation is called with.
type Request struct {
	Inv     *inventory.Inventory
	Console Console
	// TakeOver are the words by which the operator permits to take over what was not
	// made by hactl. See internal/others.
	TakeOver []string
	// Certs is a folder of certificates that an authority has signed whose key is not here.
	Certs   string
	Started time.Time // of the process: durations are counted from it
}
