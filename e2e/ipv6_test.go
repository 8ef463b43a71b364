//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"hactl/internal/lab"
)

// TestIPv6Cluster is a cluster that has IPv6 addresses only: hosts, VIP, pods
// and services.
func TestIPv6Cluster(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: named("v6"), Masters: 3, IPv6: true})
	r.inventory(t, "inventory.yaml", withDemo)
	then(t, "up, healthy, in sync", func(t *testing.T) {
		u := r.must(t, 0, "up", "--yes", "-o", "json").up(t)
		if !strings.Contains(u.Status.VIP, ":") {
			t.Errorf("the VIP is %s", u.Status.VIP)
		}
		r.nodesReady(t, 3)
		r.inSync(t)
	})
	then(t, "pods and service answer", func(t *testing.T) { r.deploy(t, "six", "master-2") })
	then(t, "an open connection outlives the move from an apiserver that stops", r.openConnection)
	then(t, "the VIP moves when its owner is powered off", func(t *testing.T) { r.powerCut(t, r.owner(t), "moved") })
}
