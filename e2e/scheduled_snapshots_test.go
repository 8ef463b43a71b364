//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"hactl/internal/lab"
)

const etcdctlOnHost = `etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt --cert /etc/etcd/pki/server.crt --key /etc/etcd/pki/server.key `

// TestRehearsalReadsEveryObject rehearses a snapshot with an apiserver, and one with a
// value in it that no apiserver can decode. etcd alone does not notice that.
func TestRehearsalReadsEveryObject(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	const left = `ls /var/lib/hactl /tmp /var/tmp; systemctl list-units --all --plain --no-legend 'hactl-cage*'; grep -c cage /proc/self/mounts; pgrep -c -x etcd; pgrep -c -x kube-apiserver; ctr -n k8s.io leases ls -q | wc -l`
	then(t, "all are read, and nothing of that stays", func(t *testing.T) {
		before := labOutput(t, r.Lab, "master-3", left)
		s := r.snapshot(t, "good")
		res := r.must(t, 0, "snapshot", "rehearse", s, "--objects", "--on", "master-3")
		took(t, "snapshot rehearse --objects", res.took)
		if m := readText(t, strings.TrimSuffix(s, ".db")+".json"); !strings.Contains(m, `"node": 4`) || !strings.Contains(res.out, " objects of ") {
			t.Errorf("%s: %s", res, m)
		}
		if after := labOutput(t, r.Lab, "master-3", left); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
	then(t, "a damaged value is found", func(t *testing.T) {
		labOutput(t, r.Lab, "master-1", etcdctlOnHost+`put /registry/configmaps/default/damaged k8s-no 2>&1`)
		s := r.snapshot(t, "damaged")
		labOutput(t, r.Lab, "master-1", etcdctlOnHost+`del /registry/configmaps/default/damaged 2>&1`)
		r.must(t, 0, "snapshot", "rehearse", s)
		if res := r.must(t, 7, "snapshot", "rehearse", s, "--objects"); !strings.Contains(res.err, "configmaps: ") {
			t.Errorf("the kind is not named: %s", res)
		}
	})
	r.healthy(t)
	r.inSync(t)
}

// snapshot saves one into a folder of that name and returns its path.
func (r *rig) snapshot(t *testing.T, dir string) string {
	t.Helper()
	res := r.must(t, 0, "snapshot", "save", "--dir", r.Path(dir))
	return strings.TrimSpace(strings.SplitN(res.out, "\n", 2)[0])
}

// TestSnapshotsAreSavedOnASchedule has the masters save snapshots by themselves, until
// the schedule leaves the inventory.
func TestSnapshotsAreSavedOnASchedule(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	t.Cleanup(r.reset)
	schedule := func(every string) {
		r.inventory(t, "inventory.yaml", func(s string) string { return s + "\nbackup:\n  schedule: " + every + "\n  keep: 2\n" })
	}
	schedule("12h") // rarely due while this runs
	r.must(t, 0, "up", "--yes")
	r.inSync(t)
	if res := r.must(t, 0, "status"); !strings.Contains(res.out, "newest verified snapshot") {
		t.Errorf("%s", res)
	}
	masters := r.names(lab.Master)
	then(t, "the last two stay", func(t *testing.T) {
		for _, m := range masters {
			for range 3 {
				labOutput(t, r.Lab, m, `systemctl start hactl-snapshot.service && sleep 1.1`)
			}
			if n := labOutput(t, r.Lab, m, `ls /var/lib/hactl/snapshots/*.db | wc -l; systemctl is-active hactl-snapshot.timer`); n != "2\nactive" {
				t.Errorf("%s: %s", m, n)
			}
		}
		res := r.must(t, 0, "snapshot", "list", "--hosts")
		if n := strings.Count(res.out, ".db"); n != 2*len(masters) {
			t.Errorf("%d snapshots: %s", n, res)
		}
		r.must(t, 0, "snapshot", "fetch", "master-2", "--dir", r.Path("fetched"))
	})
	then(t, "one that is not in order is not kept", func(t *testing.T) {
		out := labOutput(t, r.Lab, "master-1", `mv /usr/local/bin/etcdutl /usr/local/bin/etcdutl.away; systemctl start hactl-snapshot.service; mv /usr/local/bin/etcdutl.away /usr/local/bin/etcdutl; ls -A /var/lib/hactl/snapshots | grep -c -e db -e part; cat /var/lib/hactl/snapshots/result.json`)
		if !strings.HasPrefix(out, "2\n") || !strings.Contains(out, `"state":"failed"`) {
			t.Errorf("%s", out)
		}
		r.must(t, 5, "status")
		labOutput(t, r.Lab, "master-1", `systemctl start hactl-snapshot.service`)
		r.must(t, 0, "status")
	})
	then(t, "old ones on all masters are reported", func(t *testing.T) {
		for i, m := range masters {
			labOutput(t, r.Lab, m, `touch -d '3 days ago' /var/lib/hactl/snapshots/*.db /etc/systemd/system/hactl-snapshot.timer`)
			code := 0
			if i == len(masters)-1 {
				code = 5
			}
			r.must(t, code, "status")
		}
		labOutput(t, r.Lab, "master-3", `systemctl start hactl-snapshot.service`)
		r.must(t, 0, "status")
	})
	then(t, "a timer that was stopped, or has another schedule, is drift", func(t *testing.T) {
		labOutput(t, r.Lab, "master-2", `systemctl stop hactl-snapshot.timer`)
		r.must(t, 2, "plan")
		r.must(t, 5, "status")
		r.must(t, 0, "up", "--yes")
		schedule("6h")
		r.must(t, 2, "plan")
		r.must(t, 0, "up", "--yes")
		r.inSync(t)
		if next := labOutput(t, r.Lab, "master-2", `systemctl show -p TimersCalendar hactl-snapshot.timer`); !strings.Contains(next, "/6") {
			t.Errorf("%s", next)
		}
	})
	then(t, "without a schedule the timer goes, and the snapshots stay", func(t *testing.T) {
		r.reset()
		r.must(t, 0, "up", "--yes")
		r.inSync(t)
		out := labOutput(t, r.Lab, "master-1", `systemctl show -p LoadState --value hactl-snapshot.timer; ls /etc/systemd/system | grep -c snapshot; ls /var/lib/hactl/snapshots/*.db | wc -l; rm -r /var/lib/hactl/snapshots`)
		if out != "not-found\n0\n2" {
			t.Errorf("%s", out)
		}
	})
	r.healthy(t)
}
