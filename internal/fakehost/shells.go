// Package fakehost plays hosts for tests. A [Host] runs scripts with a real shell on a disk of
// its own, and what a host has beyond files is played by the programs of the folder programs,
// which keep files: systemd, apt, containerd, kubeadm, kubectl, users, addresses, rules. The
// tests of internal/plan have a systemctl of their own, whose units are live processes.
//
// A real shell takes busybox-static and a user namespace. A package that uses it has a
// TestMain, which calls [Main].
package fakehost

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

// applets are the programs of a host that busybox plays.
var applets = strings.Fields("awk date readlink rmdir umount base64 basename cat chmod cmp command cp cut dirname echo env expr false grep head ln ls mkdir mv printf rm sed sh sleep sort sync tail test timeout touch tr true uname wc [")

// Shells runs scripts on disks with a real shell, each in a folder that holds
// the disk, in namespaces of its own.
type Shells struct {
	dir      string            // holds the folders
	programs string            // what every folder has in addition to a disk
	stubs    map[string]string // the programs of this package by name, with their text

	mu      sync.Mutex
	idle    []*folder
	folders int
	runs    atomic.Int64
}

//go:embed programs
var programs embed.FS

// shared are the shells and the memory of all tests of a package: what one test
// let a shell run, the others remember.
var shared struct {
	once   sync.Once
	runs   bool // Main runs the tests
	shells *Shells
	memory *Memory
}

// Main runs the tests of a package whose hosts have real shells, ends the shells and gives
// the exit code.
func Main(m *testing.M) int {
	shared.runs = true
	code := m.Run()
	if s := shared.shells; s != nil {
		s.stop()
	}
	return code
}

// Real is the real shell.
func Real(t *testing.T) *Shells {
	t.Helper()
	testneeds.UserNamespaces(t)
	busybox := testneeds.Path(t, "busybox")
	shared.once.Do(func() {
		if !shared.runs {
			t.Fatal("this package has no TestMain that calls fakehost.Main")
		}
		s, err := newShells(t.Context(), busybox)
		if err != nil {
			t.Fatal(err)
		}
		shared.shells, shared.memory = s, newMemory(s)
	})
	if shared.shells == nil {
		t.Fatal("the shells did not start in another test")
	}
	return shared.shells
}

// Remembered is a shell that answers from memory: see [Memory].
func Remembered(t *testing.T) *Memory {
	t.Helper()
	Real(t)
	return shared.memory
}

func newShells(ctx context.Context, busybox string) (*Shells, error) {
	dir, err := foldersDir(ctx)
	if err != nil {
		return nil, err
	}
	s := &Shells{dir: dir, programs: filepath.Join(dir, "programs"), stubs: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(s.programs, "bin"), 0o755); err != nil {
		return nil, err
	}
	if err := copyFile(busybox, filepath.Join(s.programs, "bin/busybox")); err != nil {
		return nil, err
	}
	stubs, err := programs.ReadDir("programs")
	if err != nil {
		return nil, err
	}
	for _, stub := range stubs {
		text, err := programs.ReadFile("programs/" + stub.Name())
		if err != nil {
			return nil, err
		}
		to := filepath.Join(s.programs, "bin", stub.Name())
		if stub.Name() == prelude {
			to = filepath.Join(s.programs, prelude)
		} else {
			s.stubs[stub.Name()] = string(text)
		}
		if err := os.WriteFile(to, text, 0o755); err != nil {
			return nil, err
		}
	}
	got, err := s.Do(ctx, Fresh(), remote.Cmd{Script: "cat /proc/sys/kernel/hostname"})
	if err != nil || got.Stdout != "localhost\n" {
		return nil, fmt.Errorf("busybox must be busybox-static: %w %+v", err, got)
	}
	return s, nil
}

// stop ends the shells and removes their folders.
func (s *Shells) stop() {
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

// Fresh is the disk of a machine that was just installed.
func Fresh() *Disk {
	var files []*Entry
	for path, content := range map[string]string{
		"proc/sys/kernel/hostname": "localhost\n", "proc/swaps": "Filename Type Size Used Priority\n", "proc/filesystems": "nodev	proc\n",
		"proc/sys/net/ipv4/ip_forward": "0\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n",
		"etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n",
	} {
		files = append(files, File(path, content))
	}
	for _, path := range []string{"run", "state", "tmp", "var/lib"} {
		files = append(files, NewEntry(path, os.ModeDir|0o755, ""))
	}
	return new(Disk).With(files...)
}

// Outcome is what a command answered and the disk that it left.
type Outcome struct {
	Exit           int
	Stdout, Stderr string
	Disk           *Disk
}

// Do runs a command on a disk.
func (s *Shells) Do(ctx context.Context, d *Disk, c remote.Cmd) (*Outcome, error) {
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
func (s *Shells) take(d *Disk) (*folder, error) {
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
	s.mu.Unlock()
	return s.add()
}

// add makes a folder that holds an empty disk, with its shell.
func (s *Shells) add() (*folder, error) {
	s.mu.Lock()
	s.folders++
	f := &folder{path: filepath.Join(s.dir, fmt.Sprint(s.folders)), disk: &Disk{}, files: map[string]stamp{}}
	s.mu.Unlock()
	if err := s.furnish(f); err != nil {
		return nil, err
	}
	return f, f.start()
}

func (s *Shells) put(f *folder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, f)
}

// furnish puts into a new folder what every folder has.
func (s *Shells) furnish(f *folder) error {
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
	for _, file := range append(files, filepath.Join(s.programs, prelude)) {
		if err := os.Link(file, filepath.Join(f.path, strings.TrimPrefix(file, s.programs))); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(f.path, "dev/null"), nil, 0o666)
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// prelude is put before every script.
const prelude = "prelude.sh"

// Shell runs a command on a disk: [Shells] in real folders each time, [Memory]
// once for the same command on the same part of a disk.
type Shell interface {
	Do(ctx context.Context, d *Disk, c remote.Cmd) (*Outcome, error)
}
