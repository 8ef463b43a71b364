//go:build e2e

package e2e

import (
	"testing"

	"hactl/internal/lab"
)

// TestFreshClustersOfOtherMinors brings up a cluster of each minor that is not the default
// one, and breaks it.
func TestFreshClustersOfOtherMinors(t *testing.T) {
	inTurn(t)
	for _, c := range []struct{ kubernetes, etcd, containerd string }{
		{"v1.35.4", "v3.6.16", "v2.2.9"},
		{"v1.37.2", "v3.7.3", "v2.3.7"},
	} {
		t.Run(c.kubernetes, func(t *testing.T) {
			r := newRig(t, lab.Config{Name: nextName("minor"), Masters: 3, Workers: 1})
			r.versioned(t, "kubernetes: "+c.kubernetes)
			took(t, "up of "+c.kubernetes, r.must(t, 0, "up", "--yes").took)
			r.nodesReady(t, 4)
			r.runsOnly(t, c.kubernetes, c.etcd, c.containerd)
			r.converges(t, 4)
			r.inSync(t)
			for _, name := range []string{"apiserver-killed", "etcd-leader-killed", "owner-cut-off"} {
				t.Run(name, func(t *testing.T) { r.drilled(t, name) })
			}
			r.comesInSync(t)
		})
	}
}
