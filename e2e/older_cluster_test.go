//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/drill"
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

// olderCluster is a cluster of three masters and a worker that an older hactl brought up,
// which this one goes on with. before is what its hosts were made of before that.
func olderCluster(t *testing.T) (r *rig, before map[string][]string, members []memberStart) {
	t.Helper()
	older := olderHactl(t)
	r = newRig(t, lab.Config{Name: nextName("older"), Masters: 3, Workers: 1})
	before = map[string][]string{}
	for _, h := range r.everyHost() {
		before[h] = r.image(t, h)
	}
	ours := r.bin
	r.bin = older
	r.inventory(t, "inventory.yaml", func(s string) string {
		s = strings.NewReplacer("apiVersion: hactl/v1\n", "", "kind: Cluster\n", "").Replace(s)
		return regexp.MustCompile(`(?m)^  kubelet:\n    .*\n`).ReplaceAllString(s, "") // it knows no such field
	})
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 4)
	members = r.etcdStarts(t)
	r.bin = ours
	return r, before, members
}

// TestOlderClusterIsUpgradedAndReset takes a cluster of an older hactl over, upgrades it by
// a patch, and resets every host: each is as it was before the older hactl.
func TestOlderClusterIsUpgradedAndReset(t *testing.T) {
	inTurn(t)
	r, before, _ := olderCluster(t)
	r.must(t, 0, "up", "--yes")
	r.converges(t, 4)
	then(t, "its certificates are renewed, and a snapshot of it is restored", func(t *testing.T) {
		took(t, "certs renew --all of a cluster that was taken over", r.measured(t, "certs", "renew", "--all").took)
		r.must(t, 0, "certs")
		r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
		file := r.saved(t)
		r.kubectlDoes(t, "delete", "configmap", "kept")
		r.restores(t, "restore of a cluster that was taken over", file)
		if got := r.objects(t); !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
		r.nodesReady(t, 4)
	})
	then(t, "every host gets a newer patch", func(t *testing.T) {
		newer := otherPatch(t, +1)
		dir := t.TempDir()
		stamped(t, dir, newer)
		r.withBundle(t, dir, newer)
		took(t, "upgrade of a cluster that was taken over", r.measured(t, "upgrade").took)
		r.nodesReady(t, 4)
		r.runsOnly(t, newer, "v3.6.16", "v2.2.1")
		r.inSync(t)
	})
	then(t, "every host is as it was, but for what no record tells", func(t *testing.T) {
		took(t, "reset of four hosts that were taken over", r.must(t, 0, "reset", "--all", "--packages", "--cluster", r.Name()).took)
		for _, h := range r.everyHost() {
			d := slices.DeleteFunc(imageDiffers(before[h], r.image(t, h)), unrecorded.MatchString)
			if len(d) > 0 {
				t.Errorf("%s differs in %d lines:\n%s", h, len(d), strings.Join(d, "\n"))
			}
		}
	})
}

// unrecorded is what an older hactl changed without a note of what was there before, so
// that no reset can give it back: etcd's user and folder, whether the host forwards and
// keepalived starts with it, the tables that iptables makes when it is asked. kubectl keeps
// what it read in the home folder of root.
var unrecorded = regexp.MustCompile(`^[-+] (file /etc/g?(passwd|shadow|group) |file /etc/gshadow |(user|group) etcd:|folder /var/lib/(etcd|containerd) |forwards |` +
	`link /etc/rc[0-9].d/[SK]01keepalived |link /etc/systemd/system/multi-user.target.wants/keepalived.service |unit file keepalived.service |` +
	`nft (table ip6? (filter|mangle|nat) |\s+(chain|type filter|\})|\}|$)|(file|folder) /root/.kube)`)

// TestClusterOfAnOlderHactlIsTakenOver brings a cluster up with a hactl that knows no
// identity, and goes on with this one.
func TestClusterOfAnOlderHactlIsTakenOver(t *testing.T) {
	inTurn(t)
	r, _, members := olderCluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")

	then(t, "the plan names what changes and nothing else", func(t *testing.T) {
		allowed := []string{
			"/record", "/signing-cert", "/signing-key", "/kubelet-unit", "/kubelet", "/config", "/manifests", // what belongs to this change
			"/prober", "/prober-unit", "/prober-service", // the newer helper
			"/links", "/containerd-config", "/containerd-unit", "/containerd", "/probe", "/unit", "/service", // programs at paths of their own
		}
		for id, i := range r.pending(t) {
			// hactl-network is in the place of a unit that ran once.
			older := strings.Contains(id, "/older-network")
			ok := i.Op != "delete" || older
			known := strings.Contains(id, "/binary-") || strings.Contains(id, "/network") || older
			for _, a := range allowed {
				known = known || strings.HasSuffix(id, a)
			}
			if !ok || !known {
				t.Errorf("%s: %s %s", id, i.Op, i.Summary)
			}
		}
	})
	then(t, "up takes it over, one member of etcd after another", func(t *testing.T) {
		before := r.received(t, "master-1")
		took(t, "up over a cluster of an older hactl", r.must(t, 0, "up", "--yes").took)
		record(t, "bytes sent to a master that is taken over", "B", float64(r.received(t, "master-1")-before))
		r.converges(t, 4)
		r.inSync(t)
		now := r.etcdStarts(t)
		for i := range now {
			if now[i].start == members[i].start {
				t.Errorf("master-%d: its member was not restarted", i+1)
			}
			if i > 0 && now[i].start < now[i-1].ready {
				t.Errorf("master-%d: its member started at %d, before that of master-%d was ready at %d", i+1, now[i].start, i, now[i-1].ready)
			}
		}
	})
	then(t, "every unit starts a program at a path of its own, and people's names lead there", func(t *testing.T) {
		for _, h := range []string{"master-1", "worker-1"} {
			got := labOutput(t, r.Lab, h, `for u in containerd kubelet etcd hactl-prober; do p=$(systemctl show -p MainPID --value $u.service); [ "$p" = 0 ] || readlink /proc/$p/exe; done
for n in /usr/bin/kubelet /usr/bin/kubeadm /usr/local/bin/containerd /usr/local/bin/ctr; do readlink $n; done`)
			for line := range strings.Lines(got) {
				if !strings.HasPrefix(line, "/opt/hactl/") || strings.Contains(line, "(deleted)") {
					t.Errorf("%s: %s", h, line)
				}
			}
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

// TestTakeOverKilledAgainAndAgainIsCompleted kills runs that take a cluster of an older
// hactl over, while objects are written through the VIP: no write is lost.
func TestTakeOverKilledAgainAndAgainIsCompleted(t *testing.T) {
	inTurn(t)
	r, _, _ := olderCluster(t)
	over := r.Path("over")
	writes := r.start(t, nil, "measure", "-o", "json", "--", "sh", "-c", "echo the writes have begun >&2; while [ ! -e "+over+" ]; do sleep 1; done")
	eventually(t, "the writes have begun", func() error {
		if said := readText(t, writes.err); !strings.Contains(said, "the writes have begun") {
			return errors.New(tail(said))
		}
		return nil
	})
	r.killed(t, 10, 12*time.Second, "up", "--yes")
	took(t, "up over a cluster of an older hactl, after kills", r.must(t, 0, "up", "--yes").took)
	r.converges(t, 4)
	if err := os.WriteFile(over, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	res := writes.wait(t)
	var m drill.Measurement
	if err := json.Unmarshal([]byte(res.out), &m); err != nil || res.code != 0 {
		t.Fatalf("no measurement (%v): %s", err, res)
	}
	lostNothing(t, "taking over, killed ten times", m)
}

// memberStart is when a member's process began and when it was ready, in
// microseconds of the kernel's clock, which all hosts of a lab share.
type memberStart struct{ start, ready int64 }

// etcdStarts is when the members' processes began, by master.
func (r *rig) etcdStarts(t *testing.T) []memberStart {
	t.Helper()
	var all []memberStart
	for _, m := range []string{"master-1", "master-2", "master-3"} {
		var s memberStart
		out := labOutput(t, r.Lab, m, "systemctl show -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic etcd.service")
		if n, err := fmt.Sscanf(strings.ReplaceAll(out, "\n", " "), "ExecMainStartTimestampMonotonic=%d ActiveEnterTimestampMonotonic=%d", &s.start, &s.ready); n != 2 {
			t.Fatalf("%s: %q: %v", m, out, err)
		}
		all = append(all, s)
	}
	return all
}
