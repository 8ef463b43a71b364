package fakehost

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/testneeds"
)

// FolderHost is a host whose disk is a folder that its test reads and writes too, also while a
// script runs: for scripts that wait for what the test does. A [Host] is for all others.
// It runs scripts and writes files; a test that needs more wraps it.
type FolderHost struct {
	t    *testing.T
	name string
	root string
	mu   sync.Mutex // one script at a time
	f    *folder
}

// NewFolderHost is a host with the disk of a machine that was just installed.
func NewFolderHost(t *testing.T, name string) *FolderHost {
	t.Helper()
	s := Real(t)
	f, err := s.add()
	if err == nil {
		err = f.hold(Fresh())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.stop()
		_ = os.RemoveAll(f.path)
	})
	return &FolderHost{t: t, name: name, root: f.path, f: f}
}

// On is where a path of the host is on this machine.
func (h *FolderHost) On(path string) string { return h.root + path }

// Write writes a file, and the folders above it.
func (h *FolderHost) Write(path, content string, mode os.FileMode) {
	h.t.Helper()
	if err := h.write(path, []byte(content), mode); err != nil {
		h.t.Fatal(err)
	}
}

func (h *FolderHost) write(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(h.On(path)), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.On(path), content, mode); err != nil {
		return err
	}
	return os.Chmod(h.On(path), mode)
}

// Program makes a program of the host, which goes before one of this package.
func (h *FolderHost) Program(name, script string) {
	h.t.Helper()
	h.Write("/usr/local/sbin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
}

// Borrow makes a program of this machine one of the host, with the libraries that it needs.
func (h *FolderHost) Borrow(name string) {
	h.t.Helper()
	path := testneeds.Path(h.t, name)
	libraries, err := exec.CommandContext(h.t.Context(), testneeds.Path(h.t, "ldd"), path).Output() // #nosec G204 -- a program that the test names
	if err != nil {
		h.t.Fatal(err)
	}
	to := map[string]string{path: "/usr/local/sbin/" + name}
	for _, word := range strings.Fields(string(libraries)) {
		if filepath.IsAbs(word) {
			to[word] = word
		}
	}
	for from, at := range to {
		b, err := os.ReadFile(from) // #nosec G304 -- the same
		if err != nil {
			h.t.Fatal(err)
		}
		h.Write(at, string(b), 0o755)
	}
}

// Unit makes a unit of the host that is active: start is what a further start does. With
// active false it does not run.
func (h *FolderHost) Unit(name, text, start string, active bool) {
	h.t.Helper()
	h.Write("/etc/systemd/system/"+name, text, 0o644)
	h.Write("/state/units/"+name+".start", start+"\n", 0o644)
	if active {
		h.Write("/state/units/"+name+".pid", "1\n", 0o644)
	}
}

// Content is that of a file, "" where there is none.
func (h *FolderHost) Content(path string) string {
	b, _ := os.ReadFile(h.On(path))
	return string(b)
}

// Has reports whether something is at the path.
func (h *FolderHost) Has(path string) bool {
	_, err := os.Lstat(h.On(path))
	return err == nil
}

// Name is the name that it was made with.
func (h *FolderHost) Name() string { return h.name }

// Run runs a script, as [remote.Host] says.
func (h *FolderHost) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out, err := h.f.runOnly(ctx, sys.With(c.Script), c.Stdin)
	if err != nil {
		return nil, err
	}
	return out.result(h.name, c.Title)
}

// Put writes files, as [remote.Host] says.
func (h *FolderHost) Put(_ context.Context, files ...remote.File) error {
	for _, f := range files {
		if err := h.write(f.Path, f.Content, f.Mode); err != nil {
			return err
		}
		if f.Owner == "" {
			continue
		}
		if err := h.write("/state/owners"+f.Path+".is", []byte(f.Owner+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Out is what a script prints; the test ends when it fails.
func (h *FolderHost) Out(script string) string {
	h.t.Helper()
	res, err := h.Run(h.t.Context(), remote.Cmd{Script: script})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(res.Stdout))
}
