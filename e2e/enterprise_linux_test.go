//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/internal/preflight"
)

// TestEnterpriseLinux brings up three masters and a worker on an imitation of Enterprise
// Linux 9, by sudo: packages by dnf, a secure_path without /usr/local/bin, no perl,
// firewalld.
func TestEnterpriseLinux(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("el9"), Masters: 3, Workers: 1, OS: lab.EL9})
	r.inventory(t, "inventory-sudo.yaml", func(s string) string { return s })
	before := map[string][]string{}
	then(t, "firewalld is named with the commands that open it, and they do", func(t *testing.T) {
		if res := r.must(t, 1, "up", "--yes"); !strings.Contains(res.err+res.out, "firewalld is active") {
			t.Errorf("up does not name firewalld: %s", res)
		}
		got := r.checks(t, 1)
		if k := got["firewall"]; k.State != preflight.Failed || len(k.Findings) != 4 {
			t.Errorf("firewall: %+v", k)
		}
		for _, f := range got["firewall"].Findings {
			command, _, _ := strings.Cut(f.Hint, "; ")
			labOutput(t, r.Lab, f.Host, command)
		}
		for _, k := range r.checks(t, 0) {
			if len(k.Findings) > 0 {
				t.Logf("%s: %s %+v", k.ID, k.State, k.Findings)
			}
			if k.ID == "firewall" && k.State != preflight.Passed {
				t.Errorf("opened, and still %s: %+v", k.State, k.Findings)
			}
		}
	})
	for _, h := range r.everyHost() {
		before[h] = r.image(t, h)
	}
	then(t, "from bare to healthy, and a second up changes nothing", func(t *testing.T) {
		took(t, "up of EL 9 from bare", r.must(t, 0, "up", "--yes").took)
		r.nodesReady(t, 4)
		if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 0 || !u.Status.Healthy {
			t.Errorf("a second up: %+v", u)
		}
		r.inSync(t)
	})
	then(t, "faults of a drill", func(t *testing.T) {
		for _, name := range []string{"apiserver-killed", "etcd-leader-killed", "owner-cut-off"} {
			r.drilled(t, name)
		}
	})
	then(t, "reset leaves every host as it was", func(t *testing.T) {
		r.must(t, 0, "reset", "--all", "--packages", "--cluster", r.Name())
		for _, h := range r.everyHost() {
			if d := imageDiffers(before[h], r.image(t, h)); len(d) > 0 {
				t.Errorf("%s differs in %d lines:\n%s", h, len(d), strings.Join(d, "\n"))
			}
		}
	})
}
