package etcd

import (
	"bytes"
	"strings"
	"testing"

	"hactl/internal/goldentest"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki/pkitest"
)

func planOf(t *testing.T, inv *inventory.Inventory) *Plan {
	t.Helper()
	return &Plan{Inv: inv, PKI: pkitest.Material(t, inv), Disks: map[string]Disk{}, Program: "/opt/hactl/etcd/v3.6.16-0123/etcd"}
}

func TestFilesOfAMember(t *testing.T) {
	for name, inv := range map[string]*inventory.Inventory{
		"one": inventorytest.One(t), "three": inventorytest.Three(t), "five": inventorytest.Five(t),
		"one-ipv6": inventorytest.Load(t, inventorytest.Text(1, 0, true)), "three-ipv6": inventorytest.ThreeIPv6(t), "five-ipv6": inventorytest.Load(t, inventorytest.Text(5, 0, true)),
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(t, inv)
			steps, err := p.Files(inv.Masters()[0])
			if err != nil {
				t.Fatal(err)
			}
			files := goldentest.Puts(t, steps)
			goldentest.Check(t, name, files, p.Token(), "TOKEN")
			goldentest.Units(t, map[string][]byte{"etcd.service": files["/etc/systemd/system/etcd.service"].Content})
		})
	}
}

func TestConfigIsNamedByUnitAndBinary(t *testing.T) {
	base := planOf(t, inventorytest.Three(t))
	config := func(change func(*Plan)) string {
		inv := *base.Inv
		p := *base
		p.Inv = &inv
		change(&p)
		unit, sum, err := p.unit(inv.Masters()[0])
		if err != nil || !bytes.Contains(unit, []byte("HACTL_CONFIG="+sum+"\n")) {
			t.Fatalf("%s, %v", unit, err)
		}
		return sum
	}
	was := config(func(*Plan) {})
	for name, c := range map[string]struct {
		change  func(*Plan)
		restart bool
	}{
		"nothing":    {func(*Plan) {}, false},
		"the VIP":    {func(p *Plan) { p.Inv.VIP.VirtualRouterID++ }, false},
		"the binary": {func(p *Plan) { p.Program = "/opt/hactl/etcd/v3.6.16-4567/etcd" }, true},
		"a timeout":  {func(p *Plan) { p.Inv.Etcd.ElectionTimeout *= 2 }, true},
		"more masters": {func(p *Plan) {
			p.Inv.Hosts = append(p.Inv.Hosts[:len(p.Inv.Hosts):len(p.Inv.Hosts)], inventory.Host{Name: "x", Role: inventory.ControlPlane})
		}, false},
		"where its data is": {func(p *Plan) { p.Inv.Etcd.DataDir = "/data" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := config(c.change) != was; got != c.restart {
				t.Errorf("restart: %t", got)
			}
		})
	}
}

func TestDiskAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want Disk
		bad  bool
	}{
		"bare":         {"end\n", Disk{}, false},
		"half made":    {"data\ninitial m1=https://192.0.2.11:2380\nend\n", Disk{Data: true, Initial: "m1=https://192.0.2.11:2380"}, false},
		"member":       {"data\ninitial x\nestablished demo-1\nend\n", Disk{Data: true, Initial: "x", Established: "demo-1"}, false},
		"cut short":    {"data\ninitial x\n", Disk{}, true},
		"nothing":      {"", Disk{}, true},
		"other words":  {"sh: not found\nend\n", Disk{}, false},
		"control text": {"established a\x1b[2Jb\nend\n", Disk{Established: "ab"}, false},
		"elsewhere":    {"elsewhere /old\nend\n", Disk{Elsewhere: "/old"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseDisk(c.out); got != c.want || (err != nil) != c.bad {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestValidateRefusesMembersOfOtherClusters(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	whole := p.initialCluster(p.Inv.Masters())
	for name, c := range map[string]struct {
		disk Disk
		want string
	}{
		"bare":                     {Disk{}, ""},
		"a bootstrap cut off":      {Disk{Data: true, Initial: whole}, ""},
		"ours":                     {Disk{Data: true, Initial: "anything", Established: p.Token()}, ""},
		"in another folder":        {Disk{Established: p.Token(), Elsewhere: "/old"}, "etcd/master-2: its member keeps its data in /old, the inventory says /var/lib/etcd"},
		"in both folders":          {Disk{Data: true, Established: p.Token(), Elsewhere: "/old"}, "keeps its data in /old"},
		"the only one, no data":    {Disk{Established: p.Token()}, "and no master holds its etcd data in /var/lib/etcd"},
		"another cluster":          {Disk{Data: true, Established: "other-1"}, `member of cluster "other-1"`},
		"a bootstrap of others":    {Disk{Data: true, Initial: "m9=https://192.0.2.99:2380"}, "bootstrap with other masters"},
		"data without its history": {Disk{Data: true}, "bootstrap with other masters"},
	} {
		t.Run(name, func(t *testing.T) {
			p.Disks = map[string]Disk{"master-2": c.disk}
			err := p.Validate()
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v", err)
			}
		})
	}
	p.Disks = map[string]Disk{"master-1": {Data: true, Established: p.Token()}, "master-2": {Established: p.Token()}}
	if err := p.Validate(); err != nil {
		t.Errorf("one that lost its disk: %v", err)
	}
}

func TestOnlyAMasterWithoutDataJoinsARunningCluster(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	m1, m3 := p.Inv.Masters()[0], p.Inv.Masters()[2]
	if p.Joins(m3) {
		t.Error("joins a cluster that never was")
	}
	p.Disks = map[string]Disk{"master-1": {Data: true, Established: p.Token()}}
	if p.Joins(m1) || !p.Joins(m3) {
		t.Error("the wrong one joins")
	}
}
