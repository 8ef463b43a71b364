package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/inventory"
)

// Trust is a host's key as it shows it now, and what is known of it.
type Trust struct {
	Host   string   // inventory name
	Addr   string   // host:port
	File   string   // known_hosts; empty when the inventory pins the key
	Known  []string // "ssh-ed25519 SHA256:… (file:line)"; empty for an unknown host
	Shown  string   // "ssh-ed25519 SHA256:…"
	Line   string   // the key as the inventory's hostKey takes it
	Pinned bool     // the inventory has a hostKey: it must be corrected there
	Same   bool     // nothing to do: the shown key is the known one

	key ssh.PublicKey
}

// errSeen ends the handshake once the key has been seen: no login follows.
var errSeen = errors.New("host key seen")

// FetchTrust asks a host for its key, or with bastion the jump host in front of
// it. It does not log in there; a bastion on the way is verified as ever.
func FetchTrust(ctx context.Context, inv *inventory.Inventory, h *inventory.Host, bastion bool, opts Options) (*Trust, error) {
	o := opts.withDefaults(ctx)
	t, err := targetOf(inv, h, o.Environment)
	if err != nil {
		return nil, err
	}
	dial := dialer(o.Dial)
	switch {
	case bastion && t.via == nil:
		return nil, Hint(fmt.Errorf("%s has no bastion", h.Name), "leave --bastion out")
	case bastion:
		t = *t.via
		if t.via != nil {
			b := o.bastions.join(t.via, o)
			defer o.bastions.leave(b)
			dial = b.dial
		}
	case t.via != nil:
		b := o.bastions.join(t.via, o)
		defer o.bastions.leave(b)
		dial = b.dial
	}
	v, err := newVerifier(&t)
	if err != nil {
		return nil, unreachable(&t, "read host keys", err)
	}
	var seen ssh.PublicKey
	var verdict error
	look := func(addr string, remote net.Addr, key ssh.PublicKey) error {
		seen, verdict = key, v.check(addr, remote, key)
		return errSeen
	}
	for _, algos := range v.algos {
		// A pinned fingerprint may be of any type: take the first that fits.
		_, _, err = o.dialOnce(ctx, &t, look, algos, nil, dial)
		if errors.Is(err, errSeen) && verdict == nil {
			break
		}
	}
	if seen == nil {
		return nil, dialError(ctx, &t, &credentials{}, 1, err)
	}
	return newTrust(&t, seen, verdict), nil
}

func newTrust(t *target, key ssh.PublicKey, verdict error) *Trust {
	tr := &Trust{
		Host: t.name, Addr: t.addr, File: t.knownHosts, Shown: describeKey(key), key: key,
		Line: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Pinned: t.hostKey != "", Same: verdict == nil,
	}
	if tr.Pinned {
		tr.File = ""
	}
	var wrong *HostKeyError
	if errors.As(verdict, &wrong) {
		tr.Known = wrong.Known
	}
	return tr
}

// Accept replaces what known_hosts says of the host by the shown key, atomically.
func (t *Trust) Accept() error {
	switch {
	case t.Same:
		return nil
	case t.Pinned:
		return Hint(fmt.Errorf("the host key of %s is pinned in the inventory", t.Host), "write there: hostKey: %s", t.Line)
	}
	file := t.File
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real // a linked known_hosts stays linked
	}
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read known_hosts: %w", err)
	}
	content, err := t.rewrite(old)
	if err != nil {
		return err
	}
	return replaceFile(file, content)
}

// rewrite drops the host's lines and adds the new one at the end.
func (t *Trust) rewrite(old []byte) ([]byte, error) {
	var out bytes.Buffer
	name := knownhosts.Normalize(t.Addr)
	n := 0
	for line := range bytes.Lines(old) {
		n++
		kept, err := withoutHost(strings.TrimRight(string(line), "\r\n"), t.Addr, name)
		if err != nil {
			return nil, Hint(fmt.Errorf("%s:%d: %w", t.File, n, err), "edit line %d by hand", n)
		}
		if kept != "" || len(bytes.TrimSpace(line)) == 0 {
			out.WriteString(kept + "\n")
		}
	}
	out.WriteString(knownhosts.Line([]string{name}, t.key) + "\n")
	return out.Bytes(), nil
}

// withoutHost returns the line without the host, or "" when it speaks of no
// other. A pattern that means several hosts is not ours to change.
func withoutHost(line, addr, name string) (string, error) {
	fields := strings.Fields(line)
	if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], "@") {
		return line, nil
	}
	hit, err := lineMatches(line, addr)
	if err != nil || !hit {
		return line, err
	}
	if strings.HasPrefix(fields[0], "|") {
		return "", nil // hashed: one host a line
	}
	names := strings.Split(fields[0], ",")
	host, port, _ := net.SplitHostPort(addr)
	rest := slices.DeleteFunc(slices.Clone(names), func(p string) bool {
		return strings.EqualFold(p, name) || port == "22" && strings.EqualFold(p, "["+host+"]:22")
	})
	if len(rest) == 0 {
		return "", nil
	}
	fields[0] = strings.Join(rest, ",")
	kept := strings.Join(fields, " ")
	if still, err := lineMatches(kept, addr); err != nil || still {
		return "", errors.Join(err, fmt.Errorf("the pattern %s stands for %s and other hosts", fields[0], name))
	}
	return kept, nil
}

// lineMatches asks the known_hosts parser itself, which takes only files.
func lineMatches(line, addr string) (bool, error) {
	f, err := os.CreateTemp("", "hactl-known-hosts-")
	if err != nil {
		return false, fmt.Errorf("check a line of known_hosts: %w", err)
	}
	defer os.Remove(f.Name())
	_, werr := f.WriteString(line + "\n")
	if err := errors.Join(werr, f.Close()); err != nil {
		return false, fmt.Errorf("check a line of known_hosts: %w", err)
	}
	cb, err := knownhosts.New(f.Name())
	if err != nil {
		return false, fmt.Errorf("check a line of known_hosts: %w", err)
	}
	keys, err := knownKeys(cb, addr)
	return len(keys) > 0, err
}

// replaceFile puts content in place of file in one rename, keeping its mode.
func replaceFile(file string, content []byte) (err error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	mode := fs.FileMode(0o600)
	if st, err := os.Stat(file); err == nil {
		mode = st.Mode().Perm()
	}
	f, err := os.CreateTemp(dir, ".known_hosts.")
	if err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write known_hosts: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, werr := f.Write(content)
	if err := errors.Join(werr, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func readLines(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return strings.Split(string(b), "\n"), nil
}
