//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// broken are what keeps the pods of a host from others while members, nodes and ready
// counts are all in order, and what status has to say of it.
var broken = []struct{ what, make, mend, says string }{
	{"what is forwarded is dropped", `nft add table inet field; nft 'add chain inet field f { type filter hook forward priority 0; policy drop; }'`, "nft delete table inet field",
		"its pods reach no other host's, and are not reached"},
	{"no service answers", `systemctl stop hactl-network; nft flush ruleset`, "systemctl start hactl-network", "by its service address"},
}

// TestStatusNamesTheHostWhosePodsReachNothing: the cluster looks well from outside, and
// is not.
func TestStatusNamesTheHostWhosePodsReachNothing(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	on := r.notOwner(t)
	for _, b := range broken {
		then(t, b.what+" on "+on, func(t *testing.T) {
			labOutput(t, r.Lab, on, b.make)
			res := r.must(t, 5, "status")
			labOutput(t, r.Lab, on, b.mend)
			took(t, "status that names it: "+b.what, res.took)
			said := strings.Join(strings.Fields(res.out), " ")
			if !strings.Contains(said, "traffic "+on+" bad") || !strings.Contains(said, b.says) {
				t.Errorf("%s", res)
			}
			r.healthy(t)
		})
	}
	took(t, "status", r.must(t, 0, "status").took)
	r.comesInSync(t)
}

// refusedFlag is an inventory with a flag that the apiserver refuses.
func (r *rig) refusedFlag(t *testing.T) (usual string) {
	t.Helper()
	usual = r.inv
	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.Replace(s, "kubernetes:\n", "kubernetes:\n  apiServerExtraArgs: {feature-gates: NoSuchGate=true}\n", 1)
	})
	return usual
}

// manifests are the hashes of the static pods of all masters.
func (r *rig) manifests(t *testing.T) (sums string) {
	t.Helper()
	for _, m := range []string{"master-1", "master-2", "master-3"} {
		sums += labOutput(t, r.Lab, m, "sha256sum /etc/kubernetes/manifests/*.yaml") + "\n"
	}
	return sums
}

// TestRefusedFlagIsKnownBefore: a flag that the apiserver refuses is known before a
// running one gets it, and nothing was changed.
func TestRefusedFlagIsKnownBefore(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before, usual := r.manifests(t), r.refusedFlag(t)
	defer func() { r.inv = usual }()
	res := r.must(t, 7, "up", "--yes")
	took(t, "a flag that the apiserver refuses, until it is known", res.took)
	if !strings.Contains(res.err, "NoSuchGate") || !strings.Contains(res.err, "nothing was changed") {
		t.Errorf("%s", res)
	}
	if now := r.manifests(t); now != before {
		t.Errorf("before:\n%s\nafter the refusal:\n%s", before, now)
	}
	r.inv = usual
	r.inSync(t)
}

// TestApiserverThatRefusesAFlagIsPutBack: where the flag was not tried, the first
// master's apiserver does not come up; its old manifest comes back by itself, the error
// says why, and the other masters' were not touched.
func TestApiserverThatRefusesAFlagIsPutBack(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	before, usual := r.manifests(t), r.refusedFlag(t)
	res := r.must(t, 1, "up", "--yes", "--no-try")
	took(t, "a flag that the apiserver refuses, until the old manifest serves again", res.took)
	for _, want := range []string{"does not come up with its new manifest", "NoSuchGate", "its old manifest is back, and serves"} {
		if !strings.Contains(res.err+res.out, want) {
			t.Errorf("%q is not in %s", want, res)
		}
	}
	if now := r.manifests(t); now != before {
		t.Errorf("before:\n%s\nnow:\n%s", before, now)
	}
	r.healthy(t)
	r.inv = usual
	r.must(t, 0, "up", "--yes")
	r.inSync(t)
	if now := r.manifests(t); now != before {
		t.Errorf("before:\n%s\nat the end:\n%s", before, now)
	}
}

// TestKubeletThatRefusesItsSettingsIsPutBack: the first host's kubelet does not come up
// with a feature gate that it does not know; its old configuration comes back by itself,
// the error says why, and no other host was touched.
func TestKubeletThatRefusesItsSettingsIsPutBack(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	files, processes := map[string]string{}, map[string]string{}
	look := func(host string) (string, string) {
		return labOutput(t, r.Lab, host, "cd /etc; sha256sum systemd/system/kubelet.service kubernetes/kubelet.conf.d/*; ls kubernetes"),
			labOutput(t, r.Lab, host, "systemctl show -p MainPID kubelet")
	}
	for _, h := range r.everyHost() {
		files[h], processes[h] = look(h)
	}
	usual := r.inv
	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.Replace(s, "  kubelet:\n", "  kubelet:\n    featureGates: {NoSuchGate: true}\n", 1)
	})
	res := r.must(t, 1, "up", "--yes")
	took(t, "settings that the kubelet refuses, until the old ones work again", res.took)
	for _, want := range []string{"does not come up with its new configuration", "NoSuchGate", "its old configuration is back, and works"} {
		if !strings.Contains(res.err+res.out, want) {
			t.Errorf("%q is not in %s", want, res)
		}
	}
	restarted := 0
	for _, h := range r.everyHost() {
		f, p := look(h)
		if f != files[h] {
			t.Errorf("%s: before:\n%s\nnow:\n%s", h, files[h], f)
		}
		if p != processes[h] {
			restarted++
		}
	}
	if restarted != 1 {
		t.Errorf("the kubelets of %d hosts were restarted, want 1", restarted)
	}
	r.inv = usual
	r.healthy(t)
	r.comesInSync(t)
}
