//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/lab"
)

// TestGoldenImageIsSentNothing brings a master up whose disk has everything.
func TestGoldenImageIsSentNothing(t *testing.T) {
	inTurn(t)
	dir, err := bundle.Find(bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, lab.Config{Name: named("golden"), Masters: 1, Preload: dir})
	r.inventory(t, "inventory.yaml", func(s string) string { return strings.Replace(s, "source: upload", "source: present", 1) })
	then(t, "what is not on the host is named", func(t *testing.T) {
		if res := r.hactl(t, "up", "--yes"); res.code != 1 || !strings.Contains(res.err, "artifacts.source is present") {
			t.Errorf("%s", res)
		}
	})
	var place strings.Builder
	for _, a := range b.For("control-plane") {
		to := a.Dest
		if a.Kind == bundle.Image {
			to = "/var/lib/hactl/images/" + filepath.Base(a.File)
		}
		fmt.Fprintf(&place, "install -D -m 0755 %s/%s %s\n", lab.PreloadPath, a.File, to)
	}
	labOutput(t, r.Lab, "master-1", "set -e\n"+place.String())
	then(t, "up sends only files of its own", func(t *testing.T) {
		before := r.received(t, "master-1")
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 1)
		r.inSync(t)
		// The prober (9 MB) belongs to hactl, not to the bundle of 500 MB.
		got := r.received(t, "master-1") - before
		t.Logf("%.1f MB reached the host", float64(got)/1e6)
		if got > 20e6 {
			t.Error("that is more than hactl's own files")
		}
	})
}

// received is how many bytes came in on a host's interface.
func (r *rig) received(t *testing.T, host string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(labOutput(t, r.Lab, host, "cat /sys/class/net/eth0/statistics/rx_bytes"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
