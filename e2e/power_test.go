//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// TestFirstMasterPoweredOff cuts the power of the master that kubeadm init ran on.
func TestFirstMasterPoweredOff(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.powerCut(t, "master-1", "after-first")
}

// TestOwnerOfTheVIPPoweredOff cuts the power of the VIP's owner: the VIP moves.
func TestOwnerOfTheVIPPoweredOff(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.powerCut(t, r.owner(t), "after-owner")
}

// TestAllHostsPoweredOff cuts the power of every host: the cluster is healthy again
// without hactl.
func TestAllHostsPoweredOff(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.deploy(t, "before", "master-2")
	if err := r.InjectAll(t.Context(), lab.Off, r.everyHost()); err != nil {
		t.Fatal(err)
	}
	if err := r.InjectAll(t.Context(), lab.Boot, r.everyHost()); err != nil {
		t.Fatal(err)
	}
	took(t, "healthy after a power cut of all hosts", r.healthy(t))
	r.comesInSync(t)
	r.answers(t, "before", "master-2")
	r.undeploy(t, "before")
}

// writer writes configmaps through the VIP and knows which writes were acknowledged.
type writer struct {
	name         string
	tried, acked int
	names        []string // acknowledged
}

// write tries one write. If its answer is lost it does not count as acknowledged,
// and the next one has another name.
func (w *writer) write(t *testing.T, r *rig) error {
	t.Helper()
	w.tried++
	name := fmt.Sprintf("%s-written-%d", w.name, w.tried)
	_, err := r.kubectl(t, "", "create", "configmap", name, "--from-literal=a=b", "--request-timeout=10s")
	if err == nil {
		w.names = append(w.names, name)
	}
	return err
}

// allThere fails for each acknowledged write that is not there any more.
func (w *writer) allThere(t *testing.T, r *rig) {
	t.Helper()
	have := strings.Fields(r.kubectlSays(t, "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"))
	for _, name := range w.names {
		if !slices.Contains(have, name) {
			t.Errorf("the acknowledged write %s is lost", name)
		}
	}
	t.Logf("%d of %d writes were acknowledged; all of these are there", len(w.names), w.tried)
	r.kubectlDoes(t, append([]string{"delete", "configmap", "--ignore-not-found"}, w.names...)...)
}

// powerCut powers a master off and on. The API and new deployments go on without it,
// nothing acknowledged is lost, and it comes back by itself.
func (r *rig) powerCut(t *testing.T, victim, name string) {
	t.Helper()
	owner := r.owner(t)
	w := &writer{name: name}
	if err := w.write(t, r); err != nil {
		t.Fatal(err)
	}
	cut := time.Now()
	labInject(t, r.Lab, lab.Off, victim)
	then(t, "writes through the VIP go on", func(t *testing.T) {
		eventually(t, "a write through the VIP is acknowledged", func() error { return w.write(t, r) })
		took(t, "first acknowledged write after a power cut", time.Since(cut))
		for len(w.names) < 8 { // bounded by the writes that fail
			start := time.Now()
			if err := w.write(t, r); err != nil {
				t.Logf("%s after the power cut: %v", time.Since(cut).Round(10*time.Millisecond), err)
				if time.Since(cut) > hang {
					t.Fatal("writes are not acknowledged")
				}
				continue
			}
			took(t, "acknowledged write while a master is off", time.Since(start))
		}
	})
	then(t, "the VIP is with a master that runs", func(t *testing.T) {
		now := r.owner(t)
		if now == victim {
			t.Errorf("the VIP is with %s, which is off", victim)
		}
		t.Logf("the VIP was with %s and is with %s", owner, now)
	})
	then(t, "a new deployment comes up", func(t *testing.T) {
		// Before the node counts as gone the scheduler may still send pods there.
		gone := eventually(t, "the node of "+victim+" is known to be gone", func() error {
			out, err := r.kubectl(t, "", "get", "node", victim, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
			if err == nil && out == "True" {
				err = errors.New("it counts as Ready")
			}
			return err
		})
		took(t, "node known to be gone, after the writes", gone)
		from := "master-2"
		if victim == from {
			from = "master-3"
		}
		r.deploy(t, name, from)
		if res := r.hactl(t, "status"); (res.code != 3 && res.code != 5) || !strings.Contains(res.out, victim) {
			t.Errorf("status with %s off: %s", victim, res)
		}
	})
	then(t, "it comes back without hactl, and nothing is lost", func(t *testing.T) {
		before := r.owner(t)
		labInject(t, r.Lab, lab.Boot, victim)
		took(t, "healthy after a master was switched on", r.healthy(t))
		// A host that boots may keep the processors that all share so busy that the
		// owner gives the VIP up, rightly. That its return alone moves nothing is
		// asserted in simulated time (internal/prober) and measured by the drill (node-back).
		moved := 0.0
		if now := r.owner(t); now != before {
			moved = 1
			t.Logf("the VIP was with %s and is with %s", before, now)
		}
		record(t, "moves of the VIP when a master comes back", "count", moved)
		r.comesInSync(t)
		w.allThere(t, r)
		r.undeploy(t, name)
	})
}
