package plan

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
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
		Look: []Look{f.look()},
		Check: func(_ context.Context, env Env) (*Change, error) {
			a, err := env.Saw(f.key())
			if err != nil {
				return nil, err
			}
			return f.check(a)
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

// key tells the two looks at a path apart, which show a content when it differs
// from what is wanted.
func (f File) key() string {
	if f.Absent {
		return "no file " + f.Path
	}
	return "file " + f.Path
}

func (f File) sum() string { return hexSum(f.Content) }

func hexSum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// look prints "absent", or mode, owner, type and hash, and the content only when
// it differs and may be shown. Where there is no telling it fails, which check
// takes for "could not look".
func (f File) look() Look {
	if f.Absent { // any content is shown
		f.Content = nil
	}
	show := `[ "$h" = ` + f.sum() + ` ] || [ "$(stat -c %s -- "$f")" -gt ` + fmt.Sprint(maxDiff) + ` ] || base64 <"$f"`
	if f.Secret {
		show = ":"
	}
	if plain.MatchString(f.Path) {
		return Look{Key: f.key(), File: f.Path, Script: `f=` + f.Path + `
about_file "$f" || { [ $? = 1 ] || exit 1; echo absent; exit 0; }
printf '%s\n' "$s"; [ -z "$h" ] || { printf '%s\n' "$h"; ` + show + `; }`}
	}
	return Look{Key: f.key(), Script: `f=` + remote.Quote(f.Path) + `
if s=$(stat -c '%a %U:%G %F' -- "$f" 2>&1); then
case $s in *' regular'*) ;; *) printf '%s\n' "$s"; exit 0;; esac
h=$(sha256sum <"$f") || exit 1; h=${h%% *}; printf '%s\n%s\n' "$s" "$h"; ` + show + `
else says_absent "$s" && echo absent; fi`}
}

// plain is a path that stat and sha256sum print as it is.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._+-]{1,200}$`)

func (f File) check(a Answer) (*Change, error) {
	lines := strings.SplitN(a.Out, "\n", 3)
	switch {
	case a.Exit == 0 && a.Out == "absent" && f.Absent:
		return nil, nil
	case a.Exit == 0 && a.Out == "absent":
		c := f.change(Create, "write "+f.Path, "", "absent", Former{Absent: true})
		c.Revert = func(ctx context.Context, env Env) error { return remove(ctx, env, f.Path) }
		return c, nil
	case a.Exit != 0 || a.Out == "":
		return nil, a.Failed(f.Path)
	}
	meta := strings.SplitN(lines[0], " ", 3)
	if len(meta) != 3 {
		return nil, fmt.Errorf("look at %s: unreadable answer", f.Path)
	}
	if !strings.HasPrefix(meta[2], "regular") {
		return nil, remote.Hint(fmt.Errorf("%s is a %s, expected a regular file", f.Path, remote.Clean(meta[2])),
			"move it away by hand; hactl replaces only regular files")
	}
	if len(lines) < 2 || !sys.SHA256Form.MatchString(lines[1]) {
		return nil, fmt.Errorf("look at %s: unreadable answer", f.Path)
	}
	mode, owner := fmt.Sprintf("%o", f.Mode.Perm()), ownerPair(f.Owner)
	was := Former{SHA256: lines[1], Mode: remote.Clean(meta[0]), Owner: remote.Clean(meta[1])}
	if !f.Absent && lines[1] == f.sum() {
		if meta[0] == mode && meta[1] == owner {
			return nil, nil
		}
		return f.change(Update, fmt.Sprintf("set %s to %s %s (is %s %s)", f.Path, mode, owner, was.Mode, was.Owner), string(f.Content), lines[1], was), nil
	}
	if f.Keep != "" && !f.Absent {
		return nil, remote.Hint(fmt.Errorf("%s holds something else (sha256 %.12s…) and is never replaced", f.Path, lines[1]), "%s", f.Keep)
	}
	before := ""
	if len(lines) == 3 {
		b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(lines[2], "\n", ""))
		if err != nil {
			return nil, fmt.Errorf("look at %s: unreadable content: %w", f.Path, err)
		}
		before = string(b)
	}
	if f.Absent {
		return f.change(Delete, "remove "+f.Path, before, lines[1], was), nil
	}
	return f.change(Update, "rewrite "+f.Path, before, lines[1], was), nil
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
