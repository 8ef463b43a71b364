//go:build e2e

package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"hactl/internal/drill"
	"hactl/internal/lab"
)

// measured is hactl -o json --measure, which has to succeed with no acknowledged write
// lost. How many requests failed because of it is a figure: on a machine that is busy with
// four hosts, a request that took more than its second is not always told from one that
// failed.
func (r *rig) measured(t *testing.T, args ...string) result {
	t.Helper()
	res := r.must(t, 0, append(args, "--yes", "--measure", "-o", "json")...)
	for _, m := range measurements(t, res) {
		lostNothing(t, args[0], m)
	}
	return res
}

// measurements are those in the last line of a run.
func measurements(t *testing.T, res result) []drill.Measurement {
	t.Helper()
	var end struct{ Measured []drill.Measurement }
	lines := strings.Split(strings.TrimSpace(res.out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || len(end.Measured) == 0 {
		t.Fatalf("no measurement in the last line (%v): %s", err, res)
	}
	return end.Measured
}

// lostNothing holds that there were requests and that every acknowledged write was read
// back. What failed is recorded.
func lostNothing(t *testing.T, what string, m drill.Measurement) {
	t.Helper()
	t.Log(m.String())
	if m.Requests == 0 || m.Acknowledged == 0 || m.Lost != 0 {
		t.Errorf("%s: %s", what, m.String())
	}
	record(t, what+": requests failed by the operation", "", float64(m.FailedByOperation))
	record(t, what+": largest gap by the operation", "ms", m.OperationGapMS)
	if !m.ReadBack {
		t.Errorf("%s: not all writes were read back: %s", what, m.Problems)
	}
}

// forgets drops hosts from the inventory, as an operator does.
func (r *rig) forgets(t *testing.T, hosts ...string) {
	t.Helper()
	r.inventory(t, "inventory.yaml", func(s string) string {
		for _, host := range hosts {
			out := regexp.MustCompile(`(?m)^  - name: `+host+`\n(    .*\n)*`).ReplaceAllString(s, "")
			if out == s {
				t.Fatalf("%s is not in the inventory", host)
			}
			s = out
		}
		return s
	})
}

// TestHostsAreRemoved takes a worker, and then the master that owns the VIP, out of a
// running cluster.
func TestHostsAreRemoved(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("remove"), Masters: 3, Workers: 1})
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4)
	then(t, "a worker leaves", func(t *testing.T) {
		took(t, "removal of a worker", r.measured(t, "remove", "worker-1").took)
		r.nodesReady(t, 3)
		if res := r.hactl(t, "up", "--yes"); res.code != 7 || !strings.Contains(res.err, "worker-1 was removed") {
			t.Errorf("it is still in the inventory: %s", res)
		}
		r.forgets(t, "worker-1")
		r.inSync(t)
	})
	then(t, "the owner of the VIP leaves", func(t *testing.T) {
		owner := r.owner(t)
		took(t, "removal of the owner of the VIP", r.measured(t, "remove", owner).took)
		r.nodesReady(t, 2)
		r.forgets(t, "worker-1", owner)
		if res := r.must(t, 0, "status"); strings.Contains(res.out, owner) {
			t.Errorf("%s is still named: %s", owner, res)
		}
		r.inSync(t)
	})
	then(t, "of two masters none can be dead", func(t *testing.T) {
		last := r.names(lab.Master)
		for _, m := range last {
			if !strings.Contains(readText(t, r.inv), "name: "+m+"\n") {
				continue
			}
			labInject(t, r.Lab, lab.Off, m)
			if res := r.hactl(t, "remove", m, "--yes", "--dead"); res.code != 7 {
				t.Errorf("etcd has no quorum then: %s", res)
			}
			labInject(t, r.Lab, lab.Boot, m)
			break
		}
	})
}
