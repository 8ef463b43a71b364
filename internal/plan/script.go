package plan

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"hactl/internal/remote"
)

// Script is a step whose look prints "ok" when it is in sync, or a few words on
// what is missing; Run brings it about.
type Script struct {
	ID      ID
	Host    string
	Title   string
	Lane    string
	Look    string // prints "ok" or what is wrong; any exit code other than 0 is "could not look"
	Unit    string // of the look; see [Look]
	Op      Op     // Do when empty
	Summary string // what Run does
	// Acts are those of the change, from what Look printed; nil: the answer as a
	// whole, so that another answer at the script's turn stops the run. See [EachOf].
	Acts func(answer string) []string
	Run  string
	// Back makes undone what Run did, when the gate of a [Roll] fails; empty: nothing
	// does.
	Back string
	// Made is what Run makes, from what Look printed.
	Made    func(answer string) []Made
	Owns    []Made        // see [Step]
	Stdin   []byte        // for Run; may be secret
	Timeout time.Duration // of Run
	Stream  bool          // report Run's output lines
}

// Step returns the step.
func (s Script) Step() Step {
	key := "script " + string(s.ID)
	if s.Op == "" {
		s.Op = Do
	}
	return Step{
		ID: s.ID, Host: s.Host, Lane: s.Lane, Title: s.Title, Owns: s.Owns,
		Look: []Look{{Key: key, Script: s.Look, Unit: s.Unit}},
		Check: func(_ context.Context, env Env) (*Change, error) {
			a, err := env.Saw(key)
			if err != nil {
				return nil, err
			}
			switch {
			case a.Exit != 0 || a.Out == "":
				a.Stderr = cmp.Or(a.Stderr, remote.Clean(a.Out))
				return nil, a.Failed(s.Title)
			case a.Out == "ok":
				return nil, nil
			}
			c := &Change{Op: s.Op, Summary: fmt.Sprintf("%s (%s)", s.Summary, remote.Clean(a.Out))}
			if s.Acts != nil {
				c.Acts = s.Acts(remote.Clean(a.Out))
			}
			if s.Made != nil {
				c.Made = s.Made(remote.Clean(a.Out))
			}
			if s.Back != "" {
				c.Revert = func(ctx context.Context, env Env) error {
					_, err := env.Host.Run(ctx, remote.Cmd{Script: s.Back, Title: "put back: " + s.Title, Timeout: s.Timeout})
					return err
				}
			}
			return c, nil
		},
		Apply: func(ctx context.Context, env Env, _ *Change) error {
			c := remote.Cmd{Script: s.Run, Stdin: s.Stdin, Title: s.Title, Timeout: s.Timeout}
			if s.Stream {
				c.Output = func(line string) { env.Say("%s", line) }
			}
			_, err := env.Host.Run(ctx, c)
			return err
		},
	}
}
