//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// olderCommit is the last one before clusters had an identity of their own.
const olderCommit = "271b1b3"

// olderHactl builds that hactl from the history of this repository.
func olderHactl(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "older")
	git := func(args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
	}
	if out, err := git("cat-file", "-e", olderCommit+"^{commit}"); err != nil {
		t.Skipf("the history does not reach back to %s: %s", olderCommit, out)
	}
	if out, err := git("worktree", "add", "--detach", dir, olderCommit); err != nil {
		t.Fatalf("check out %s: %v: %s", olderCommit, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("git", "worktree", "remove", "--force", dir).CombinedOutput(); err != nil { //nolint:noctx // after the test
			t.Errorf("remove the worktree: %v: %s", err, out)
		}
	})
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", "bin/", "./cmd/hactl", "./cmd/hactl-prober")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", olderCommit, err, out)
	}
	return filepath.Join(dir, "bin", "hactl")
}

// TestClusterOfAnOlderHactlIsTakenOver brings a cluster up with a hactl that knows no
// identity, and goes on with this one.
func TestClusterOfAnOlderHactlIsTakenOver(t *testing.T) {
	inTurn(t)
	older := olderHactl(t)
	r := newRig(t, lab.Config{Name: nextName("older"), Masters: 3, Workers: 1})
	ours := r.bin
	r.bin = older
	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.NewReplacer("apiVersion: hactl/v1\n", "", "kind: Cluster\n", "").Replace(s)
	})
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	members := r.etcdStarts(t)
	r.bin = ours

	then(t, "the plan names what changes and nothing else", func(t *testing.T) {
		allowed := []string{
			"/record", "/signing-cert", "/signing-key", "/kubelet-unit", "/kubelet", "/config", "/manifests", // what belongs to this change
			"/prober", "/prober-unit", "/prober-service", // the newer helper
		}
		for id, i := range r.pending(t) {
			ok := i.Op != "delete"
			known := false
			for _, a := range allowed {
				known = known || strings.HasSuffix(id, a)
			}
			if !ok || !known {
				t.Errorf("%s: %s %s", id, i.Op, i.Summary)
			}
		}
	})
	then(t, "up takes it over, and no member of etcd restarts", func(t *testing.T) {
		took(t, "up over a cluster of an older hactl", r.must(t, 0, "up", "--yes").took)
		r.converges(t, 4)
		r.inSync(t)
		if now := r.etcdStarts(t); now != members {
			t.Errorf("members started %s before and %s after", members, now)
		}
	})
	r.kubectlDoes(t, "get", "configmap", "kept")
	then(t, "its versions stay", func(t *testing.T) {
		r.inventory(t, "inventory.yaml", func(s string) string { return s + "versions: {etcd: v3.6.14}\n" })
		if res := r.must(t, 7, "plan"); !strings.Contains(res.err, "versions.etcd is v3.6.14 in the inventory") {
			t.Errorf("%s", res)
		}
		r.reset()
		r.inSync(t)
	})
	then(t, "a node keeps its name whatever the host's name is", func(t *testing.T) {
		labOutput(t, r.Lab, "worker-1", "printf w.corp.example >/proc/sys/kernel/hostname; systemctl restart kubelet")
		r.nodesReady(t, 4)
		r.converges(t, 4)
	})
	then(t, "no empty cluster is made over it", func(t *testing.T) {
		masters := []string{"master-1", "master-2", "master-3"}
		for _, m := range masters {
			labInject(t, r.Lab, lab.Replace, m)
			r.must(t, 0, "trust", "--yes", m)
		}
		for _, verb := range [][]string{{"plan"}, {"up", "--yes"}} {
			if res := r.must(t, 7, verb...); !strings.Contains(res.err, "an empty cluster would take its place") || !strings.Contains(res.err, "hint: ") {
				t.Errorf("%s", res)
			}
		}
	})
	then(t, "its worker is not taken into another cluster", func(t *testing.T) {
		store := r.Path("pki-" + r.Name())
		if err := os.Rename(store, store+".old"); err != nil {
			t.Fatal(err)
		}
		if res := r.must(t, 7, "up", "--yes"); !strings.Contains(res.err, "worker-1 belongs to another cluster") {
			t.Errorf("%s", res)
		}
	})
}

// etcdStarts is when the members' processes began, on all masters.
func (r *rig) etcdStarts(t *testing.T) string {
	t.Helper()
	all := ""
	for _, m := range []string{"master-1", "master-2", "master-3"} {
		all += strings.TrimSpace(labOutput(t, r.Lab, m, "systemctl show -p MainPID -p ExecMainStartTimestampMonotonic --value etcd.service | tr '\\n' ' '")) + "; "
	}
	return all
}
