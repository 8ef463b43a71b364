package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"hactl/internal/remote"
)

// makeDisk makes the empty disk of a host and writes on it what makes it this
// host and no other. It returns the host's public key.
func (l *Lab) makeDisk(ctx context.Context, h hostState) (hostKey string, err error) {
	pair, err := newKeyPair("root@" + h.Name)
	if err != nil {
		return "", err
	}
	files, err := l.hostFiles(ctx, h, pair)
	if err != nil {
		return "", err
	}
	if l.state.VM {
		return pair.public, l.makeMachine(ctx, h, files, pair.public)
	}
	dir := l.Path("hosts", h.Name)
	for _, d := range diskFolders {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	root := filepath.Join(l.state.Base, "root")
	for _, f := range files {
		if err := overlayFile(root, filepath.Join(dir, "upper"), f); err != nil {
			return "", fmt.Errorf("prepare disk of %s: %w", h.Name, err)
		}
	}
	return pair.public, nil
}

// diskFolders are the disk of a host in namespaces: the overlay, and the folders of
// containerd, the kubelet and etcd.
var diskFolders = []string{"upper", "work", "root", "containerd", "kubelet", "etcd"}

// hostFile is a file laid over the base. Its owner is that of its folder,
// which homeDirs of users need, unless like names a file of the base to follow.
type hostFile struct {
	path    string // without a leading slash
	content []byte
	mode    fs.FileMode
	like    string
}

func (l *Lab) hostFiles(ctx context.Context, h hostState, pair *keyPair) ([]hostFile, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	client, err := readPublicKey(l.Path("ssh", "id_ed25519.pub"))
	if err != nil {
		return nil, err
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n%s %s\n%s %s\n", h.Address, h.Name, h.Address6, h.Name)
	files := []hostFile{
		{path: "etc/machine-id", content: []byte(hex.EncodeToString(id) + "\n"), mode: 0o444},
		{path: "etc/hostname", content: []byte(h.Name + "\n"), mode: 0o644},
		{path: "etc/hosts", content: []byte(hosts), mode: 0o644},
		// That address refuses connections at once.
		{path: "etc/resolv.conf", content: []byte("nameserver " + plan4.gateway + "\n"), mode: 0o644},
		{path: "etc/ssh/ssh_host_ed25519_key", content: pair.private, mode: 0o600},
		{path: "etc/ssh/ssh_host_ed25519_key.pub", content: []byte(pair.public + "\n"), mode: 0o644},
	}
	if h.Role == Bastion {
		jump, err := readPublicKey(l.Path("ssh", "bastion_ed25519.pub"))
		if err != nil {
			return nil, err
		}
		return append(files, hostFile{path: "home/jump/.ssh/authorized_keys", content: []byte(jump + "\n"), mode: 0o600}), nil
	}
	for _, home := range []string{"root", "home/ops", "home/opspw"} {
		files = append(files, hostFile{path: home + "/.ssh/authorized_keys", content: []byte(client + "\n"), mode: 0o600})
	}
	shadow, err := l.shadow(ctx)
	if err != nil {
		return nil, err
	}
	files = append(files, hostFile{path: "etc/shadow", content: shadow, mode: 0o640, like: "etc/shadow"})
	if l.state.Bare && l.state.os() != EL9 {
		path, content := aptSource(l.state.os())
		files = append(files, hostFile{path: path, content: []byte(content), mode: 0o644})
	}
	return files, nil
}

// shadow is the base's file with the lab's password for opspw, hashed by the
// base's own openssl.
func (l *Lab) shadow(ctx context.Context) ([]byte, error) {
	root := filepath.Join(l.state.Base, "root")
	cmd := exec.CommandContext(ctx, "chroot", root, "openssl", "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(l.state.SudoPassword + "\n")
	hash, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("hash sudo password: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(root, "etc/shadow"))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		if f := strings.Split(line, ":"); f[0] == "opspw" && len(f) > 2 {
			f[1] = strings.TrimSpace(string(hash))
			lines[i] = strings.Join(f, ":")
		}
	}
	return []byte(strings.Join(lines, "\n")), nil
}

// overlayFile writes f into upper. Folders above it get the mode and owner that
// they have in the base: in an overlay the upper folder's count.
func overlayFile(base, upper string, f hostFile) error {
	uid, gid, err := overlayDir(base, upper, filepath.Dir(f.path))
	if err != nil {
		return err
	}
	if f.like != "" {
		if uid, gid, err = owner(filepath.Join(base, f.like)); err != nil {
			return err
		}
	}
	path := filepath.Join(upper, f.path)
	if err := writeAtomic(path, f.content, f.mode); err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// overlayDir makes dir in upper, like the base's where it has one, else 0700
// and owned like its parent, and returns its owner.
func overlayDir(base, upper, dir string) (uid, gid int, err error) {
	if dir == "." {
		return owner(base)
	}
	if uid, gid, err = overlayDir(base, upper, filepath.Dir(dir)); err != nil {
		return 0, 0, err
	}
	mode := fs.FileMode(0o700)
	if info, err := os.Stat(filepath.Join(base, dir)); err == nil {
		mode = info.Mode().Perm()
		if uid, gid, err = owner(filepath.Join(base, dir)); err != nil {
			return 0, 0, err
		}
	}
	path := filepath.Join(upper, dir)
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, 0, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return 0, 0, err
	}
	return uid, gid, os.Chown(path, uid, gid)
}

func owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("owner of %s: not known on this system", path)
	}
	return int(st.Uid), int(st.Gid), nil
}

// checkPaths refuses folders that cannot be named in overlay's mount options.
func checkPaths(paths ...string) error {
	for _, p := range paths {
		if strings.ContainsAny(p, ":,\\") {
			return remote.Hint(fmt.Errorf("folder %q: overlay mounts cannot name it", p), "use --dir with a path without ':', ',' and '\\'")
		}
	}
	return nil
}
