package plan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// File is a small file that must be on a host with this content, mode and owner.
type File struct {
	ID      ID
	Host    string
	Path    string // absolute
	Content []byte
	Mode    fs.FileMode // 0 means 0644
	Owner   string      // "root:root" when empty; a user that does not exist yet is the step's error
	Secret  bool        // the content never leaves the host and is never shown
	Lane    string
	// Keep, when not empty, makes other content an error instead of a change:
	// the file is written once and never replaced. It is the error's hint.
	Keep string
	// Absent wants that nothing is there; Content, Mode and Owner do not matter.
	Absent bool
}

// maxDiff is the largest file that is fetched for a diff, in bytes.
const maxDiff = 64 << 10

// Step returns the step that keeps the file.
func (f File) Step() Step {
	f.fill()
	st := Step{
		ID: f.ID, Host: f.Host, Lane: f.Lane, Title: f.Path, Quick: true,
		Look: []Look{LookFor(f.question())},
		Check: func(_ context.Context, env Env) (*Change, error) {
			e, err := Answered(env, f.question())
			if err != nil {
				return nil, err
			}
			return f.check(e)
		},
		File: &remote.File{Path: f.Path, Content: f.Content, Mode: f.Mode, Owner: f.Owner},
		Owns: []Made{{Kind: "file", Name: f.Path, SHA256: f.sum(), Former: Former{Absent: true}}},
	}
	if f.Absent {
		st.File, st.Owns = nil, nil
		st.Apply = func(ctx context.Context, env Env, _ *Change) error { return remove(ctx, env, f.Path) }
	}
	return st
}

// unitDir holds the units that hactl writes.
const unitDir = "/etc/systemd/system/"

// remove takes a file away, and out of systemd's memory if it is a unit's.
func remove(ctx context.Context, env Env, path string) error {
	p := remote.Quote(path)
	script := "rm -f -- " + p + ` && { d=$(dirname -- ` + p + `); [ ! -d "$d" ] || sync -- "$d"; }`
	if strings.HasPrefix(path, unitDir) {
		script += " && systemctl daemon-reload"
	}
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: "remove " + path})
	return err
}

func (f *File) fill() {
	if f.Mode == 0 {
		f.Mode = 0o644
	}
	if f.Owner == "" {
		f.Owner = "root:root"
	}
}

// question asks what is at the path. The content comes along when it differs and may be
// shown; a file that must not be there shows any.
func (f File) question() sys.Question[sys.Entry] {
	switch {
	case f.Absent:
		q := sys.EntryAt(f.Path, "", maxDiff)
		q.Title += " for what it holds" // another step may want a file there
		return q
	case f.Secret:
		return sys.EntryAt(f.Path, f.sum(), -1)
	}
	return sys.EntryAt(f.Path, f.sum(), maxDiff)
}

func (f File) sum() string { return hexSum(f.Content) }

func hexSum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func (f File) check(e sys.Entry) (*Change, error) {
	switch {
	case e.Type == "" && f.Absent:
		return nil, nil
	case e.Type == "":
		c := f.change(Create, "write "+f.Path, "", "absent", Former{Absent: true})
		c.Revert = func(ctx context.Context, env Env) error { return remove(ctx, env, f.Path) }
		return c, nil
	case !e.Regular():
		return nil, remote.Hint(fmt.Errorf("%s is a %s, expected a regular file", f.Path, remote.Clean(e.Type)),
			"move it away by hand; hactl replaces only regular files")
	}
	was := Former{SHA256: e.SHA256, Mode: remote.Clean(e.Mode), Owner: remote.Clean(e.Owner)}
	switch mode, owner := fmt.Sprintf("%o", f.Mode.Perm()), ownerPair(f.Owner); {
	case f.Absent:
		return f.change(Delete, "remove "+f.Path, string(e.Content), e.SHA256, was), nil
	case e.SHA256 != f.sum() && f.Keep != "":
		return nil, remote.Hint(fmt.Errorf("%s holds something else (sha256 %.12s…) and is never replaced", f.Path, e.SHA256), "%s", f.Keep)
	case e.SHA256 != f.sum():
		return f.change(Update, "rewrite "+f.Path, string(e.Content), e.SHA256, was), nil
	case e.Mode != mode || e.Owner != owner:
		return f.change(Update, fmt.Sprintf("set %s to %s %s (is %s %s)", f.Path, mode, owner, was.Mode, was.Owner), string(f.Content), e.SHA256, was), nil
	}
	return nil, nil
}

func (f File) change(op Op, what, before, pin string, was Former) *Change {
	c := &Change{Op: op, Summary: what, Secret: f.Secret, Pin: pin, Want: f.sum()}
	if !f.Secret {
		c.Before, c.After = before, string(f.Content)
	}
	if f.Absent {
		c.Want, c.After = "", ""
	}
	c.Made = []Made{{Kind: "file", Name: f.Path, SHA256: c.Want, Former: formerFile(was, before)}}
	// Only a content that was fetched can be written again.
	if mode, err := strconv.ParseUint(was.Mode, 8, 32); err == nil && hexSum([]byte(c.Before)) == was.SHA256 {
		former := remote.File{Path: f.Path, Content: []byte(c.Before), Mode: fs.FileMode(mode), Owner: was.Owner}
		c.Revert = func(ctx context.Context, env Env) error { return env.Host.Put(ctx, former) }
	}
	return c
}

func ownerPair(o string) string {
	if strings.Contains(o, ":") {
		return o
	}
	return o + ":" + o
}
