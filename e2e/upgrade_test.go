//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// versioned writes an inventory that names these versions: "kubernetes: v1.36.3".
func (r *rig) versioned(t *testing.T, versions ...string) {
	t.Helper()
	r.inventory(t, "inventory.yaml", func(s string) string {
		return s + "versions:\n  " + strings.Join(versions, "\n  ") + "\n"
	})
}

// olderRig is a cluster of three masters and a worker that runs these versions.
func olderRig(t *testing.T, versions ...string) *rig {
	t.Helper()
	r := newRig(t, lab.Config{Name: nextName("upgrade"), Masters: 3, Workers: 1})
	r.versioned(t, versions...)
	took(t, "up of three masters and a worker", r.must(t, 0, "up", "--yes").took)
	r.nodesReady(t, 4)
	return r
}

// programs is what the processes of every host run from, a line each: the paths of etcd,
// containerd and the kubelet, and the images of the static pods.
func (r *rig) programs(t *testing.T, host string) string {
	t.Helper()
	return labOutput(t, r.Lab, host, `for n in etcd containerd kubelet; do p=$(systemctl show -p MainPID --value $n.service); [ "${p:-0}" = 0 ] || readlink /proc/$p/exe; done
for i in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io containers info "$i" | sed -n 's/^ *"Image": "\(.*kube-[a-z-]*:.*\)",*$/\1/p'; done | sort -u`)
}

// runsOnly holds that the processes of every host have one version of Kubernetes, etcd and
// containerd.
func (r *rig) runsOnly(t *testing.T, kubernetes, etcd, containerd string) {
	t.Helper()
	for _, h := range r.everyHost() {
		out := r.programs(t, h)
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			want := map[bool]string{true: etcd}[strings.Contains(line, "/etcd/")]
			switch {
			case strings.Contains(line, "/containerd/"):
				want = containerd
			case strings.Contains(line, "kube"):
				want = kubernetes
			}
			if want == "" || !strings.Contains(line, want) {
				t.Errorf("%s runs %s, want %s", h, line, want)
			}
		}
		if n := strings.Count(out, "\n"); n < 2 {
			t.Errorf("%s runs only %s", h, out)
		}
	}
	if got := r.kubectlSays(t, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"); strings.ReplaceAll(got, kubernetes, "") != "   " {
		t.Errorf("the nodes are of %s, want %s", got, kubernetes)
	}
	if got := r.kubectlSays(t, "get", "-n", "kube-system", "cm", "kubeadm-config", "-o", "jsonpath={.data.ClusterConfiguration}"); !strings.Contains(got, "kubernetesVersion: "+kubernetes+"\n") {
		t.Errorf("kubeadm-config is not of %s: %s", kubernetes, got)
	}
}

// upgradesTo names the versions, upgrades, and holds that everything runs them and that
// nothing is left to do.
func (r *rig) upgradesTo(t *testing.T, what string, versions ...string) {
	t.Helper()
	r.versioned(t, versions...)
	if res := r.hactl(t, "up", "--yes"); res.code != 7 || !strings.Contains(res.err, "hactl upgrade") {
		t.Errorf("up has to name hactl upgrade: %s", res)
	}
	r.must(t, 2, "upgrade", "--dry-run")
	took(t, what, r.measured(t, "upgrade").took)
	r.nodesReady(t, 4)
	if res := r.must(t, 0, "upgrade", "--dry-run"); !strings.Contains(res.out, "in sync") {
		t.Errorf("a second upgrade has something to do: %s", res)
	}
	r.inSync(t)
}

// TestUpgradeOfAPatch is the usual upgrade: a patch of Kubernetes.
func TestUpgradeOfAPatch(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.36.1")
	r.upgradesTo(t, "upgrade of a patch", "kubernetes: v1.36.3")
	r.runsOnly(t, "v1.36.3", "v3.6.16", "v2.2.1")
}

// TestUpgradeOfTwoMinors goes from one minor to the next but one by way of that between,
// with etcd and containerd of each. The one between cannot be left out.
func TestUpgradeOfTwoMinors(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.35.4")
	r.versioned(t, "kubernetes: v1.37.2")
	if res := r.hactl(t, "upgrade", "--yes"); res.code != 7 || !strings.Contains(res.err, "set versions.kubernetes to v1.36.3 first") {
		t.Errorf("a skipped minor: %s", res)
	}
	r.upgradesTo(t, "upgrade to 1.36", "kubernetes: v1.36.3", "containerd: v2.2.1")
	r.runsOnly(t, "v1.36.3", "v3.6.16", "v2.2.1")
	r.upgradesTo(t, "upgrade to 1.37, with etcd and containerd", "kubernetes: v1.37.2")
	r.runsOnly(t, "v1.37.2", "v3.7.3", "v2.3.7")
}

// TestUpgradeKilledAgainAndAgainIsCompleted kills an upgrade five times at random.
func TestUpgradeKilledAgainAndAgainIsCompleted(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.36.3")
	r.versioned(t, "kubernetes: v1.37.2")
	r.killedFiveTimes(t, 70*time.Second, "upgrade", "--yes", "--no-try")
	r.must(t, 0, "upgrade", "--yes")
	r.nodesReady(t, 4)
	r.runsOnly(t, "v1.37.2", "v3.7.3", "v2.3.7")
	r.inSync(t)
}

// TestUpgradeThatDoesNotComeUpIsPutBack gives the wanted apiserver a flag that it does not
// know. The try before the upgrade finds it; without the try the first master's apiserver
// goes back to the version of before, and no other master is begun.
func TestUpgradeThatDoesNotComeUpIsPutBack(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.36.3")
	r.inventory(t, "inventory.yaml", func(s string) string {
		s = strings.Replace(s, "kubernetes:\n", "kubernetes:\n  apiServerExtraArgs:\n    no-such-flag: \"1\"\n", 1)
		return s + "versions:\n  kubernetes: v1.37.2\n"
	})
	then(t, "the try refuses, before anything is changed", func(t *testing.T) {
		if res := r.hactl(t, "upgrade", "--yes"); res.code != 7 || !strings.Contains(res.err, "no-such-flag") {
			t.Errorf("want exit 7 that names the flag: %s", res)
		}
		r.runsOnly(t, "v1.36.3", "v3.6.16", "v2.2.1")
	})
	then(t, "the apiserver of the first master is put back", func(t *testing.T) {
		res := r.hactl(t, "upgrade", "--yes", "--no-try")
		if res.code != 5 || !strings.Contains(res.err, "no-such-flag") || !strings.Contains(res.err, "its old manifest is back, and serves") {
			t.Errorf("want exit 5 that says what became of it: %s", res)
		}
		for _, h := range r.names(lab.Master) {
			if out := r.programs(t, h); strings.Contains(out, "kube-apiserver:v1.37") || !strings.Contains(out, "kube-apiserver:v1.36.3") {
				t.Errorf("%s runs %s", h, out)
			}
		}
	})
	then(t, "it goes on once the flag is gone", func(t *testing.T) {
		r.versioned(t, "kubernetes: v1.37.2")
		r.must(t, 0, "upgrade", "--yes")
		r.nodesReady(t, 4)
		r.runsOnly(t, "v1.37.2", "v3.7.3", "v2.3.7")
		r.inSync(t)
	})
}

// TestUpgradeIsAborted begins a minor of etcd with one member, walks back, and goes
// through after all.
func TestUpgradeIsAborted(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.36.3")
	r.versioned(t, "kubernetes: v1.36.3", "etcd: v3.7.3")
	r.must(t, 0, "upgrade", "--yes", "--stop-after", "1")
	r.must(t, 7, "up", "--yes")
	r.must(t, 0, "upgrade", "--yes", "--abort")
	r.runsOnly(t, "v1.36.3", "v3.6.16", "v2.2.1")
	r.versioned(t, "kubernetes: v1.36.3", "etcd: v3.6.16")
	r.inSync(t)
}
