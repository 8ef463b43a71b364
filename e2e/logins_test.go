//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// drift resets a kernel parameter by hand: a small change for a run to make.
func (r *rig) drift(t *testing.T, host string) {
	t.Helper()
	labOutput(t, r.Lab, host, "sysctl -qw net.ipv4.ip_forward=0")
}

// TestLoginsBySudoAndThroughABastion brings one master up as a user with sudo, and
// repairs it through a bastion.
func TestLoginsBySudoAndThroughABastion(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("login"), Masters: 1, Bastion: true})
	r.inventory(t, "inventory-sudo.yaml", unchanged)
	then(t, "up of one master as a user with sudo", func(t *testing.T) {
		took(t, "up of one master", r.must(t, 0, "up", "--yes").took)
		r.nodesReady(t, 1)
	})
	then(t, "up through a bastion repairs what drifted", func(t *testing.T) { r.repairs(t, "inventory-bastion.yaml", unchanged) })
	then(t, "no secret in anything that a run wrote", r.noSecretsInRuns)
}

func unchanged(s string) string { return s }

// repairs drifts master-1 and has up undo that with one of the lab's inventories.
func (r *rig) repairs(t *testing.T, file string, edit func(string) string) {
	t.Helper()
	r.inventory(t, file, edit)
	r.inSync(t)
	r.drift(t, "master-1")
	r.must(t, 2, "plan")
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 1 {
		t.Errorf("%d changes for one parameter", u.Changed)
	}
	r.inSync(t)
}

// TestOneMasterByEveryLoginThenGrownToThree brings one master up as a user
// whose sudo asks for a password, repairs it by the other logins, and adds two masters.
func TestOneMasterByEveryLoginThenGrownToThree(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: named("grow"), Masters: 3, Bastion: true})
	one := without("master-2", "master-3")
	r.env = []string{lab.SudoPasswordEnv + "=" + r.SudoPassword()}
	r.inventory(t, "inventory-sudo-password.yaml", one)
	then(t, "a wrong sudo password is named before anything is changed", func(t *testing.T) {
		before := r.touched(t, "master-1")
		res := r.start(t, []string{lab.SudoPasswordEnv + "=wrong"}, "up", "--yes").wait(t)
		if res.code == 0 || !strings.Contains(res.err, "sudo") || !strings.Contains(res.err, "hint:") {
			t.Errorf("%s", res)
		}
		if r.touched(t, "master-1") != before {
			t.Error("the host was touched")
		}
	})
	then(t, "up of one master as a user with a sudo password", func(t *testing.T) {
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 1)
		r.inSync(t)
	})
	for _, file := range []string{"inventory-sudo.yaml", "inventory-bastion.yaml"} {
		then(t, "up by "+file+" finds and repairs what drifted", func(t *testing.T) { r.repairs(t, file, one) })
	}
	then(t, "grown to three masters through a bastion, as a sudo user", func(t *testing.T) {
		r.inventory(t, "inventory-bastion.yaml", func(s string) string {
			return withDemo(strings.Replace(s, "  user: root\n", "  user: ops\n", 1))
		})
		ca := r.fingerprints(t)
		r.must(t, 0, "up", "--yes")
		r.inSync(t)
		r.nodesReady(t, 3)
		for _, h := range r.names(lab.Master) {
			for _, name := range r.names(lab.Master) { // every certificate has every name
				if out := r.kubectlSays(t, "get", "--raw", "/readyz", "--server", "https://"+addressOf(t, r, h)+":6443", "--tls-server-name", name); out != "ok" {
					t.Errorf("%s asked for as %s: %q", h, name, out)
				}
			}
		}
		if got := r.fingerprints(t); got != ca {
			t.Errorf("CAs were %s, are %s", ca, got)
		}
	})
	then(t, "the grown cluster survives the loss of its first master", func(t *testing.T) { r.powerCut(t, "master-1", "grown") })
	then(t, "no secret in anything that a run wrote", r.noSecretsInRuns)
}

func addressOf(t *testing.T, r *rig, host string) string {
	t.Helper()
	h, err := r.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	return h.Address
}

// fingerprints are those of the CAs, as master-1 holds them.
func (r *rig) fingerprints(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(strings.Fields(labOutput(t, r.Lab, "master-1",
		"for f in ca.crt front-proxy-ca.crt etcd/ca.crt sa.pub; do sha256sum </etc/kubernetes/pki/$f; done; sha256sum </etc/etcd/pki/ca.crt")))
}
