//go:build e2e

package e2e

import (
	"testing"

	"hactl/internal/lab"
)

// TestTrixie brings up one master and a worker on Debian 13, the stable release.
func TestTrixie(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("trixie"), Masters: 1, Workers: 1, OS: "trixie"})
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 2)
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 0 || !u.Status.Healthy {
		t.Errorf("a second up: %+v", u)
	}
	r.inSync(t)
}
