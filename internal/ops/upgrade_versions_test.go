package ops

import (
	"strconv"
	"strings"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/plan"
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
	inv := inventorytest.One(t)
	name := inv.Hosts[0].Name
	says := func(free string) []error {
		h := remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
			return &remote.Result{Stdout: []byte("Avail Mounted on\n40000000000 /\n" + free + " /var/lib/containerd\n40000000000 /\n")}, nil
		})
		c := &cluster{session: &session{inv: inv, hosts: plan.Hosts{name: h}}, bundle: &bundle.Bundle{}}
		c.bundle.Artifacts = []bundle.Artifact{{Name: "pause", Kind: bundle.Image, Size: 100 << 20}, {Name: "etcd", Kind: bundle.Image, Size: 1 << 40}}
		it := &plan.Item{Step: &plan.Step{ID: "host/master-1/images", Host: name}, Change: &plan.Change{Acts: []string{"import pause"}}}
		return c.room(t.Context(), &plan.Plan{Stages: []plan.StagePlan{{Items: []*plan.Item{it}}}})
	}
	if errs := says(strconv.Itoa(800 << 20)); len(errs) != 0 {
		t.Errorf("as much as it takes: %v", errs)
	}
	if errs := says(strconv.Itoa(799 << 20)); len(errs) != 1 || errs[0].Error() != name+": 799 MB are free at /var/lib/containerd, and programs and images take up to 800" {
		t.Errorf("less: %v", errs)
	}
	if errs := says("-"); len(errs) != 1 || !strings.Contains(errs[0].Error(), "unreadable") {
		t.Errorf("not known: %v", errs)
	}
}
