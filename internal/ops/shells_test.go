// The key exchange that is safe from quantum computers takes half of a handshake.
//go:debug tlsmlkem=0

package ops

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

// applets are the programs of a rootHost that busybox plays; testdata/host/bin
// holds the others.
var applets = strings.Fields("awk date readlink rmdir umount base64 basename cat chmod cmp command cp cut dirname echo env expr false grep head ln ls mkdir mv printf rm sed sh sleep sort sync tail test timeout touch tr true uname wc [")

// shells runs scripts on disks with a real shell, each in a folder that holds
// the disk, in namespaces of its own.
type shells struct {
	dir      string            // holds the folders
	programs string            // what every folder has in addition to a disk
	stubs    map[string]string // the programs of testdata/host by name, with their text

	mu      sync.Mutex
	idle    []*folder
	folders int
	runs    atomic.Int64
}

// shared are the shells and the memory of all tests of this package: what one test
// let a shell run, the others remember.
var shared struct {
	once   sync.Once
	shells *shells
	memory *memory
}

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // thousands of short runs leave much garbage, and little stays
	code := m.Run()
	if s := shared.shells; s != nil {
		s.stop()
	}
	os.Exit(code)
}

func realShells(t *testing.T) *shells {
	t.Helper()
	testneeds.UserNamespaces(t)
	busybox := testneeds.Path(t, "busybox")
	shared.once.Do(func() {
		s, err := newShells(t.Context(), busybox)
		must(t, err)
		shared.shells, shared.memory = s, newMemory(s)
	})
	if shared.shells == nil {
		t.Fatal("the shells did not start in another test")
	}
	return shared.shells
}

// remembered is the shell of most tests: see the type memory.
func remembered(t *testing.T) *memory {
	t.Helper()
	realShells(t)
	return shared.memory
}

func newShells(ctx context.Context, busybox string) (*shells, error) {
	dir, err := foldersDir(ctx)
	if err != nil {
		return nil, err
	}
	s := &shells{dir: dir, programs: filepath.Join(dir, "programs"), stubs: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(s.programs, "bin"), 0o755); err != nil {
		return nil, err
	}
	if err := copyFile(busybox, filepath.Join(s.programs, "bin/busybox")); err != nil {
		return nil, err
	}
	stubs, err := filepath.Glob("testdata/host/bin/*")
	if err != nil {
		return nil, err
	}
	for _, stub := range stubs {
		text, err := os.ReadFile(stub)
		if err == nil {
			err = copyFile(stub, filepath.Join(s.programs, "bin", filepath.Base(stub)))
		}
		if err != nil {
			return nil, err
		}
		s.stubs[filepath.Base(stub)] = string(text)
	}
	if err := copyFile("testdata/host/prelude.sh", filepath.Join(s.programs, "prelude.sh")); err != nil {
		return nil, err
	}
	got, err := s.do(ctx, freshDisk(), remote.Cmd{Script: "cat /proc/sys/kernel/hostname"})
	if err != nil || got.stdout != "localhost\n" {
		return nil, fmt.Errorf("busybox must be busybox-static: %w %+v", err, got)
	}
	return s, nil
}

// stop ends the shells and removes their folders.
func (s *shells) stop() {
	for _, f := range s.idle {
		f.stop()
	}
	_ = os.RemoveAll(s.dir)
}

// foldersDir is a folder in memory where there is one in which programs may run:
// the disks are written thousands of times.
func foldersDir(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("/dev/shm", "hactl-test-")
	if err != nil {
		return os.MkdirTemp("", "hactl-test-")
	}
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, []byte("#!/bin/sh\n"), 0o755); err != nil {
		return "", err
	}
	if exec.CommandContext(ctx, probe).Run() != nil { // #nosec G204 -- mounted noexec, as in containers
		_ = os.RemoveAll(dir)
		return os.MkdirTemp("", "hactl-test-")
	}
	return dir, nil
}

// freshDisk is a machine that was just installed.
func freshDisk() *disk {
	var files []*entry
	for path, content := range map[string]string{
		"proc/sys/kernel/hostname": "localhost\n", "proc/swaps": "Filename Type Size Used Priority\n", "proc/filesystems": "nodev	proc\n",
		"proc/sys/net/ipv4/ip_forward": "0\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n",
	} {
		files = append(files, newEntry(path, 0o644, content))
	}
	for _, path := range []string{"run", "state", "tmp", "var/lib"} {
		files = append(files, newEntry(path, os.ModeDir|0o755, ""))
	}
	return new(disk).with(files...)
}

// outcome is what a command answered and the disk that it left.
type outcome struct {
	exit           int
	stdout, stderr string
	disk           *disk
}

// do runs a command on a disk.
func (s *shells) do(ctx context.Context, d *disk, c remote.Cmd) (*outcome, error) {
	s.runs.Add(1)
	f, err := s.take(d)
	if err != nil {
		return nil, err
	}
	defer s.put(f)
	if err := f.hold(d); err != nil {
		return nil, err
	}
	return f.run(ctx, c.Script, c.Stdin)
}

// take gives the idle folder that needs the least work to hold the disk.
func (s *shells) take(d *disk) (*folder, error) {
	s.mu.Lock()
	best, least := -1, 0
	for i, f := range s.idle {
		gone, put := f.disk.compare(d)
		if n := len(gone) + len(put); best < 0 || n < least {
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
	f := &folder{path: filepath.Join(s.dir, fmt.Sprint(s.folders)), disk: &disk{}, files: map[string]stamp{}}
	s.mu.Unlock()
	if err := s.furnish(f); err != nil {
		return nil, err
	}
	return f, f.start()
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

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// shell runs a command on a disk: *shells in real folders each time, *memory
// once for the same command on the same part of a disk.
type shell interface {
	do(ctx context.Context, d *disk, c remote.Cmd) (*outcome, error)
}
