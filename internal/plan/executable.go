package plan

import (
	"context"

	"hactl/internal/remote"
	"hactl/internal/sys"
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
	there := sys.ProgramAt(x.Path)
	return Step{
		ID: x.ID, Host: x.Host, Lane: x.Lane, Title: x.Path, Quick: true, Owns: x.owns(),
		Look: []Look{LookFor(there)},
		Check: func(_ context.Context, env Env) (*Change, error) {
			p, err := Answered(env, there)
			if err != nil {
				return nil, err
			}
			return x.check(p), nil
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

func (x Executable) check(p sys.Program) *Change {
	switch {
	case p == sys.Program{} && x.Absent, p == sys.Program{SHA256: x.SHA256, Executable: true} && !x.Absent:
		return nil
	case p == sys.Program{}:
		c := x.change(Create, "install "+x.Path, "absent", Former{Absent: true})
		// One program more does no harm, and may be in use.
		c.Revert = func(context.Context, Env) error { return nil }
		return c
	case x.Absent:
		return x.change(Delete, "remove "+x.Path, p.SHA256, Former{SHA256: p.SHA256})
	}
	return x.change(Update, "replace "+x.Path, p.SHA256, Former{SHA256: p.SHA256})
}

func (x Executable) change(op Op, what, pin string, was Former) *Change {
	m := Made{Kind: "file", Name: x.Path, SHA256: x.SHA256, Former: was}
	if x.Absent {
		m.SHA256 = ""
	}
	return &Change{Op: op, Summary: what, Pin: pin, Made: []Made{m}}
}
