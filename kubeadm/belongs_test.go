package kubeadm

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"hactl/internal/facts"
	"hactl/internal/goldentest"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
	"hactl/pki/pkitest"
)

func TestHostsOfAnotherClusterAreRefused(t *testing.T) {
	t.Parallel()
	inv := inventorytest.Load(t, inventorytest.Text(3, 2, false))
	m, other := pkitest.Material(t, inv), pkitest.Material(t, inv)
	ours := &facts.Brief{KubeletCA: string(m.KubernetesCA.CertPEM)}
	for name, c := range map[string]struct {
		worker *facts.Brief
		want   string // in the error
		joined bool
	}{
		"bare":                            {&facts.Brief{}, "", false},
		"joined":                          {ours, "", true},
		"joined, and recorded":            {&facts.Brief{KubeletCA: ours.KubeletCA, Record: facts.Record{Cluster: m.Identity.ID}}, "", true},
		"trusts two authorities":          {&facts.Brief{KubeletCA: string(other.KubernetesCA.CertPEM) + ours.KubeletCA}, "", true},
		"of another cluster":              {&facts.Brief{KubeletCA: string(other.KubernetesCA.CertPEM)}, "its kubelet trusts a CA that the store does not have", false},
		"recorded for another cluster":    {&facts.Brief{Record: facts.Record{Cluster: "prod-99"}}, `names "prod-99"`, false},
		"with a CA that cannot be read":   {&facts.Brief{KubeletCA: "nonsense"}, "cannot be read", false},
		"not asked, since it was skipped": {nil, "", false},
	} {
		all := map[string]*facts.Brief{"master-1": ours, "worker-2": ours}
		if c.worker != nil {
			all["worker-1"] = c.worker
		}
		joined, err := Belongs(inv, all, m)
		if slices.Contains(joined, "worker-1") != c.joined || !slices.Contains(joined, "worker-2") || slices.Contains(joined, "master-1") {
			t.Errorf("%s: joined %q", name, joined)
		}
		var refused *OtherClusterError
		switch {
		case c.want == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.As(err, &refused) || refused.Host != "worker-1" || refused.ExitCode() != 7 || !strings.Contains(err.Error(), c.want) || remote.HintOf(err) == "":
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPodSubnetBelongsToTheHost(t *testing.T) {
	t.Parallel()
	inv := inventorytest.Load(t, inventorytest.Text(1, 2, false))
	prefix := netip.MustParsePrefix
	recorded := func(p string) *facts.Brief { return &facts.Brief{Record: facts.Record{PodSubnet: prefix(p)}} }
	pool := inv.Network.PodSubnet.Addr().As4()
	sub := func(n byte) string {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{pool[0], pool[1], n, 0}), 24).String()
	}
	seen := &SeenSubnets{own: map[string]netip.Prefix{"worker-1": prefix(sub(7))}}
	got, err := seen.Assign(inv, map[string]*facts.Brief{"master-1": recorded(sub(9)), "worker-1": {}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"master-1": sub(9), "worker-1": sub(7), "worker-2": sub(0)}
	for name, w := range want {
		if got[name].String() != w {
			t.Errorf("%s has %s, want %s", name, got[name], w)
		}
	}
}

// One worker leaves the inventory and another comes, in one edit, while the old machine
// still runs: the newcomer must not get its pod subnet.
func TestPodSubnetStaysTakenWhileItsNodeExists(t *testing.T) {
	t.Parallel()
	inv := inventorytest.Load(t, inventorytest.Text(1, 1, false))
	prefix, old := netip.MustParsePrefix, netip.MustParseAddr("192.0.2.99")
	gone := map[string]Node{"worker-9": {Name: "worker-9", Address: "192.0.2.98"}}
	for name, c := range map[string]struct {
		nodes   map[string]Node
		removed []string
		own     string // the subnet of the master
		want    string // of the newcomer
		routes  int
	}{
		"its node is there":            {map[string]Node{"old": {Name: "old", Address: "192.0.2.99"}}, nil, "10.244.0.0/24", "10.244.2.0/24", 1},
		"its node is gone":             {gone, nil, "10.244.0.0/24", "10.244.1.0/24", 0},
		"no apiserver answers":         {nil, nil, "10.244.0.0/24", "10.244.2.0/24", 1},
		"it is being removed":          {map[string]Node{"old": {Name: "old", Address: "192.0.2.99"}}, []string{"old"}, "10.244.0.0/24", "10.244.1.0/24", 0},
		"a host has it, who had moved": {map[string]Node{"old": {Name: "old", Address: "192.0.2.99"}}, nil, "10.244.1.0/24", "10.244.0.0/24", 1},
	} {
		seen := &SeenSubnets{own: map[string]netip.Prefix{"master-1": prefix(c.own)}, routes: map[string]map[netip.Addr]netip.Prefix{"master-1": {old: prefix("10.244.1.0/24")}}}
		kept := seen.Reserve(inv, c.nodes, c.removed)
		got, err := seen.Assign(inv, map[string]*facts.Brief{})
		if err != nil || got["worker-1"].String() != c.want || len(kept) != c.routes {
			t.Errorf("%s: %v, kept %v, %v", name, got, kept, err)
		}
	}
}

// A link that takes smaller packets than Ethernet, such as a tunnel, or larger ones.
func TestPodsHaveTheMTUOfTheInterface(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, inventorytest.Three(t), true)
	h := &c.Inv.Hosts[0]
	for mtu, want := range map[int]string{1400: "\"mtu\": 1400,", 9000: "\"mtu\": 9000,", 1500: "", 0: ""} {
		c.Facts[h.Name].Interfaces = []facts.Interface{{Name: "eth0", MTU: mtu, Prefixes: []netip.Prefix{netip.PrefixFrom(h.PrivateAddress, 24)}}}
		steps, err := c.PodNetwork(h, map[string]netip.Prefix{h.Name: netip.MustParsePrefix("10.244.0.0/24")})
		if err != nil {
			t.Fatal(err)
		}
		conf := string(goldentest.Puts(t, steps)[conflist].Content)
		if !json.Valid([]byte(conf)) || strings.Contains(conf, "mtu") != (want != "") || !strings.Contains(conf, want) {
			t.Errorf("%d: %s", mtu, conf)
		}
	}
}
