//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// TestHostThatIsDownStopsUp powers the worker off: up says so and leaves the others
// alone.
func TestHostThatIsDownStopsUp(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	labInject(t, r.Lab, lab.Off, "worker-1")
	before := map[string]string{}
	for _, h := range r.names(lab.Master) {
		before[h] = r.touched(t, h)
	}
	// A pending change on another host: it must stay pending.
	labOutput(t, r.Lab, "master-3", "sysctl -qw net.ipv4.ip_forward=0")
	res := r.must(t, 3, "up", "--yes")
	if !strings.Contains(res.err, "worker-1") || !strings.Contains(res.err, "hint:") {
		t.Errorf("not a clear error: %s", res)
	}
	took(t, "up until it names a host that is down", res.took)
	for h, b := range before {
		if got := r.touched(t, h); got != b {
			t.Errorf("%s was touched", h)
		}
	}
	if got := labOutput(t, r.Lab, "master-3", "sysctl -n net.ipv4.ip_forward"); got != "0" {
		t.Errorf("the sysctl of master-3 was set although a host was down")
	}
	labInject(t, r.Lab, lab.Boot, "worker-1")
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed == 0 {
		t.Errorf("the sysctl of master-3 was not set: %+v", u)
	}
	r.nodesReady(t, 4)
	r.comesInSync(t)
}

// TestChangedHostKeyIsRefused replaces the worker: hactl names file, line and the
// command that trusts the new key.
func TestChangedHostKeyIsRefused(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	labInject(t, r.Lab, lab.Replace, "worker-1")
	before := map[string]string{}
	for _, h := range r.everyHost() {
		before[h] = r.touched(t, h)
	}
	for _, verb := range [][]string{{"plan"}, {"up", "--yes"}} {
		res := r.must(t, 3, verb...)
		line := 0
		for i, l := range strings.Split(readText(t, r.Path("ssh", "known_hosts")), "\n") {
			if strings.HasPrefix(l, "10.77.0.21") {
				line = i + 1
			}
		}
		for _, want := range []string{"worker-1", fmt.Sprintf("%s:%d", r.Path("ssh", "known_hosts"), line), "hactl trust"} {
			if !strings.Contains(res.err, want) {
				t.Errorf("%q is not in: %s", want, res)
			}
		}
	}
	for h, b := range before {
		if got := r.touched(t, h); got != b {
			t.Errorf("%s was touched", h)
		}
	}
	if res := r.hactl(t, "trust", "--yes", "worker-1"); res.code != 0 {
		t.Fatalf("%s", res)
	}
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4)
	r.inSync(t)
}
