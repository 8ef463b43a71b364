package plan

import (
	"context"

	"hactl/internal/remote"
)

// Executable is a program of this machine that must be on a host.
type Executable struct {
	ID     ID
	Host   string
	Local  string // path on this machine
	SHA256 string // of Local, lower-case hex
	Path   string // absolute path on the host
	Lane   string
}

// Step returns the step that keeps the program there, 0755 and root's.
func (x Executable) Step() Step {
	key := "executable " + x.Path
	return Step{
		ID: x.ID, Host: x.Host, Lane: x.Lane, Title: x.Path, Quick: true,
		Look: []Look{{Key: key, Script: remote.HashOf + `f=` + remote.Quote(x.Path) + `
if s=$(stat -Lc %F -- "$f" 2>&1); then
s=$(hash_of "$f") || exit 1; [ -x "$f" ] || s="$s, not executable"; echo "$s"
else ` + absentOrUnknown + `; fi`}},
		Check: func(_ context.Context, env Env) (*Change, error) {
			a, err := env.Saw(key)
			if err != nil {
				return nil, err
			}
			switch {
			case a.Exit != 0 || a.Out == "":
				return nil, a.Failed(x.Path)
			case a.Out == x.SHA256:
				return nil, nil
			case a.Out == "absent":
				return &Change{Op: Create, Summary: "install " + x.Path, Pin: a.Out}, nil
			}
			return &Change{Op: Update, Summary: "replace " + x.Path, Pin: remote.Clean(a.Out)}, nil
		},
		Apply: func(ctx context.Context, env Env, _ *Change) error {
			_, err := env.Host.Send(ctx, remote.Upload{Local: x.Local, Path: x.Path, SHA256: x.SHA256, Mode: 0o755, Owner: "root:root"})
			return err
		},
	}
}
