package plan

import (
	"context"
	"strings"

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
	Absent bool // wants that nothing is there; Local and SHA256 do not matter
}

// Step returns the step that keeps the program there, 0755 and root's.
func (x Executable) Step() Step {
	key := "executable " + x.Path
	return Step{
		ID: x.ID, Host: x.Host, Lane: x.Lane, Title: x.Path, Quick: true, Owns: x.owns(),
		Look: []Look{{Key: key, Script: `f=` + remote.Quote(x.Path) + `
if is_there "$f"; then
s=$(hash_of "$f") || exit 1; [ -x "$f" ] || s="$s, not executable"; echo "$s"
else echo absent; fi`}},
		Check: func(_ context.Context, env Env) (*Change, error) {
			a, err := env.Saw(key)
			if err != nil {
				return nil, err
			}
			switch {
			case a.Exit != 0 || a.Out == "":
				return nil, a.Failed(x.Path)
			case a.Out == "absent" && x.Absent, a.Out == x.SHA256 && !x.Absent:
				return nil, nil
			case a.Out == "absent":
				c := x.change(Create, "install "+x.Path, a.Out)
				// One program more does no harm, and may be in use.
				c.Revert = func(context.Context, Env) error { return nil }
				return c, nil
			case x.Absent:
				return x.change(Delete, "remove "+x.Path, remote.Clean(a.Out)), nil
			}
			return x.change(Update, "replace "+x.Path, remote.Clean(a.Out)), nil
		},
		Apply: func(ctx context.Context, env Env, _ *Change) error {
			if x.Absent {
				return remove(ctx, env, x.Path)
			}
			_, err := env.Host.Send(ctx, remote.Upload{Local: x.Local, Path: x.Path, SHA256: x.SHA256, Mode: 0o755, Owner: "root:root"})
			return err
		},
	}
}

func (x Executable) owns() []Made {
	if x.Absent {
		return nil
	}
	return []Made{{Kind: "file", Name: x.Path, SHA256: x.SHA256, Former: Former{Absent: true}}}
}

func (x Executable) change(op Op, what, seen string) *Change {
	was := Former{Absent: seen == "absent"}
	if !was.Absent {
		was.SHA256, _, _ = strings.Cut(seen, ",")
	}
	m := Made{Kind: "file", Name: x.Path, SHA256: x.SHA256, Former: was}
	if x.Absent {
		m.SHA256 = ""
	}
	return &Change{Op: op, Summary: what, Pin: seen, Made: []Made{m}}
}
