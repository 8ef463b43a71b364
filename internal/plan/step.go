// Package plan is the one model behind plan, up, diff, drift and resume: a list
// of stages of steps per host. A step can say what it would change and can make
// that change. The package knows no component and no protocol.
package plan

import (
	"context"
	"fmt"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// ID names a step: component/host/what, such as "etcd/master-1/unit".
type ID string

// Step is one thing that must hold on one host.
type Step struct {
	ID    ID
	Host  string // inventory name of the host
	Title string // what it is, for a person: "etcd unit"
	// Lane lets steps of one host in one stage run side by side: steps of the
	// same lane run in order, different lanes at the same time.
	Lane string
	// Quick says that applying this step changes nothing that another step
	// looks at: neighbouring quick steps share their looks.
	Quick bool
	// Look is what Check has to see. The engine collects the looks of all
	// steps of a host into one round trip.
	Look []Look
	// Check is read-only and compares what was seen with what is wanted; a nil
	// Change means in sync.
	Check func(ctx context.Context, env Env) (*Change, error)
	// Apply makes the change. It is never retried.
	Apply func(ctx context.Context, env Env, c *Change) error
	// File, in place of Apply, Guard and Ready, is what has to be written: the
	// files of neighbouring quick steps go to the host in one call.
	File *remote.File
	// Guard, when set, refuses the change while it would do harm, such as
	// stopping a member without which there is no quorum.
	Guard func(ctx context.Context, env Env) error
	// Then is the change of a step of a [Roll] that takes a host out or puts it back,
	// as it is shown while the step looks in sync. See [Then].
	Then *Change
	// Owns is what the step keeps on the host, and what was there before is not known:
	// for the record of a host of an older hactl, where the step may be in sync.
	Owns []Made
	// Ready, when set, waits until the change has taken effect; it bounds and
	// names its waits itself.
	Ready func(ctx context.Context, env Env) error
}

// Look is one read-only question to a host: a POSIX shell snippet. The same key
// asked by several steps is asked once.
type Look struct {
	Key        string
	Script     string
	File, Unit string // see [sys.Question]
}

// Answer is what a Look printed. Exit is its exit code.
type Answer struct {
	Out    string // stdout without the final newline
	Stderr string // its first 500 bytes, without control characters
	Exit   int
}

// Failed is the error of a look that says nothing of what it looked at. It gives
// the reason that the host gave.
func (a Answer) Failed(what string) error {
	reason := strings.TrimSpace(a.Stderr)
	if reason != "" {
		reason = ": " + strings.ReplaceAll(reason, "\n", "; ")
	}
	return fmt.Errorf("look at %s: exit %d%s", what, a.Exit, reason)
}

// Env is what a step may use.
type Env struct {
	Host remote.Host
	// Say reports progress inside a long step or names what is waited for.
	Say  func(format string, args ...any)
	part func(name string)
	seen map[string]Answer
}

// Part begins a named part of a long step and ends the one before: the critical
// path of the run has a row for each.
func (e Env) Part(name string) {
	if e.part != nil {
		e.part(name)
	}
}

// Saw returns the answer to one of the step's looks.
func (e Env) Saw(key string) (Answer, error) {
	a, ok := e.seen[key]
	if !ok {
		return Answer{}, fmt.Errorf("step did not ask for %q", key)
	}
	return a, nil
}

// LookFor is the look that asks the question.
func LookFor[T any](q sys.Question[T]) Look {
	return Look{Key: q.Title, Script: q.Script, File: q.File, Unit: q.Unit}
}

// Answered reads the answer to a look of [LookFor].
func Answered[T any](e Env, q sys.Question[T]) (answer T, err error) {
	a, err := e.Saw(q.Title)
	switch {
	case err != nil:
		return answer, err
	case a.Exit != 0:
		return answer, a.Failed(strings.TrimPrefix(q.Title, "look at "))
	}
	if answer, err = q.Parse(a.Out); err != nil {
		return answer, fmt.Errorf("%s: %w", q.Title, err)
	}
	return answer, nil
}

// Op is the kind of a change.
type Op string

// The kinds of changes, with the glyphs that a plan shows.
const (
	Create  Op = "create"  // +
	Update  Op = "update"  // ~
	Delete  Op = "delete"  // -
	Start   Op = "start"   // >
	Restart Op = "restart" // >
	Reload  Op = "reload"  // >
	Do      Op = "run"     // !
)

// Change is what a step would do, complete enough to show and to apply.
type Change struct {
	Op      Op     `json:"op"`
	Summary string `json:"summary"` // "write /etc/…", "restart: running process has an older configuration"
	// Cause is why the look could not say more, such as the error of a request to
	// a control plane that is not up yet. A short plan leaves it out.
	Cause string `json:"cause,omitempty"`
	// Before and After are the text of a diff; both empty when there is none to
	// show. With Secret set the texts are never shown.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	Secret bool   `json:"secret,omitempty"`
	// Then says that nothing is to be done yet: an earlier step of the plan makes
	// the change necessary.
	Then bool `json:"then,omitempty"`
	// Acts name what the change does, one act each. When the step's turn comes,
	// a fresh look may ask for fewer acts than were shown, never for another one:
	// then the run stops with [ErrChanged]. Without Acts the change must be the
	// same in Op, Summary and Pin. A step sets them when its summary holds what
	// may differ from look to look, or when an earlier step may do a part of it.
	Acts []string `json:"-"`
	// Pin is the state that was seen, such as a file's hash, or "absent".
	Pin string `json:"-"`
	// Revert makes the change undone, when the gate of a [Roll] fails after it; nil
	// where that is not possible or not safe. It is called in the order in which the
	// changes were made.
	Revert func(ctx context.Context, env Env) error `json:"-"`
	// Made is what the change makes on the host, for the record of what is hactl's.
	Made []Made `json:"-"`
	// Want is the SHA-256 of what is to be there, in hex, where the change is
	// to a file: it names a secret content without showing it.
	Want string `json:"-"`
}

// Stage is a barrier: all its steps end before the next stage begins.
type Stage struct {
	Name   string
	Serial bool // one host at a time, with all its lanes, in the order of the steps
	Steps  []Step
	Roll   *Roll // instead of Steps and Serial
}

// Hosts are the connected machines by inventory name.
type Hosts map[string]remote.Host
