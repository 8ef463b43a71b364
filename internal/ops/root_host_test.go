// The key exchange that is safe from quantum computers takes half of a handshake.
//go:debug tlsmlkem=0

package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"hactl/internal/fakehost"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
)

func TestMain(m *testing.M) {
	// Thousands of short runs leave much garbage, and little stays.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	os.Exit(fakehost.Main(m))
}

// rootHost is a host whose programs serve as the members and apiservers of its world.
type rootHost struct {
	*fakehost.Host
	name   string
	serves serves
	vip    func() bool // whether the host holds the VIP; nil: its own shell is asked
}

func newRootHost(name string, sh fakehost.Shell, o *fakehost.Order, d *fakehost.Disk) *rootHost {
	return &rootHost{Host: fakehost.NewHost(name, sh, o, d), name: name}
}

// Run implements remote.Host.
func (h *rootHost) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	if h.vip != nil && c.Title == "look for the VIP" {
		return &remote.Result{Stdout: []byte(systest.VIP(h.vip()))}, nil
	}
	return h.Host.Run(ctx, c)
}

// ownedFile is the record of what hactl made.
const ownedFile = "var/lib/hactl/owned.json"

// stateOf is the state of a disk. A run that is resumed may note a thing that it made again.
func stateOf(d *fakehost.Disk) string {
	return d.State(func(e *fakehost.Entry) (made []string, is bool) {
		if e.Path != ownedFile {
			return nil, false
		}
		for _, m := range plan.ReadOwned(e.Content) {
			made = append(made, fmt.Sprintf("made %+v\n", m))
		}
		return made, true
	})
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
