package ops

import (
	"strings"
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// One step at a time, and back only where the data allows it.
func TestWayOfAPart(t *testing.T) {
	t.Parallel()
	const k, e, c = "versions.kubernetes", "versions.etcd", "versions.containerd"
	for _, x := range []struct {
		field, from, to string
		abort, risen    bool
		why             string // part of the reason; "": it may go
	}{
		{k, "v1.36.1", "v1.36.3", false, false, ""},
		{k, "v1.36.3", "v1.36.1", false, false, ""},
		{k, "v1.36.3", "v1.37.2", false, false, ""},
		{k, "v1.35.4", "v1.37.2", false, false, "set versions.kubernetes to v1.36.3 first"},
		{k, "v1.33.1", "v1.37.2", false, false, "go to v1.34 first"},
		{k, "v1.37.2", "v1.36.3", true, false, "the way back is a snapshot"},
		{k, "v2.0.0", "v1.37.2", false, false, "major"},
		{e, "v3.6.14", "v3.6.16", false, false, ""},
		{e, "v3.6.11", "v3.7.3", false, false, ""},
		{e, "v3.6.10", "v3.7.3", false, false, "v3.6.11 or later"},
		{e, "v3.5.9", "v3.7.3", false, false, "a minor is skipped"},
		{e, "v3.7.3", "v3.6.16", true, false, ""},
		{e, "v3.7.3", "v3.6.16", true, true, "the way back is a snapshot"},
		{c, "v2.2.1", "v2.4.2", false, false, ""},
		{c, "v2.3.7", "v2.2.9", false, false, "older minor"},
		{c, "v2.3.7", "v2.2.9", true, false, ""},
		{c, "v1.7.2", "v2.2.9", false, false, "major"},
	} {
		errs := wayTo(x.field, x.to, map[string][]string{x.from: {"master-1", "worker-1"}}, x.abort, x.risen)
		switch {
		case x.why == "" && len(errs) > 0:
			t.Errorf("%s %s to %s: %v", x.field, x.from, x.to, errs)
		case x.why != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), x.why) || !strings.Contains(errs[0].Error(), "(master-1, worker-1)")):
			t.Errorf("%s %s to %s: %v, want %s", x.field, x.from, x.to, errs, x.why)
		}
	}
	both := wayTo(k, "v1.37.2", map[string][]string{"v1.34.1": {"a"}, "v1.35.4": {"b"}, "v1.36.3": {"c"}}, false, false)
	if len(both) != 2 {
		t.Errorf("every obstacle is named: %v", both)
	}
}

// A named Kubernetes takes its set along; newer parts of the same set stay.
func TestTargetOfAnUpgrade(t *testing.T) {
	t.Parallel()
	type v = inventory.Versions
	for name, c := range map[string]struct {
		named   v
		loaded  v // of the inventory, as it was loaded
		run     facts.Versions
		second  facts.Versions // of master-2; the same where it is zero
		abort   bool
		want    v
		refused string
	}{
		"a minor takes etcd and containerd along": {
			named: v{Kubernetes: "v1.37.2"}, loaded: v{Kubernetes: "v1.37.2", Etcd: "v3.7.3", Containerd: "v2.3.7"}, run: facts.Versions{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"},
			want: v{Kubernetes: "v1.37.2", Etcd: "v3.7.3", Containerd: "v2.3.7"},
		},
		"newer parts of the same set stay": {
			named: v{Kubernetes: "v1.36.3"}, loaded: v{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"}, run: facts.Versions{Kubernetes: "v1.35.4", Etcd: "v3.7.3", Containerd: "v2.2.9"},
			want: v{Kubernetes: "v1.36.3", Etcd: "v3.7.3", Containerd: "v2.2.9"},
		},
		"a named etcd counts": {
			named: v{Kubernetes: "v1.37.2", Etcd: "v3.6.16"}, loaded: v{Kubernetes: "v1.37.2", Etcd: "v3.6.16", Containerd: "v2.3.7"}, run: facts.Versions{Kubernetes: "v1.36.3", Etcd: "v3.6.14", Containerd: "v2.2.1"},
			want: v{Kubernetes: "v1.37.2", Etcd: "v3.6.16", Containerd: "v2.3.7"},
		},
		"nothing named stays": {
			loaded: v{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"}, run: facts.Versions{Kubernetes: "v1.35.4", Etcd: "v3.6.14", Containerd: "v2.2.9"},
			want: v{Kubernetes: "v1.35.4", Etcd: "v3.6.14", Containerd: "v2.2.9"},
		},
		"nothing named in the middle of an upgrade": {
			loaded: v{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"}, run: facts.Versions{Kubernetes: "v1.35.4", Etcd: "v3.6.14", Containerd: "v2.2.9"},
			second: facts.Versions{Kubernetes: "v1.36.3", Etcd: "v3.6.14", Containerd: "v2.2.9"}, refused: "an upgrade was interrupted",
		},
		"an abort walks to what is recorded": {
			named: v{Kubernetes: "v1.37.2"}, loaded: v{Kubernetes: "v1.37.2", Etcd: "v3.7.3", Containerd: "v2.3.7"}, run: facts.Versions{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"}, abort: true,
			want: v{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"},
		},
		"an abort of what is nearly through": {
			named: v{Kubernetes: "v1.37.2"}, loaded: v{Kubernetes: "v1.37.2", Etcd: "v3.7.3", Containerd: "v2.3.7"}, run: facts.Versions{Kubernetes: "v1.36.3", Etcd: "v3.6.16", Containerd: "v2.2.1"}, abort: true,
			second: facts.Versions{Kubernetes: "v1.37.2", Etcd: "v3.6.16", Containerd: "v2.2.1"}, refused: "nearly through",
		},
	} {
		inv := inventorytest.Three(t)
		inv.NamedVersions, inv.Versions = c.named, c.loaded
		if c.second == (facts.Versions{}) {
			c.second = c.run
		}
		s := &session{inv: inv, facts: map[string]*facts.Brief{
			"master-1": {KubeletCA: "CA", Record: facts.Record{Versions: c.run}, Programs: map[string]string{"kubelet": c.run.Kubernetes}},
			"master-2": {KubeletCA: "CA", Record: facts.Record{Versions: c.second}},
			"master-3": {KubeletCA: "CA", Record: facts.Record{Versions: c.run}},
		}}
		err := s.chooseVersions(c.abort)
		if c.refused != "" {
			if err == nil || exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(err.Error(), c.refused) || remote.HintOf(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || inv.Versions != c.want {
			t.Errorf("%s: %+v, want %+v: %v", name, inv.Versions, c.want, err)
		}
	}
}

func TestRoomIsThatOfTheFullestDisk(t *testing.T) {
	t.Parallel()
	out := "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 41000000 1 30000000 1% /\n/dev/vdb1 1000 1 999 1% /var/lib/containerd\n"
	if least, where := leastFree(out); least != 999<<10 || where != "/var/lib/containerd" {
		t.Errorf("%d at %s", least, where)
	}
}
