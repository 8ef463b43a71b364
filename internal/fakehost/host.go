package fakehost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// Host is a [remote.Host] made of a disk: scripts run on it with a real shell, or with one
// that remembers. Its network is what a test makes of it: Dial is refused here.
type Host struct {
	name  string
	shell Shell
	order *Order

	mu   sync.Mutex // one command at a time
	disk atomic.Pointer[Disk]
}

// Order lets one command of all hosts run at a time, and after is told of each
// that may have changed something. A nil Order lets hosts run side by side.
type Order struct {
	mu    sync.Mutex
	After func(host, title string) // may be nil
}

// NewHost is a host with that disk.
func NewHost(name string, sh Shell, o *Order, d *Disk) *Host {
	h := &Host{name: name, shell: sh, order: o}
	h.disk.Store(d)
	return h
}

// New is a host with a real shell, on whose disk is what a fresh one has, and these entries.
func New(t *testing.T, name string, entries ...*Entry) *Host {
	t.Helper()
	return NewHost(name, Real(t), nil, Fresh().With(entries...))
}

// Add puts entries on the disk.
func (h *Host) Add(entries ...*Entry) { h.SetDisk(h.Disk().With(entries...)) }

// Remove takes the entries of these paths off the disk.
func (h *Host) Remove(paths ...string) { h.SetDisk(h.Disk().Edit(paths, nil)) }

// Content is that of a file, "" where there is none.
func (h *Host) Content(path string) string {
	if e := h.Disk().Get(path); e != nil {
		return e.Content
	}
	return ""
}

// Disk is what is on the disk at this moment.
func (h *Host) Disk() *Disk { return h.disk.Load() }

// SetDisk puts another disk in the place of the host's.
func (h *Host) SetDisk(d *Disk) { h.disk.Store(d) }

// Order is that of the host's commands, nil where they have none.
func (h *Host) Order() *Order { return h.order }

// Turn begins a command of the host; call what it returns with the command's
// title at its end.
func (h *Host) Turn() func(title string) {
	if h.order != nil {
		h.order.mu.Lock()
	}
	h.mu.Lock()
	return func(title string) {
		h.mu.Unlock()
		if h.order != nil {
			if h.order.After != nil {
				h.order.After(h.name, title)
			}
			h.order.mu.Unlock()
		}
	}
}

// Name implements remote.Host.
func (h *Host) Name() string { return h.name }

// Run implements remote.Host.
func (h *Host) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	c.Script = sys.With(c.Script)
	defer h.Turn()(c.Title)
	out, err := h.shell.Do(ctx, h.Disk(), c)
	if err != nil {
		return nil, err
	}
	h.disk.Store(out.Disk)
	return out.result(h.name, c.Title)
}

// result is the outcome as a host tells it.
func (o *Outcome) result(host, title string) (*remote.Result, error) {
	res := &remote.Result{Stdout: []byte(o.Stdout), Stderr: []byte(o.Stderr), Exit: o.Exit}
	if o.Exit != 0 {
		return res, &remote.ExitError{Host: host, Title: title, Exit: o.Exit, Stderr: o.Stderr}
	}
	return res, nil
}

// Put implements remote.Host. A run may be cut after each file.
func (h *Host) Put(_ context.Context, files ...remote.File) error {
	for _, f := range files {
		if err := h.knows(f.Owner); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := h.write(f.Path, string(f.Content), f.Mode, f.Owner); err != nil {
			return err
		}
	}
	return nil
}

// knows is chown's view of an owner, USER:GROUP.
func (h *Host) knows(owner string) error {
	user, group, _ := strings.Cut(owner, ":")
	for file, name := range map[string]string{"passwd": user, "group": group} {
		if name != "" && !strings.Contains("\n"+h.Disk().Get("etc/"+file).Content, "\n"+name+":") {
			return fmt.Errorf("chown: invalid %s: %q", file, owner)
		}
	}
	return nil
}

func (h *Host) write(path, content string, mode fs.FileMode, owner string) error {
	defer h.Turn()("write " + path)
	if err := h.knows(owner); err != nil {
		return err
	}
	path = strings.TrimPrefix(path, "/")
	h.SetDisk(h.Disk().With(NewEntry(path, mode.Perm(), content), NewEntry("state/owners/"+path+".is", 0o644, owner+"\n")))
	return nil
}

// Send implements remote.Host.
func (h *Host) Send(_ context.Context, u remote.Upload) (bool, error) {
	at := h.Disk().Get(strings.TrimPrefix(u.Path, "/"))
	if at != nil && at.SHA256() == u.SHA256 {
		return false, nil
	}
	b, err := os.ReadFile(u.Local)
	if err != nil {
		return false, err
	}
	return true, h.write(u.Path, string(b), u.Mode, u.Owner)
}

// Dial implements [remote.Host].
func (h *Host) Dial(_ context.Context, _, addr string) (net.Conn, error) {
	return nil, errors.New("dial " + addr + " from " + h.name + ": connection refused")
}
