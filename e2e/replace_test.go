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

// members is the member list of etcd: three voters, and none of that name or address.
func (r *rig) membersWithout(t *testing.T, on string, gone ...string) {
	t.Helper()
	members, err := r.etcdctl(t, on, "member list")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(members, "started") != 3 || strings.Contains(members, "true") {
		t.Errorf("not three voters:\n%s", members)
	}
	for _, g := range gone {
		if strings.Contains(members, g) {
			t.Errorf("%s is still a member:\n%s", g, members)
		}
	}
}

// TestDeadMasterIsReplaced puts an empty machine in the place of a master that died, at
// the same address.
func TestDeadMasterIsReplaced(t *testing.T) {
	inTurn(t)
	const on = "master-2"
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	labInject(t, r.Lab, lab.Replace, on)
	then(t, "its host key is refused until it is trusted", func(t *testing.T) {
		if res := r.must(t, 3, "replace", on, "--yes"); !strings.Contains(res.err, "hactl trust "+on) {
			t.Errorf("%s", res)
		}
		if res := r.hactl(t, "trust", "--yes", on); res.code != 0 {
			t.Fatalf("%s", res)
		}
	})
	then(t, "the plan names the stale member and the node", func(t *testing.T) {
		res := r.must(t, 2, "replace", on, "--dry-run")
		for _, want := range []string{"remove the stale etcd member " + on, "delete node " + on} {
			if !strings.Contains(res.out, want) {
				t.Errorf("%q is not in the plan: %s", want, res)
			}
		}
	})
	then(t, "it is replaced", func(t *testing.T) {
		took(t, "replacement of a dead master at its address", r.measured(t, "replace", on).took)
		r.membersWithout(t, "master-1")
		r.nodesReady(t, 4)
		r.threeVoters(t)
		r.inSync(t)
	})
	then(t, "a second run has nothing to do", func(t *testing.T) {
		if res := r.must(t, 0, "replace", on, "--yes"); !strings.Contains(res.err+res.out, on+" is part of the cluster already") {
			t.Errorf("%s", res)
		}
	})
	r.kubectlDoes(t, "delete", "configmap", "kept")
}

// TestMasterIsReplacedByAnotherHost puts hosts of other names and addresses in the place
// of masters: of the first of the list, dead; of one that is cut off and not dead; of one
// that lives. The dead one comes back with its old disk, and stays out.
func TestMasterIsReplacedByAnotherHost(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("swap"), Masters: 5})
	r.inventory(t, "inventory.yaml", without("master-4", "master-5"))
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 3)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	r.inventory(t, "inventory.yaml", without("master-5"))
	then(t, "one that is cut off from here, and answers others, is refused", func(t *testing.T) {
		cut := "nft add table inet away; nft 'add chain inet away in { type filter hook input priority -300; }'; nft add rule inet away in ip saddr 10.77.0.1 drop"
		labOutput(t, r.Lab, "master-1", cut)
		before := r.touched(t, "master-4")
		res := r.must(t, 7, "replace", "master-1", "master-4", "--yes")
		if !strings.Contains(res.err, "master-1 is not dead") || !strings.Contains(res.err, "--dead") {
			t.Errorf("%s", res)
		}
		if r.touched(t, "master-4") != before {
			t.Error("the new host was touched")
		}
		labOutput(t, r.Lab, "master-1", "nft delete table inet away")
	})
	labInject(t, r.Lab, lab.Off, "master-1")
	then(t, "the first of the list, which is dead, is replaced", func(t *testing.T) {
		took(t, "replacement of a dead master by another host", r.measured(t, "replace", "master-1", "master-4").took)
		r.membersWithout(t, "master-2", "master-1", "10.77.0.11:")
		if res := r.must(t, 7, "up", "--yes", "--skip", "master-1"); !strings.Contains(res.err, "master-1 was removed") {
			t.Errorf("%s", res)
		}
		r.inventory(t, "inventory.yaml", without("master-1", "master-5"))
		r.nodesReady(t, 3)
		r.inSync(t)
	})
	then(t, "it comes back with its old disk, and stays out", func(t *testing.T) {
		labInject(t, r.Lab, lab.Boot, "master-1")
		r.staysOut(t, "master-1", "master-2")
		labInject(t, r.Lab, lab.Off, "master-1")
		r.kubectlDoes(t, "delete", "node", "master-1", "--ignore-not-found")
	})
	then(t, "one that lives is replaced, by a host that the inventory names beside it", func(t *testing.T) {
		r.inventory(t, "inventory.yaml", without("master-1"))
		took(t, "replacement of a master that lives", r.measured(t, "replace", "master-2", "master-5").took)
		r.membersWithout(t, "master-3", "master-1", "master-2")
		r.inventory(t, "inventory.yaml", without("master-1", "master-2"))
		r.inSync(t)
	})
	if out := r.kubectlSays(t, "get", "configmap", "kept", "-o", "jsonpath={.data.written}"); out != "before" {
		t.Errorf("what was written before: %q", out)
	}
}

// TestDeadMasterReturnsWhileItIsReplaced boots a dead master again, with its old disk, in
// each phase of its replacement: while the new host is prepared, when its member is gone,
// and when the new member is there. The same or the next run completes it, and the old one
// stays out.
func TestDeadMasterReturnsWhileItIsReplaced(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("returns"), Masters: 6})
	spare := []string{"master-4", "master-5", "master-6"}
	r.inventory(t, "inventory.yaml", without(spare...))
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 3)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	var gone []string
	for i, c := range []struct {
		old, new, others, phase string
		reached                 func(members string) bool
	}{
		{"master-1", "master-4", "master-2", "the new host is prepared", nil},
		{"master-2", "master-5", "master-3", "its member is gone", func(m string) bool { return !strings.Contains(m, "master-2") }},
		{"master-3", "master-6", "master-4", "the new member is there", func(m string) bool { return strings.Contains(m, "master-6") }},
	} {
		then(t, c.phase, func(t *testing.T) {
			r.inventory(t, "inventory.yaml", without(slices.Concat(gone, spare[i+1:])...))
			labInject(t, r.Lab, lab.Off, c.old)
			x := r.start(t, nil, "replace", c.old, c.new, "--yes")
			eventually(t, c.phase, func() error {
				if c.reached == nil {
					_, err := r.Output(t.Context(), c.new, "ls /opt/hactl/etcd/")
					return err
				}
				if members, err := r.etcdctl(t, c.others, "member list"); err != nil || !c.reached(members) {
					return fmt.Errorf("not yet: %w: %s", err, members)
				}
				return nil
			})
			labInject(t, r.Lab, lab.Boot, c.old)
			if res := x.wait(t); res.code != 0 {
				t.Logf("the run in which it came back: %s", res)
				if !strings.Contains(res.err, "hint: ") {
					t.Errorf("no hint: %s", res)
				}
				r.must(t, 0, "replace", c.old, c.new, "--yes")
			}
			gone = append(gone, c.old)
			r.staysOut(t, c.old, c.others)
			labInject(t, r.Lab, lab.Off, c.old)
			r.kubectlDoes(t, "delete", "node", c.old, "--ignore-not-found")
			r.inventory(t, "inventory.yaml", without(slices.Concat(gone, spare[i+1:])...))
			r.nodesReady(t, 3)
			r.inSync(t)
		})
	}
	if out := r.kubectlSays(t, "get", "configmap", "kept", "-o", "jsonpath={.data.written}"); out != "before" {
		t.Errorf("what was written before: %q", out)
	}
}

// staysOut watches a removed host that runs again for 30 s: it is no member, does not hold
// the VIP, and the cluster is well. Status names its node, if it has one again.
func (r *rig) staysOut(t *testing.T, host, on string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Second) {
		r.membersWithout(t, on, host)
		if out := labOutput(t, r.Lab, host, "ip -o addr show to 10.77.0.100"); out != "" {
			t.Fatalf("%s holds the VIP: %s", host, out)
		}
	}
	eventually(t, "the cluster is well", func() error {
		if res := r.hactl(t, "status"); res.code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
	out, err := r.kubectl(t, "", "get", "nodes", "-o", "name")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "node/"+host) {
		return
	}
	if res := r.hactl(t, "status"); !strings.Contains(res.out, host) { // its kubelet has registered it again
		t.Errorf("status does not name the node of %s: %s", host, res)
	}
}

// TestReplaceRemoveAndResetKilledAreCompleted kills a replacement of a dead master, a removal
// of a worker, and its reset, each five times at random.
func TestReplaceRemoveAndResetKilledAreCompleted(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("kills"), Masters: 4, Workers: 1})
	bare := r.image(t, "worker-1")
	r.inventory(t, "inventory.yaml", without("master-4"))
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	r.reset()
	then(t, "a replacement", func(t *testing.T) {
		labInject(t, r.Lab, lab.Off, "master-2")
		r.killedFiveTimes(t, 25*time.Second, "replace", "master-2", "master-4", "--yes")
		r.must(t, 0, "replace", "master-2", "master-4", "--yes")
		r.membersWithout(t, "master-1", "master-2")
		r.inventory(t, "inventory.yaml", without("master-2"))
		r.threeVoters(t)
		r.inSync(t)
	})
	then(t, "a removal", func(t *testing.T) {
		r.killedFiveTimes(t, 10*time.Second, "remove", "worker-1", "--yes")
		r.must(t, 0, "remove", "worker-1", "--yes")
		r.nodesReady(t, 3)
	})
	then(t, "a reset", func(t *testing.T) {
		r.killedFiveTimes(t, 3*time.Second, "reset", "worker-1", "--yes", "--packages")
		r.must(t, 0, "reset", "worker-1", "--yes", "--packages")
		if d := imageDiffers(bare, r.image(t, "worker-1")); len(d) > 0 {
			t.Errorf("worker-1 differs in %d lines:\n%s", len(d), strings.Join(d, "\n"))
		}
	})
}

// TestMastersGrowFromOneToFive adds two masters, and two more, by the inventory, while clients
// use the VIP.
func TestMastersGrowFromOneToFive(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("grow"), Masters: 5})
	names := r.names(lab.Master)
	for _, n := range []int{1, 3, 5} {
		r.inventory(t, "inventory.yaml", without(names[n:]...))
		res := r.must(t, 0, "up", "--yes", "--measure", "-o", "json")
		took(t, fmt.Sprintf("up of a cluster that grows to %d masters", n), res.took)
		if n > 1 {
			for _, m := range measurements(t, res) {
				lostNothing(t, fmt.Sprintf("growth to %d masters", n), m)
			}
		}
		r.nodesReady(t, n)
		members, err := r.etcdctl(t, "master-1", "member list")
		if err != nil || strings.Count(members, "started") != n || strings.Contains(members, "true") {
			t.Errorf("not %d voters: %v\n%s", n, err, members)
		}
		r.inSync(t)
	}
	then(t, "an even number is a warning, in JSON, too", func(t *testing.T) {
		r.must(t, 0, "remove", "master-5", "--yes")
		r.inventory(t, "inventory.yaml", without("master-5"))
		if res := r.must(t, 0, "up", "--yes", "-o", "json"); !strings.Contains(res.out, "4 masters") {
			t.Errorf("%s", res)
		}
	})
}
