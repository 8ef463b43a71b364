package ops

import (
	"strings"
	"testing"

	"hactl/etcd"
	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// A running cluster keeps its versions: what the inventory does not name follows
// them, and other ones are refused.
func TestUpKeepsTheVersionsOfARunningCluster(t *testing.T) {
	t.Parallel()
	old := facts.Versions{Kubernetes: "v1.35.4", Etcd: "v3.6.14", Containerd: "v2.2.1"}
	newer := facts.Versions{Kubernetes: "v1.37.2", Etcd: "v3.7.3", Containerd: "v2.3.7"}
	for name, c := range map[string]struct {
		named    inventory.Versions
		fresh    bool // no master has had a quorum
		second   facts.Versions
		want     inventory.Versions
		programs map[string]string // of master-2
		refused  []string
	}{
		"none named":                     {second: old, want: inventory.Versions(old)},
		"the running ones named":         {named: inventory.Versions(old), second: old, want: inventory.Versions(old)},
		"another Kubernetes named":       {named: inventory.Versions{Kubernetes: "v1.36.3"}, second: old, refused: []string{"versions.kubernetes is v1.36.3", "v1.35.4", "master-1, master-2"}},
		"another etcd named":             {named: inventory.Versions{Kubernetes: "v1.35.4", Etcd: "v3.6.16"}, second: old, refused: []string{"versions.etcd is v3.6.16", "v3.6.14"}},
		"hosts of two versions":          {second: newer, refused: []string{"versions.kubernetes", "v1.35.4 (master-1)", "v1.37.2 (master-2)"}},
		"an upgrade that was cut":        {second: old, programs: map[string]string{"kubelet": "v1.35.4", "etcd": "v3.6.16"}, refused: []string{"versions.etcd", "v3.6.14 (master-1, master-2)", "v3.6.16 (master-2)"}},
		"a host that joins has none":     {second: facts.Versions{}, want: inventory.Versions(old)},
		"a new cluster gets the default": {fresh: true, second: old, want: inventory.Versions{Kubernetes: "v1.36.3"}},
	} {
		inv := inventorytest.Three(t)
		inv.NamedVersions, inv.Versions = c.named, c.named
		if inv.Versions.Kubernetes == "" {
			inv.Versions.Kubernetes = "v1.36.3" // the default
		}
		s := &session{inv: inv, disks: map[string]etcd.Disk{"master-1": {Data: true, Established: "demo-1"}}, facts: map[string]*facts.Brief{
			"master-1": {KubeletCA: "CA", Record: facts.Record{Versions: old}},
			"master-2": {KubeletCA: "CA", Record: facts.Record{Versions: c.second}, Programs: c.programs},
			"master-3": {Record: facts.Record{Versions: newer}}, // no node yet
		}}
		if c.fresh {
			s.disks = nil
		}
		err := s.keepVersions()
		if len(c.refused) > 0 {
			if err == nil || exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(remote.HintOf(err), inv.Path) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, w := range c.refused {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %q does not say %q", name, err, w)
				}
			}
			continue
		}
		if c.want.Etcd == "" { // not part of the case
			inv.Versions.Etcd, inv.Versions.Containerd = "", ""
		}
		if err != nil || inv.Versions != c.want {
			t.Errorf("%s: %+v, want %+v: %v", name, inv.Versions, c.want, err)
		}
	}
}
