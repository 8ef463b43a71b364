//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// TestFlannelConnectsPodsOfTwoHosts is the preset for hosts that share no
// segment: node subnets from the controller manager, vxlan between the nodes.
func TestFlannelConnectsPodsOfTwoHosts(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Name: named("flannel"), Masters: 1, Workers: 1})
	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.Replace(s, "hosts:\n", "network:\n  preset: flannel\nhosts:\n", 1)
	})
	then(t, "up, healthy, in sync", func(t *testing.T) {
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 2, time.Minute)
		r.inSync(t)
	})
	// From the master to pods on the worker, which alone runs ordinary pods.
	then(t, "pods on the worker answer the master", func(t *testing.T) { r.deploy(t, "web", "master-1", 3*time.Minute) })
	then(t, "the pods answer again after both hosts were powered off", func(t *testing.T) {
		if err := r.InjectAll(t.Context(), lab.Off, r.everyHost()); err != nil {
			t.Fatal(err)
		}
		if err := r.InjectAll(t.Context(), lab.Boot, r.everyHost()); err != nil {
			t.Fatal(err)
		}
		r.healthy(t, 8*time.Minute)
		r.answers(t, "web", "master-1")
		r.inSync(t)
	})
}
