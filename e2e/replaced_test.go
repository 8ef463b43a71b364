//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// TestReplacedMasterJoinsAgain puts an empty machine in the place of a master
// and lets hactl find everything that follows from it: a host key that is not
// trusted, a member of etcd whose data is gone, a node of that name.
func TestReplacedMasterJoinsAgain(t *testing.T) {
	inTurn(t)
	const on = "master-3"
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	labInject(t, r.Lab, lab.Replace, on)
	then(t, "its host key is refused until it is trusted", func(t *testing.T) {
		if res := r.must(t, 3, "up", "--yes"); !strings.Contains(res.err, "hactl trust "+on) {
			t.Errorf("%s", res)
		}
		if res := r.hactl(t, "trust", "--yes", on); res.code != 0 {
			t.Fatalf("%s", res)
		}
	})
	then(t, "the plan names the stale member and deletes nothing else", func(t *testing.T) {
		// It may have been the leader, without whom there is no list to find it in.
		eventually(t, "etcd has a leader", func() error {
			_, err := r.etcdctl(t, "master-1", "get x")
			return err
		})
		deleted := 0
		for id, i := range r.pending(t) {
			if i.Host != on {
				t.Errorf("%s: %s on a host that was not replaced", id, i.Summary)
			}
			if i.Op == "delete" {
				deleted++
				if !strings.Contains(i.Summary, "stale etcd member "+on) {
					t.Errorf("%s: %s", id, i.Summary)
				}
			}
		}
		if deleted != 1 {
			t.Errorf("%d deletions in the plan", deleted)
		}
	})
	then(t, "up joins it, in all three layers", func(t *testing.T) {
		r.converges(t, 4)
		r.threeVoters(t)
	})
	r.kubectlDoes(t, "delete", "configmap", "kept")
}

// TestEtcdDataWipedOnAMaster takes away the data of a member while etcd runs: the unit
// must not start a voter without its log, and up makes it a voter again.
func TestEtcdDataWipedOnAMaster(t *testing.T) {
	inTurn(t)
	const on = "master-2"
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	// The member is first of the bootstrap, and the second time one that has joined:
	// left to itself that could come back as a voter that has forgotten everything.
	// Without its files etcd ends by itself within half a minute, or is killed here.
	for _, w := range []struct{ what, end string }{
		{"of the bootstrap, until etcd ends by itself", ""},
		{"that has joined, and etcd is killed", "; systemctl kill -s KILL etcd"},
	} {
		then(t, "a member "+w.what, func(t *testing.T) {
			labOutput(t, r.Lab, on, "journalctl --rotate -q; journalctl -q --vacuum-time=1s; rm -rf /var/lib/etcd/member"+w.end)
			eventually(t, "the unit refuses to start the voter", func() error {
				_, err := r.Output(t.Context(), on, "journalctl -u etcd -o cat | grep -F 'holds no log of it. Is the disk mounted?' && ! test -e /var/lib/etcd/member")
				return err
			})
			r.converges(t, 4)
			r.threeVoters(t)
		})
	}
	r.kubectlDoes(t, "delete", "configmap", "kept")
}

// TestReplacedMasterJoinsAgainUnderAnotherName takes a dead master out of the
// inventory and puts another machine into it. While the member of the dead master is in
// the list, etcd takes in no other: the plan removes it, but not while it is alive.
func TestReplacedMasterJoinsAgainUnderAnotherName(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: named("renamed"), Masters: 4})
	r.inventory(t, "inventory.yaml", without("master-4"))
	then(t, "up", func(t *testing.T) {
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 3)
	})
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	r.inventory(t, "inventory.yaml", without("master-3"))
	then(t, "a member that runs is refused", func(t *testing.T) {
		before := r.touched(t, "master-4")
		res := r.must(t, 7, "up", "--yes")
		if !strings.Contains(res.err, "etcd member master-3") || !strings.Contains(res.err, "systemctl disable --now etcd keepalived") {
			t.Errorf("%s", res)
		}
		if r.touched(t, "master-4") != before {
			t.Error("the new master was touched")
		}
	})
	r.inventory(t, "inventory.yaml", without("master-2", "master-3", "master-4"))
	then(t, "status names the members that are not in the inventory", func(t *testing.T) {
		if res := r.must(t, 5, "status"); strings.Count(res.out, "a voter that is not in the inventory") != 2 {
			t.Errorf("%s", res)
		}
	})
	r.inventory(t, "inventory.yaml", without("master-3"))
	labInject(t, r.Lab, lab.Off, "master-3")
	then(t, "the plan names the dead member and deletes nothing else", func(t *testing.T) {
		// It may have been the leader. Without a leader no member can be removed, and the
		// plan names none. A read like this one needs a leader with a majority.
		eventually(t, "etcd has a leader", func() error {
			_, err := r.etcdctl(t, "master-1", "get x")
			return err
		})
		deleted := 0
		for id, i := range r.pending(t) {
			if i.Op == "delete" {
				deleted++
			}
			if named := strings.Contains(i.Summary, "remove etcd member master-3 (https://10.77.0.13:2380)"); named != (i.Op == "delete") {
				t.Errorf("%s: %s", id, i.Summary)
			}
		}
		if deleted != 1 {
			t.Errorf("%d deletions in the plan", deleted)
		}
	})
	then(t, "up removes it and brings the new one in", func(t *testing.T) {
		r.kubectlDoes(t, "delete", "node", "master-3")
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 3)
		r.threeVoters(t)
		r.inSync(t)
	})
}

// threeVoters are the members of etcd, all started, and what was written before
// is there.
func (r *rig) threeVoters(t *testing.T) {
	t.Helper()
	eventually(t, "three voters", func() error {
		members, err := r.etcdctl(t, "master-1", "member list")
		if err == nil && (strings.Count(members, "started") != 3 || strings.Contains(members, "true")) {
			err = fmt.Errorf("members:\n%s", members)
		}
		if err != nil {
			return err
		}
		if res := r.hactl(t, "status"); res.code != 0 || !strings.Contains(res.out, "3 of 3 voters healthy") {
			return errors.New(res.String())
		}
		return nil
	})
	if out := r.kubectlSays(t, "get", "configmap", "kept", "-o", "jsonpath={.data.written}"); out != "before" {
		t.Errorf("what was written before: %q", out)
	}
}

// etcdctl asks the member of master-1.
func (r *rig) etcdctl(t *testing.T, on, command string) (string, error) {
	t.Helper()
	return r.Output(t.Context(), on, "etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt --cert /etc/etcd/pki/server.crt --key /etc/etcd/pki/server.key "+command)
}
