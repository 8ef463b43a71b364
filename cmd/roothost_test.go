package cmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hactl/internal/remote"
)

// applets are the programs of a rootHost that busybox plays; testdata/host/bin
// holds the others.
var applets = strings.Fields("awk base64 basename cat chmod command cp cut dirname echo env expr false grep head ln ls mkdir mv printf rm sed sh sleep sort sync tail test timeout touch tr true uname wc [")

// rootHost is a machine made of a folder: scripts really run, with the folder
// as their root, in namespaces of their own. What is not files (systemd, apt,
// containerd, kubeadm) is played by small scripts that keep files.
type rootHost struct {
	name   string
	run    *serial
	serves serves

	mu   sync.Mutex
	root string
}

// serial lets one command of all hosts run at a time, and is told after each
// that may have changed something.
type serial struct {
	sync.Mutex
	after func(host, title string)
}

func newRootHost(t *testing.T, name string, run *serial) *rootHost {
	t.Helper()
	h := &rootHost{name: name, run: run, root: filepath.Join(t.TempDir(), name)}
	for _, d := range []string{"bin", "dev", "etc", "proc/sys/kernel", "proc/sys/net/ipv4", "run", "state", "tmp", "var/lib"} {
		must(t, os.MkdirAll(filepath.Join(h.root, d), 0o755))
	}
	for path, content := range map[string]string{
		"proc/sys/kernel/hostname": "localhost\n", "proc/swaps": "Filename Type Size Used Priority\n", "proc/filesystems": "nodev	proc\n",
		"proc/sys/net/ipv4/ip_forward": "0\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n", "dev/null": "",
	} {
		must(t, os.WriteFile(filepath.Join(h.root, path), []byte(content), 0o644))
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v; make deps installs busybox-static", err)
	}
	copyFile(t, busybox, filepath.Join(h.root, "bin/busybox"))
	for _, a := range applets {
		must(t, os.Symlink("busybox", filepath.Join(h.root, "bin", a)))
	}
	stubs, err := filepath.Glob("testdata/host/bin/*")
	must(t, err)
	for _, s := range stubs {
		copyFile(t, s, filepath.Join(h.root, "bin", filepath.Base(s)))
	}
	copyFile(t, "testdata/host/prelude.sh", filepath.Join(h.root, "prelude.sh"))
	if res, err := h.Run(t.Context(), remote.Cmd{Script: "cat /proc/sys/kernel/hostname"}); err != nil || string(res.Stdout) != "localhost\n" {
		t.Fatalf("this machine does not let a user make namespaces: %v\nhint: sysctl kernel.unprivileged_userns_clone=1 (or kernel.apparmor_restrict_unprivileged_userns=0), or run the tests as root; busybox must be busybox-static", err)
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o755))
}

func (h *rootHost) dir() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.root
}

// Name implements remote.Host.
func (h *rootHost) Name() string { return h.name }

// Run implements remote.Host.
func (h *rootHost) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	h.run.Lock()
	defer h.run.Unlock()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "chroot", h.dir(), "/bin/sh", "-c", ". /prelude.sh\n"+c.Script)
	cmd.Env = []string{"PATH=/bin:/usr/bin:/usr/sbin:/sbin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &out, &stderr
	err := cmd.Run()
	res := &remote.Result{Stdout: out.Bytes(), Stderr: stderr.Bytes()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		res.Exit = exit.ExitCode()
		err = &remote.ExitError{Host: h.name, Title: c.Title, Exit: res.Exit, Stderr: stderr.String()}
	}
	h.run.done(h.name, c.Title)
	return res, err
}

func (s *serial) done(host, title string) {
	if s.after != nil {
		s.after(host, title)
	}
}

// Put implements remote.Host.
func (h *rootHost) Put(_ context.Context, files ...remote.File) error {
	h.run.Lock()
	defer h.run.Unlock()
	for _, f := range files {
		if err := h.knows(f.Owner); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := h.write(f.Path, f.Content, f.Mode, f.Owner); err != nil {
			return err
		}
	}
	return nil
}

// knows is chown's view of an owner, USER:GROUP.
func (h *rootHost) knows(owner string) error {
	user, group, _ := strings.Cut(owner, ":")
	for file, name := range map[string]string{"passwd": user, "group": group} {
		names, err := os.ReadFile(filepath.Join(h.dir(), "etc", file))
		if err != nil || name != "" && !strings.Contains("\n"+string(names), "\n"+name+":") {
			return fmt.Errorf("chown: invalid %s: %q", file, owner)
		}
	}
	return nil
}

func (h *rootHost) write(path string, content []byte, mode fs.FileMode, owner string) error {
	if err := h.knows(owner); err != nil {
		return err
	}
	at := filepath.Join(h.dir(), path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(at+".new", content, mode); err != nil {
		return err
	}
	if err := os.Chmod(at+".new", mode); err != nil {
		return err
	}
	owners := filepath.Join(h.dir(), "state/owners", path+".is")
	if err := os.MkdirAll(filepath.Dir(owners), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(owners, []byte(owner+"\n"), 0o644); err != nil {
		return err
	}
	err := os.Rename(at+".new", at)
	h.run.done(h.name, "write "+path)
	return err
}

// Send implements remote.Host.
func (h *rootHost) Send(_ context.Context, u remote.Upload) (bool, error) {
	h.run.Lock()
	defer h.run.Unlock()
	if b, err := os.ReadFile(filepath.Join(h.dir(), u.Path)); err == nil && hexSum(b) == u.SHA256 {
		return false, nil
	}
	b, err := os.ReadFile(u.Local)
	if err != nil {
		return false, err
	}
	return true, h.write(u.Path, b, u.Mode, u.Owner)
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// copyTo makes a copy of the machine's disk, with modes; the programs, which
// never change, are shared.
func (h *rootHost) copyTo(t *testing.T, dir string) {
	t.Helper()
	root := h.dir()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(path, root))
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.MkdirAll(to, info.Mode().Perm()|0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			must(t, err)
			return os.Symlink(target, to)
		case filepath.Dir(path) == filepath.Join(root, "bin"):
			return os.Link(path, to)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, content, info.Mode().Perm()); err != nil {
			return err
		}
		return os.Chmod(to, info.Mode().Perm())
	}))
}

// volatile is what may differ between two machines in the same state: caches,
// process ids.
var volatile = regexp.MustCompile(`^(proc/\d+|proc/net|state/lastpid|state/units/.*\.(pid|loaded|fragment)|run/hactl-verified|bin)(/|$)`)

// state lists every file of the machine with mode and content's hash, and of
// every service the configuration it runs with.
func (h *rootHost) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	root := h.dir()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if unit, ok := strings.CutSuffix(rel, ".pid"); ok {
			pid, err := os.ReadFile(path)
			must(t, err)
			env, err := os.ReadFile(filepath.Join(root, "proc", strings.TrimSpace(string(pid)), "environ"))
			must(t, err)
			fmt.Fprintf(&b, "%s runs with %q\n", unit, env)
		}
		if volatile.MatchString(rel) {
			return nil
		}
		info, err := d.Info()
		must(t, err)
		if d.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		must(t, err)
		fmt.Fprintf(&b, "%s %v %.16s\n", rel, info.Mode(), hexSum(content))
		return nil
	}))
	return b.String()
}
