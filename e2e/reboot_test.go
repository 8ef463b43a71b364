//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// boots is when the init of each host was started.
func (r *rig) boots(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, h := range r.everyHost() {
		fields := strings.Fields(labOutput(t, r.Lab, h, "cat /proc/1/stat"))
		out[h] = fields[len(fields)-52+21] // from the end: the name in the second field may hold anything
	}
	return out
}

// rebooted are the hosts that run from another boot than before.
func (r *rig) rebooted(t *testing.T, before map[string]string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for h, b := range r.boots(t) {
		if b != before[h] {
			out[h] = true
		}
	}
	return out
}

// givenBack holds that a reboot left nothing of itself behind, and one cordon of an
// operator.
func (r *rig) givenBack(t *testing.T, cordoned string) {
	t.Helper()
	if got := r.kubectlSays(t, "get", "nodes", "-o", `jsonpath={range .items[?(@.spec.unschedulable)]}{.metadata.name} {end}`); got != cordoned {
		t.Errorf("cordoned are %q, want %q", got, cordoned)
	}
	if got := r.kubectlSays(t, "get", "nodes", "-o", `jsonpath={.items[*].metadata.annotations}`); strings.Contains(got, "hactl.io/taken-out") {
		t.Errorf("a node is still marked: %s", got)
	}
	for _, h := range r.everyHost() {
		if got := labOutput(t, r.Lab, h, "ls /var/lib/hactl/reboot 2>/dev/null || :"); got != "" {
			t.Errorf("%s keeps %s", h, got)
		}
	}
}

// TestRebootOfEveryHost reboots a cluster of three masters and a worker while requests
// are sent and writes are made.
func TestRebootOfEveryHost(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before := r.boots(t)
	r.kubectlDoes(t, "cordon", "master-3")
	then(t, "a dry run lists the hosts and changes nothing", func(t *testing.T) {
		res := r.must(t, 2, "reboot", "--all", "--dry-run")
		if !strings.Contains(res.out, "reboot") || len(r.rebooted(t, before)) > 0 {
			t.Errorf("%s", res)
		}
	})
	then(t, "every host reboots, one after the other, and no write is lost", func(t *testing.T) {
		took(t, "reboot of four hosts", r.measured(t, "reboot", "--all").took)
		if got := r.rebooted(t, before); len(got) != 4 {
			t.Errorf("rebooted are %v", got)
		}
		r.givenBack(t, "master-3 ")
	})
	r.kubectlDoes(t, "uncordon", "master-3")
	r.nodesReady(t, 4)
	r.inSync(t)
}

// TestRebootStopsAtAHostThatStaysAway has a host lose its power as it reboots; a second
// operator comes meanwhile.
func TestRebootStopsAtAHostThatStaysAway(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before := r.boots(t)
	x := r.start(t, nil, "reboot", "--all", "--yes", "--boot-timeout", "30s", "-o", "json")
	lost := ""
	if !x.until(t, "a host reboots", func(said string) bool {
		for _, h := range r.names(lab.Master) {
			if strings.Contains(said, "for "+h+" to come back") {
				lost = h
			}
		}
		return lost != ""
	}) {
		t.Fatalf("no host reboots: %s", x.wait(t))
	}
	labInject(t, r.Lab, lab.Off, lost)
	second := r.hactl(t, "reboot", "--all", "--yes", "--skip", lost)
	if second.code != 8 {
		t.Errorf("a second operator: want exit 8: %s", second)
	}
	res := x.wait(t)
	if res.code != 5 || !strings.Contains(res.err, lost+" did not come back") || !strings.Contains(res.err, "hint:") {
		t.Errorf("want exit 5 that names %s: %s", lost, res)
	}
	labInject(t, r.Lab, lab.Boot, lost)
	if got := r.rebooted(t, before); len(got) != 1 || !got[lost] {
		t.Errorf("rebooted are %v, only %s was begun", got, lost)
	}
	r.must(t, 0, "reboot", "--all", "--yes")
	if got := r.rebooted(t, before); len(got) != 4 {
		t.Errorf("after the next run %v have rebooted", got)
	}
	r.givenBack(t, "")
	r.nodesReady(t, 4)
	r.inSync(t)
}

// TestRebootKilledAgainAndAgainIsCompleted kills a reboot five times at random.
func TestRebootKilledAgainAndAgainIsCompleted(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before := r.boots(t)
	r.killedFiveTimes(t, 22*time.Second, "reboot", "--all", "--yes")
	r.must(t, 0, "reboot", "--all", "--yes")
	if got := r.rebooted(t, before); len(got) != 4 {
		t.Errorf("rebooted are %v", got)
	}
	r.givenBack(t, "")
	r.nodesReady(t, 4)
	r.inSync(t)
}
