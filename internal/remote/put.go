package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// What a host's file system refused. Errors of Put and Send wrap one of them,
// with a hint.
var (
	ErrNoSpace    = errors.New("no space left on the host's disk")
	ErrReadOnly   = errors.New("the host's file system is read-only")
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
func (c *Conn) Put(ctx context.Context, f File) error {
	if err := checkPath(f.Path, f.Owner); err != nil {
		return err
	}
	script := writeHead(f.Path, ".hactl-put", f.Owner, f.Mode) +
		fmt.Sprintf("cat >\"$t\"\n[ \"$(wc -c <\"$t\")\" -eq %d ] || exit %d\n", len(f.Content), exitCutShort) + writeEnd
	content := f.Content
	if content == nil {
		content = []byte{}
	}
	out, err := c.perform(ctx, call{title: "write " + f.Path, script: script, stdin: content, timeout: DefaultTimeout})
	if err != nil {
		return err
	}
	return c.writeError("write "+f.Path, f.Path, out)
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

// writeError names what the host's file system refused.
func (c *Conn) writeError(title, p string, out *outcome) error {
	if out.exit == 0 {
		return nil
	}
	err := error(c.exitError(title, out))
	dir := path.Dir(p)
	said := string(out.stderr)
	has := func(text string) bool { return strings.Contains(said, text) }
	switch {
	case has("No space left on device"), has("Disk quota exceeded"):
		return Hint(fmt.Errorf("%w: %w", ErrNoSpace, err), "make room on %s: df -h %s; df -i %s", c.t.name, dir, dir)
	case has("Read-only file system"):
		return Hint(fmt.Errorf("%w: %w", ErrReadOnly, err), "look at the disk of %s: dmesg | tail; then mount -o remount,rw the file system of %s", c.t.name, dir)
	case out.exit == exitIsFolder:
		return Hint(fmt.Errorf("%w: %w", ErrIsFolder, err), "move the folder %s on %s away", p, c.t.name)
	case out.exit == exitCutShort:
		return Hint(fmt.Errorf("%w: %w", ErrCutShort, err), "run the same command again")
	case has("Permission denied"), has("Operation not permitted"):
		return Hint(fmt.Errorf("%w: %w", ErrPermission, err), "log in as root or with ssh.sudo: true; lsattr -d %s on %s shows an immutable flag", dir, c.t.name)
	}
	return err
}
