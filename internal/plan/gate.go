package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/internal/wait"
)

const (
	gateLooks = 3           // good looks in a row
	gateEvery = time.Second // from one look to the next
	gateBound = 5 * time.Minute
)

// Gate is a look at the whole cluster, which has to be good before a [Roll] goes on:
// three good looks in a row, one second apart.
type Gate struct {
	// Look is an error while the cluster is not as it has to be. The hosts in out
	// were taken out by an earlier run and are about to be worked on: that they do not
	// serve is no fault.
	Look func(ctx context.Context, out []string) error
	// Within bounds the wait for the third good look; 0 means 5 minutes.
	Within time.Duration
	// Every is from one look to the next; 0 means a second.
	Every time.Duration
	// Looks is how many good looks in a row it takes; 0 means three.
	Looks int
}

// pass waits for the gate. say reports why it waits, once for each reason.
func (g Gate) pass(ctx context.Context, out []string, stop <-chan struct{}, say func(string)) error {
	within, looks := wait.Bound(ctx, cmp.Or(g.Within, gateBound)), cmp.Or(g.Looks, gateLooks)
	bounded, cancel := wait.Exactly(ctx, "the cluster to be as it has to be", within)
	defer cancel()
	said := ""
	for good := 0; ; {
		err := g.Look(bounded, out)
		if err == nil {
			if good++; good == looks {
				return nil
			}
		} else {
			good = 0
			if text := err.Error(); text != said {
				said = text
				say(fmt.Sprintf("waiting up to %s: %s", within, text))
			}
		}
		select {
		case <-stop:
			return ErrStopped
		case <-bounded.Done():
			if ctx.Err() != nil {
				return ErrStopped
			}
			text := fmt.Sprintf("the cluster was not as it has to be for %d looks in a row within %s", looks, within)
			return &wait.OverError{Bound: within, Text: text, Err: errors.New(cmp.Or(said, "too few looks"))}
		case <-time.After(cmp.Or(g.Every, gateEvery)):
		}
	}
}

// GateError says that a roll stopped because its gate failed.
type GateError struct {
	When    string   // "before the first host", "after master-2"
	Done    []string // hosts that were changed and passed their gate
	Host    string   // the one that did not pass; empty: none was changed
	PutBack string   // what came of putting it back
	Left    []string // hosts that were not begun
	Err     error
}

// Error says what failed, what is done and what is not.
func (e *GateError) Error() string { return e.tail(fmt.Sprintf("gate %s: %v", e.When, e.Err)) }

// tail adds to what failed what is done and what is not.
func (e *GateError) tail(what string) string {
	parts := []string{what}
	if e.PutBack != "" {
		parts = append(parts, e.PutBack)
	}
	if len(e.Done) > 0 {
		parts = append(parts, "done: "+strings.Join(e.Done, ", "))
	}
	if len(e.Left) > 0 {
		parts = append(parts, "not begun: "+strings.Join(e.Left, ", "))
	}
	return strings.Join(parts, "; ")
}

// HostError says that a roll stopped because a step of a host failed.
type HostError struct {
	Host    string
	Done    []string // hosts that were changed and passed their gate
	PutBack string   // what came of putting the host back
	Left    []string // hosts that were not begun
	Err     error
}

// Error says what failed, what is done and what is not.
func (e *HostError) Error() string {
	return (&GateError{Done: e.Done, PutBack: e.PutBack, Left: e.Left, Err: e.Err}).tail(e.Err.Error())
}

// Unwrap returns why the step failed.
func (e *HostError) Unwrap() error { return e.Err }

// ExitCode is that of the step, or else the one for "unhealthy".
func (e *HostError) ExitCode() int {
	var known interface{ ExitCode() int }
	if errors.As(e.Err, &known) {
		return known.ExitCode()
	}
	return 5
}

// Unwrap returns why the gate failed.
func (e *GateError) Unwrap() error { return e.Err }

// ExitCode is the code for "unhealthy".
func (e *GateError) ExitCode() int { return 5 }
