package preflight

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"hactl/internal/facts"
	"hactl/internal/others"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// bare is three masters and a worker as they come from the installer: every
// check passes.
func bare(t *testing.T) *Cluster {
	t.Helper()
	inv := inventorytest.ThreeWithWorkers(t, 1)
	c := &Cluster{
		Inv: inv, Hosts: plan.Hosts{}, Down: map[string]error{}, Facts: map[string]*facts.Facts{}, Arch: "amd64",
		Ask: func(*inventory.Host) others.Ask { return others.Ask{} },
		CAs: map[string]string{}, failed: map[string]error{}, probes: map[string]*probe{},
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		c.Hosts[h.Name] = remote.NewFake(h.Name, nil)
		c.Facts[h.Name] = factsOf(i, h)
		c.probes[h.Name] = probeOf(inv, h)
	}
	c.dials = c.wanted()
	for i := range c.dials {
		c.dials[i].Reach, c.dials[i].Took, c.dials[i].Loop = refused, 3*time.Millisecond, 2*time.Millisecond
	}
	return c
}

func factsOf(i int, h *inventory.Host) *facts.Facts {
	net := netip.PrefixFrom(h.PrivateAddress, 24)
	f := &facts.Facts{
		Hostname: "debian", MachineID: fmt.Sprintf("%032x", i+1), BootID: fmt.Sprintf("boot-%d", i), ProductUUID: fmt.Sprintf("uuid-%d", i),
		OS: "debian", OSVersion: "12", OSName: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0-30-amd64", Init: "systemd",
		CPUs: 2, MemoryBytes: 4 * gib,
		Brief: facts.Brief{Arch: "amd64", CgroupV2: true, CapBnd: 1<<41 - 1, PkgManager: "apt", Interfaces: []facts.Interface{
			{Name: "lo", Up: true, MTU: 65536, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
			{Name: "eth0", Up: true, MTU: 1500, MAC: fmt.Sprintf("02:00:00:00:00:%02x", i+1), Prefixes: []netip.Prefix{net}},
		}},
		Routes: []facts.Route{
			{Dest: netip.MustParsePrefix("0.0.0.0/0"), Interface: "eth0"},
			{Dest: net.Masked(), Interface: "eth0", Kernel: true},
		},
		ResolvConf: true, Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Proxies: map[string]string{},
		Listening: []facts.Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:22"), PID: 300, Process: "sshd"}},
		Processes: []string{"chronyd", "sshd", "systemd"}, TimeSync: "chronyd",
		Modules: map[string]facts.ModuleState{"overlay": facts.Loaded, "br_netfilter": facts.Loadable, "nf_conntrack": facts.Loadable,
			"bridge": facts.Loadable, "veth": facts.Loadable, "nf_tables": facts.BuiltIn, "vxlan": facts.Loadable},
		Sysctls: map[string]facts.Sysctl{"net.ipv4.ip_forward": {Value: "0", Writable: true}, "fs.inotify.max_user_instances": {Value: "128", Writable: true}},
		CAs:     map[string]string{},
	}
	for _, d := range []string{"/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet", "/opt/hactl", "/opt/cni", "/etc/kubernetes"} {
		f.Disks = append(f.Disks, facts.Disk{Dir: d, Mount: "/", Type: "ext4", Options: []string{"rw", "relatime"}, SizeBytes: 40 * gib, FreeBytes: 30 * gib})
	}
	return f
}

func probeOf(inv *inventory.Inventory, h *inventory.Host) *probe {
	p := &probe{Versions: map[string]version{}, AskedVIP: true, Clock: clock{Error: time.Millisecond}, Others: &others.Found{}}
	for range 100 {
		p.Writes = append(p.Writes, 2*time.Millisecond)
	}
	if h.Role == inventory.ControlPlane {
		p.VRRP = heard{Heard: true, From: int64(time.Second), Until: int64(2 * time.Second), Unsent: map[netip.Addr]string{}}
		for _, m := range inv.Masters() {
			if m.Name != h.Name {
				p.VRRP.Wire, p.VRRP.LetIn = append(p.VRRP.Wire, m.PrivateAddress), append(p.VRRP.LetIn, m.PrivateAddress)
			}
		}
	}
	return p
}

// converged is the same hosts after hactl up: everything runs, and the VIP is on
// the first master.
func converged(t *testing.T) *Cluster {
	t.Helper()
	c := bare(t)
	c.CAs = map[string]string{"kubernetes": caOne, "front-proxy": caOne, "etcd": caOne}
	c.EtcdCluster = "demo-0123"
	for _, h := range c.all() {
		f := c.Facts[h.Name]
		f.Hostname = h.Name
		f.Processes = []string{"chronyd", "containerd", "kube-proxy", "kubelet"}
		f.Leftovers = []string{"/etc/kubernetes/kubelet.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/kubelet/config.yaml"}
		f.CAs = map[string]string{"kubernetes": caOne}
		f.Routes = append(f.Routes, facts.Route{Dest: netip.MustParsePrefix("10.244.1.0/24"), Interface: "eth0"})
		listen(f, "kubelet", 10250)
		listen(f, "kube-proxy", 10256)
		c.probes[h.Name].Versions["kubelet"] = version{1, 36, 3}
		if h.Role == inventory.ControlPlane {
			f.Processes = []string{"chronyd", "containerd", "etcd", "keepalived", "kube-apiserver", "kubelet"}
			f.Leftovers = append(f.Leftovers, "/var/lib/etcd/member", "/etc/etcd/established")
			f.CAs["front-proxy"], f.CAs["etcd"], f.EtcdCluster = caOne, caOne, c.EtcdCluster
			listen(f, "etcd", 2379, 2380, 2381)
			listen(f, "kube-apiserver", 6443)
			listen(f, "kube-controller", 10257)
			listen(f, "kube-scheduler", 10259)
			c.probes[h.Name].Versions["etcd"] = version{3, 6, 16}
			c.probes[h.Name].AskedVIP = false
			c.probes[h.Name].VRRP.Adverts = []vrrpAdvert{advert(netip.MustParseAddr("192.0.2.11"), 51, c.Inv.VIP.Address)}
		}
	}
	i := c.Facts["master-1"].InterfaceOf(netip.MustParseAddr("192.0.2.11"))
	i.Prefixes = append(i.Prefixes, netip.MustParsePrefix("192.0.2.10/32"))
	for i := range c.dials {
		c.dials[i].Reach = open
	}
	return c
}

func listen(f *facts.Facts, process string, ports ...int) {
	for _, p := range ports {
		f.Listening = append(f.Listening, facts.Listener{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p)), PID: 1000 + p, Process: process})
	}
}

// judge runs every check on what was seen.
func judge(t *testing.T, c *Cluster) map[string]Result {
	t.Helper()
	out := map[string]Result{}
	for _, res := range c.judge(t.Context(), nil).Results {
		out[res.ID] = res
	}
	return out
}
