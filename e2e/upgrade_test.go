//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
	"hactl/internal/versions"
)

// versioned writes an inventory that names these versions: "kubernetes: v1.36.3".
func (r *rig) versioned(t *testing.T, versions ...string) {
	t.Helper()
	r.inventory(t, "inventory.yaml", func(s string) string {
		return s + "versions:\n  " + strings.Join(versions, "\n  ") + "\n"
	})
}

// withBundle writes an inventory that names this version of Kubernetes and the folder of
// its bundle.
func (r *rig) withBundle(t *testing.T, dir, kubernetes string) {
	t.Helper()
	r.inventory(t, "inventory.yaml", func(s string) string { return bundled(s, dir, kubernetes) })
}

func bundled(inventory, dir, kubernetes string) string {
	return strings.Replace(inventory, "artifacts:\n", "artifacts:\n  bundle: "+dir+"\n", 1) + "versions:\n  kubernetes: " + kubernetes + "\n"
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
	if got := r.kubectlSays(t, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"); strings.TrimSpace(strings.ReplaceAll(got, kubernetes, "")) != "" || got == "" {
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

// TestPatchUpgradeThenAWorkerLeaves is the way of a cluster in the core: it comes up with an
// older patch, is upgraded, and a worker is removed and reset. The older patch is the
// default one under another name, so that nothing else has to be built.
func TestPatchUpgradeThenAWorkerLeaves(t *testing.T) {
	inTurn(t)
	older := otherPatch(t, -1)
	dir := t.TempDir()
	stamped(t, dir, older)
	r := newRig(t, lab.Config{Name: nextName("patch"), Masters: 3, Workers: 1})
	before := r.image(t, "worker-1")
	r.withBundle(t, dir, older)
	took(t, "up of the older patch", r.must(t, 0, "up", "--yes").took)
	r.nodesReady(t, 4)
	r.runsOnly(t, older, "v3.6.16", "v2.2.1")
	then(t, "every host gets the newer patch", func(t *testing.T) {
		r.upgradesTo(t, "upgrade of a patch", "kubernetes: "+versions.Default)
		r.runsOnly(t, versions.Default, "v3.6.16", "v2.2.1")
	})
	then(t, "a worker leaves, and is as it was before", func(t *testing.T) {
		r.must(t, 7, "reset", "worker-1", "--yes")
		took(t, "removal of a worker", r.measured(t, "remove", "worker-1").took)
		r.nodesReady(t, 3)
		took(t, "reset of a worker", r.must(t, 0, "reset", "worker-1", "--yes", "--packages").took)
		if d := imageDiffers(before, r.image(t, "worker-1")); len(d) > 0 {
			t.Errorf("worker-1 differs in %d lines:\n%s", len(d), strings.Join(d, "\n"))
		}
		r.forgets(t, "worker-1")
		r.inSync(t)
	})
}

// TestUpgradeOfAPatch is the usual upgrade: a patch of Kubernetes.
func TestUpgradeOfAPatch(t *testing.T) {
	inTurn(t)
	r := olderRig(t, "kubernetes: v1.36.1")
	r.upgradesTo(t, "upgrade of a patch", "kubernetes: v1.36.3")
	r.runsOnly(t, "v1.36.3", "v3.6.16", "v2.2.1")
}

// TestUpgradeOfOneMasterAndWorkersInBatches upgrades a cluster whose API is down meanwhile,
// and three workers, two at a time, in two runs.
func TestUpgradeOfOneMasterAndWorkersInBatches(t *testing.T) {
	inTurn(t)
	newer := otherPatch(t, +1)
	dir := t.TempDir()
	stamped(t, dir, newer)
	r := newRig(t, lab.Config{Name: nextName("batch"), Masters: 1, Workers: 3})
	took(t, "up of one master and three workers", r.must(t, 0, "up", "--yes").took)
	r.nodesReady(t, 4)
	r.withBundle(t, dir, newer)
	if res := r.must(t, 7, "upgrade", "--yes"); !strings.Contains(res.err, "--accept-downtime") {
		t.Errorf("%s", res)
	}
	args := []string{"upgrade", "--yes", "--accept-downtime", "--batch", "2", "--soak", "3s"}
	then(t, "it stops after the first turn", func(t *testing.T) {
		r.must(t, 0, append(args, "--stop-after", "1")...)
		r.must(t, 2, "upgrade", "--dry-run", "--accept-downtime")
	})
	then(t, "the next run completes it", func(t *testing.T) {
		res := r.must(t, 0, args...)
		took(t, "upgrade of one master and three workers, in batches of two", res.took)
		if !strings.Contains(res.err+res.out, "soaking for 3s after worker-1, worker-2") {
			t.Errorf("no batch of two workers: %s", res)
		}
		r.nodesReady(t, 4)
		r.runsOnly(t, newer, "v3.6.16", "v2.2.1")
		r.inSync(t)
	})
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

// TestUpgradeOfFiveMastersStopsAtAPowerCut upgrades five masters that have IPv6 addresses
// only, as a user with sudo and through a bastion. When another master than the one at work
// loses power, no further one is begun; the next run completes it. In the end all are reset.
func TestUpgradeOfFiveMastersStopsAtAPowerCut(t *testing.T) {
	inTurn(t)
	newer := otherPatch(t, +1)
	dir := t.TempDir()
	stamped(t, dir, newer)
	r := newRig(t, lab.Config{Name: nextName("five"), Masters: 5, IPv6: true, Bastion: true})
	masters := r.names(lab.Master)
	before := map[string][]string{}
	for _, m := range masters {
		before[m] = r.image(t, m)
	}
	asOps := func(s string) string { return strings.Replace(s, "  user: root\n", "  user: ops\n", 1) }
	r.inventory(t, "inventory-bastion.yaml", asOps)
	took(t, "up of five masters through a bastion", r.must(t, 0, "up", "--yes").took)
	r.nodesReady(t, 5)
	r.inventory(t, "inventory-bastion.yaml", func(s string) string { return bundled(asOps(s), dir, newer) })
	upgraded := func() (new, old []string) {
		for _, m := range masters {
			if out, err := r.Output(t.Context(), m, "ctr -n k8s.io containers ls | grep -c kube-apiserver:"+newer); err == nil && strings.TrimSpace(out) != "0" {
				new = append(new, m)
			} else {
				old = append(old, m)
			}
		}
		return new, old
	}
	then(t, "another master loses power: no further one is begun", func(t *testing.T) {
		x := r.start(t, nil, "upgrade", "--yes")
		var lost string
		eventually(t, "a first apiserver of the newer version", func() error {
			new, old := upgraded()
			if len(new) == 0 {
				return errors.New("none yet")
			}
			lost = old[len(old)-1]
			return nil
		})
		labInject(t, r.Lab, lab.Off, lost)
		res := x.wait(t)
		if res.code == 0 || !strings.Contains(res.err, "hint: ") {
			t.Errorf("%s is without power: %s", lost, res)
		}
		if new, _ := upgraded(); len(new) > 2 {
			t.Errorf("%s went on with %s after %s had lost power", "upgrade", new, lost)
		}
		labInject(t, r.Lab, lab.Boot, lost)
		r.nodesReady(t, 5)
	})
	then(t, "the next run completes it", func(t *testing.T) {
		took(t, "upgrade of five masters that goes on", r.measured(t, "upgrade").took)
		r.runsOnly(t, newer, "v3.6.16", "v2.2.1")
		r.inSync(t)
	})
	then(t, "every host is as it was", func(t *testing.T) {
		took(t, "reset of five masters", r.must(t, 0, "reset", "--all", "--packages", "--cluster", r.Name()).took)
		for _, m := range masters {
			if d := imageDiffers(before[m], r.image(t, m)); len(d) > 0 {
				t.Errorf("%s differs in %d lines:\n%s", m, len(d), strings.Join(d, "\n"))
			}
		}
	})
}
