package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/sys/systest"
)

// rootHost is a machine made of a disk: scripts really run, with the disk as
// their root. What is not files (systemd, apt, containerd, kubeadm) is played by
// small scripts that keep files.
type rootHost struct {
	name   string
	shell  shell
	order  *order
	serves serves
	vip    func() bool // whether the host holds the VIP; nil: its own shell is asked

	mu   sync.Mutex // one command at a time
	disk atomic.Pointer[disk]
}

// order lets one command of all hosts run at a time, and after is told of each
// that may have changed something. A nil order lets hosts run side by side.
type order struct {
	mu    sync.Mutex
	after func(host, title string)
}

func newRootHost(name string, sh shell, o *order, d *disk) *rootHost {
	h := &rootHost{name: name, shell: sh, order: o}
	h.disk.Store(d)
	return h
}

// turn begins a command of the host; call what it returns with the command's
// title at its end.
func (h *rootHost) turn() func(title string) {
	if h.order != nil {
		h.order.mu.Lock()
	}
	h.mu.Lock()
	return func(title string) {
		h.mu.Unlock()
		if h.order != nil {
			if h.order.after != nil {
				h.order.after(h.name, title)
			}
			h.order.mu.Unlock()
		}
	}
}

// Name implements remote.Host.
func (h *rootHost) Name() string { return h.name }

// Run implements remote.Host.
func (h *rootHost) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	if h.vip != nil && c.Title == "look for the VIP" {
		return &remote.Result{Stdout: []byte(systest.VIP(h.vip()))}, nil
	}
	c.Script = sys.With(c.Script)
	defer h.turn()(c.Title)
	out, err := h.shell.do(ctx, h.disk.Load(), c)
	if err != nil {
		return nil, err
	}
	h.disk.Store(out.disk)
	res := &remote.Result{Stdout: []byte(out.stdout), Stderr: []byte(out.stderr), Exit: out.exit}
	if out.exit != 0 {
		return res, &remote.ExitError{Host: h.name, Title: c.Title, Exit: out.exit, Stderr: out.stderr}
	}
	return res, nil
}

// Put implements remote.Host. A run may be cut after each file.
func (h *rootHost) Put(_ context.Context, files ...remote.File) error {
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
func (h *rootHost) knows(owner string) error {
	user, group, _ := strings.Cut(owner, ":")
	for file, name := range map[string]string{"passwd": user, "group": group} {
		if name != "" && !strings.Contains("\n"+h.disk.Load().get("etc/"+file).content, "\n"+name+":") {
			return fmt.Errorf("chown: invalid %s: %q", file, owner)
		}
	}
	return nil
}

func (h *rootHost) write(path, content string, mode fs.FileMode, owner string) error {
	defer h.turn()("write " + path)
	if err := h.knows(owner); err != nil {
		return err
	}
	path = strings.TrimPrefix(path, "/")
	h.disk.Store(h.disk.Load().with(newEntry(path, mode.Perm(), content), newEntry("state/owners/"+path+".is", 0o644, owner+"\n")))
	return nil
}

// Send implements remote.Host.
func (h *rootHost) Send(_ context.Context, u remote.Upload) (bool, error) {
	at := h.disk.Load().get(strings.TrimPrefix(u.Path, "/"))
	if at != nil && hex.EncodeToString(at.sum[:]) == u.SHA256 {
		return false, nil
	}
	b, err := os.ReadFile(u.Local)
	if err != nil {
		return false, err
	}
	return true, h.write(u.Path, string(b), u.Mode, u.Owner)
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
