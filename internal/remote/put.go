package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// What a host's file system refused. Errors of Put and Send wrap one of them,
// with a hint; those of Run where a command says so.
var (
	ErrNoSpace    = errors.New("no space left on the host's disk")
	ErrReadOnly   = errors.New("the host's file system is read-only")
	ErrIO         = errors.New("the host's disk is full, or it fails")
	ErrPermission = errors.New("permission denied on the host")
	ErrIsFolder   = errors.New("a folder is in the way")
	ErrCutShort   = errors.New("content arrived incomplete")
)

const (
	exitIsFolder = 70
	exitCutShort = 74
)

// writeHead makes a temporary file $t beside the path $p, with owner and mode
// before any content, and sees to it that it goes when the script ends early.
func writeHead(p, temp, owner string, mode fs.FileMode) string {
	return fmt.Sprintf(`set -e
p=%s d=%s
umask 022; [ -d "$d" ] || mkdir -p "$d"
umask 077
[ ! -d "$p" ] || [ -L "$p" ] || exit %d
t=$(mktemp "$d/%s.XXXXXX")
trap 'rm -f "$t"' EXIT
trap 'exit 1' HUP INT TERM
chown %s "$t"
chmod %04o "$t"
`, Quote(p), Quote(path.Dir(p)), exitIsFolder, temp, Quote(orDefault(owner, "root:root")), perm(mode))
}

// writeEnd puts $t in place. The file reaches the disk before its name does,
// so a power cut leaves the old file or the new one.
const writeEnd = `sync "$t"
mv -fT "$t" "$p"
sync "$d"
`

func perm(m fs.FileMode) fs.FileMode { return orDefault(m.Perm(), 0o644) }

// Put implements [Host].
func (c *Conn) Put(ctx context.Context, files ...File) error {
	if len(files) == 0 {
		return nil
	}
	content := []byte{}
	for _, f := range files {
		if err := checkPath(f.Path, f.Owner); err != nil {
			return err
		}
		content = append(content, f.Content...)
	}
	title := "write " + files[0].Path
	if n := len(files); n > 1 {
		title += fmt.Sprintf(" and %d more", n-1)
	}
	out, err := c.perform(ctx, call{title: title, script: putScript(files, len(content)), stdin: content, timeout: DefaultTimeout})
	if err != nil {
		return err
	}
	said, i := wroteAt(out.stderr, len(files))
	out.stderr = said
	return c.writeError("write "+files[i].Path, files[i].Path, out)
}

// at precedes the number of the file that a put failed at.
const at = "hactl: at file "

// putScript writes the files whose contents stand on stdin, one after another
// and total bytes in all. $1 and on are the temporary files.
func putScript(files []File, total int) string {
	var b, names strings.Builder
	fmt.Fprintf(&b, "set -e\ni=0\ntrap 'r=$?; rm -f -- \"$@\"; [ $r = 0 ] || echo \"%s$i\" >&2' EXIT\ntrap 'exit 1' HUP INT TERM\n", at)
	type access struct {
		owner string
		mode  fs.FileMode
	}
	shared := map[access][]string{}
	var order []access
	var dirs []string
	for i, f := range files {
		d := path.Dir(f.Path)
		t := fmt.Sprintf(`"${%d}"`, i+1)
		fmt.Fprintf(&b, `i=%d p=%s d=%s
[ -d "$d" ] || { umask 022; mkdir -p "$d"; }
umask 077
[ ! -d "$p" ] || [ -L "$p" ] || exit %d
t=$(mktemp "$d/.hactl-put.XXXXXX")
set -- "$@" "$t"
head -c %d >"$t"
`, i, Quote(f.Path), Quote(d), exitIsFolder, len(f.Content))
		fmt.Fprintf(&names, "i=%d; mv -fT %s %s\n", i, t, Quote(f.Path))
		a := access{orDefault(f.Owner, "root:root"), perm(f.Mode)}
		if shared[a] == nil {
			order = append(order, a)
		}
		shared[a] = append(shared[a], t)
		if q := Quote(d); !slices.Contains(dirs, q) {
			dirs = append(dirs, q)
		}
	}
	fmt.Fprintf(&b, "[ \"$(cat \"$@\" | wc -c)\" -eq %d ] || exit %d\n", total, exitCutShort)
	for _, a := range order {
		l := strings.Join(shared[a], " ")
		fmt.Fprintf(&b, "chown %s %s\nchmod %04o %s\n", Quote(a.owner), l, a.mode, l)
	}
	fmt.Fprintf(&b, "sync \"$@\"\n%ssync %s\n", names.String(), strings.Join(dirs, " "))
	return b.String()
}

// wroteAt reads which of n files a failed put was at, and returns the rest of
// what the host said.
func wroteAt(stderr []byte, n int) (said []byte, file int) {
	k := bytes.LastIndex(stderr, []byte(at))
	if k < 0 {
		return stderr, 0
	}
	i, err := strconv.Atoi(strings.TrimSpace(string(stderr[k+len(at):])))
	if err != nil || i < 0 || i >= n {
		return stderr, 0
	}
	return stderr[:k], i
}

func checkPath(p, owner string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.ContainsRune(p, 0) {
		return fmt.Errorf("write %q: not a clean absolute path", p)
	}
	if strings.HasPrefix(owner, "-") {
		return fmt.Errorf("write %q: owner %q", p, owner)
	}
	return nil
}

// diskError names a disk that is full, read-only or broken, from what a command
// said; nil when it said nothing of that. dir is the folder that was written to, or "".
func (c *Conn) diskError(said, dir string, err error) error {
	has := func(text string) bool { return strings.Contains(said, text) }
	of := ""
	if dir != "" {
		of, dir = " of "+dir, " "+dir
	}
	switch {
	case has("No space left on device"), has("Disk quota exceeded"):
		return Hint(fmt.Errorf("%w: %w", ErrNoSpace, err), "make room on %s: df -h%s; df -i%s", c.t.name, dir, dir)
	case has("Read-only file system"):
		return Hint(fmt.Errorf("%w: %w", ErrReadOnly, err), "look at the disk of %s: dmesg | tail; then mount -o remount,rw the file system%s", c.t.name, of)
	case has("Input/output error"), has(": I/O error"): // the second is what dash says of a full disk, too
		return Hint(fmt.Errorf("%w: %w", ErrIO, err), "look at the disk of %s: df -h%s; df -i%s; dmesg | tail", c.t.name, dir, dir)
	}
	return nil
}

// writeError names what the host's file system refused.
func (c *Conn) writeError(title, p string, out *outcome) error {
	if out.exit == 0 {
		return nil
	}
	err := error(c.exitError(title, out))
	dir := path.Dir(p)
	said := string(out.stderr)
	has := func(text string) bool { return strings.Contains(said, text) }
	if sick := c.diskError(said, dir, err); sick != nil {
		return sick
	}
	switch {
	case out.exit == exitIsFolder:
		return Hint(fmt.Errorf("%w: %w", ErrIsFolder, err), "move the folder %s on %s away", p, c.t.name)
	case out.exit == exitCutShort:
		return Hint(fmt.Errorf("%w: %w", ErrCutShort, err), "run the same command again")
	case has("Permission denied"), has("Operation not permitted"):
		return Hint(fmt.Errorf("%w: %w", ErrPermission, err), "log in as root or with ssh.sudo: true; lsattr -d %s on %s shows an immutable flag", dir, c.t.name)
	}
	return err
}
