package ops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

// applets are the programs of a rootHost that busybox plays; testdata/host/bin
// holds the others.
var applets = strings.Fields("awk readlink base64 basename cat chmod command cp cut dirname echo env expr false grep head ln ls mkdir mv printf rm sed sh sleep sort sync tail test timeout touch tr true uname wc [")

// shells runs scripts on disks with a real shell, each in a folder that holds
// the disk, in namespaces of its own.
type shells struct {
	dir      string // holds the folders
	programs string // what every folder has in addition to a disk

	mu      sync.Mutex
	idle    []*folder
	folders int
	runs    atomic.Int64
}

func newShells(t *testing.T) *shells {
	t.Helper()
	testneeds.UserNamespaces(t)
	s := &shells{dir: t.TempDir(), programs: filepath.Join(t.TempDir(), "programs")}
	must(t, os.MkdirAll(filepath.Join(s.programs, "bin"), 0o755))
	copyFile(t, testneeds.Path(t, "busybox"), filepath.Join(s.programs, "bin/busybox"))
	stubs, err := filepath.Glob("testdata/host/bin/*")
	must(t, err)
	for _, stub := range stubs {
		copyFile(t, stub, filepath.Join(s.programs, "bin", filepath.Base(stub)))
	}
	copyFile(t, "testdata/host/prelude.sh", filepath.Join(s.programs, "prelude.sh"))
	got, err := s.run(t.Context(), freshDisk(), remote.Cmd{Script: "cat /proc/sys/kernel/hostname"}, nil)
	if err != nil || got.stdout != "localhost\n" {
		t.Fatalf("busybox must be busybox-static: %v %+v", err, got)
	}
	return s
}

// freshDisk is a machine that was just installed.
func freshDisk() *disk {
	d := &disk{entries: map[string]entry{}}
	files := map[string]entry{}
	for path, content := range map[string]string{
		"proc/sys/kernel/hostname": "localhost\n", "proc/swaps": "Filename Type Size Used Priority\n", "proc/filesystems": "nodev	proc\n",
		"proc/sys/net/ipv4/ip_forward": "0\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n",
	} {
		files[path] = newEntry(0o644, content)
	}
	for _, path := range []string{"run", "state", "tmp", "var/lib"} {
		files[path] = newEntry(os.ModeDir|0o755, "")
	}
	return d.with(files)
}

// outcome is what a command answered and the disk that it left.
type outcome struct {
	exit           int
	stdout, stderr string
	disk           *disk
}

// run runs a command on a disk. What without matches is not on the disk that it
// leaves.
func (s *shells) run(ctx context.Context, d *disk, c remote.Cmd, without *regexp.Regexp) (*outcome, error) {
	s.runs.Add(1)
	f, err := s.take(d)
	if err != nil {
		return nil, err
	}
	defer s.put(f)
	if err := f.hold(d); err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	// #nosec G204 -- the scripts that the test is about.
	cmd := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "chroot", f.path, "/bin/sh", "-c", ". /prelude.sh\n"+c.Script)
	cmd.Env = []string{"PATH=/bin:/usr/bin:/usr/sbin:/sbin"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &stdout, &stderr
	err = cmd.Run()
	out := &outcome{}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		out.exit, err = exit.ExitCode(), nil
	}
	if err != nil {
		return nil, err
	}
	out.stdout, out.stderr = stdout.String(), stderr.String()
	out.disk, err = f.read(without)
	if err == nil && out.disk.hash() == d.hash() {
		out.disk = d
	}
	return out, err
}

// take gives the idle folder that needs the least work to hold the disk.
func (s *shells) take(d *disk) (*folder, error) {
	s.mu.Lock()
	best, least := -1, 0
	for i, f := range s.idle {
		if n := f.disk.differences(d); best < 0 || n < least {
			best, least = i, n
		}
	}
	if best >= 0 {
		f := s.idle[best]
		s.idle = append(s.idle[:best], s.idle[best+1:]...)
		s.mu.Unlock()
		return f, nil
	}
	s.folders++
	f := &folder{path: filepath.Join(s.dir, fmt.Sprint(s.folders)), disk: &disk{}}
	s.mu.Unlock()
	return f, s.furnish(f)
}

func (s *shells) put(f *folder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, f)
}

// furnish puts into a new folder what every folder has.
func (s *shells) furnish(f *folder) error {
	for _, dir := range []string{"bin", "dev"} {
		if err := os.MkdirAll(filepath.Join(f.path, dir), 0o755); err != nil {
			return err
		}
	}
	for _, a := range applets {
		if err := os.Symlink("busybox", filepath.Join(f.path, "bin", a)); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(s.programs, "bin/*"))
	if err != nil {
		return err
	}
	for _, file := range append(files, filepath.Join(s.programs, "prelude.sh")) {
		if err := os.Link(file, filepath.Join(f.path, strings.TrimPrefix(file, s.programs))); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(f.path, "dev/null"), nil, 0o666)
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

// shell runs a command on a disk: *shells in real folders each time, *memory
// once for the same command on the same disk.
type shell interface {
	do(ctx context.Context, d *disk, c remote.Cmd) (*outcome, error)
}

func (s *shells) do(ctx context.Context, d *disk, c remote.Cmd) (*outcome, error) {
	return s.run(ctx, d, c, nil)
}

// memory remembers what a command answered and did to a disk. A command's
// outcome follows from its script, its input and the disk, so a run that comes
// to the same command on the same disk takes the outcome that the real shell
// had: a fake with the real shell's behaviour. The runs with the real shell
// prove that it is.
type memory struct {
	shells *shells

	mu    sync.Mutex
	known map[[sha256.Size]byte]*outcome
	hits  atomic.Int64
}

// stamped is a cache on hosts whose lines hold inode numbers and times: of the
// real folder, and so never the same again. It is left off the disks here.
var stamped = regexp.MustCompile(`^run/hactl-verified`)

func (m *memory) do(ctx context.Context, d *disk, c remote.Cmd) (*outcome, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%x %d %s %s", d.hash(), len(c.Script), c.Script, c.Stdin))
	m.mu.Lock()
	out := m.known[key]
	m.mu.Unlock()
	if out != nil {
		m.hits.Add(1)
		return out, nil
	}
	out, err := m.shells.run(ctx, d, c, stamped)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[key] = out
	return out, nil
}
