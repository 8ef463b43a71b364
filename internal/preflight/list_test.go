package preflight

import (
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/facts"
	"hactl/internal/others"
	"hactl/internal/remote"
	"hactl/inventory"
)

// broken lists, for every check, worlds in which it finds something.
var broken = []struct {
	check  string
	name   string
	breaks func(c *Cluster)
	want   Severity
	host   string // of the first such finding; "" for any
	says   string
}{
	{"reachable", "a host without a connection", func(c *Cluster) {
		c.Down["master-2"] = remote.Hint(errors.New("dial: connection refused"), "start sshd")
		delete(c.Hosts, "master-2")
	}, Error, "master-2", "connection refused"},
	{"reachable", "facts that could not be read", func(c *Cluster) { c.failed["worker-1"] = errors.New("gather facts: cpus: makes no sense") }, Error, "worker-1", "cpus"},
	{"root", "sudo gives another user", func(c *Cluster) { c.Facts["master-1"].UID = 1000 }, Error, "master-1", "1000"},
	{"os", "an old release", func(c *Cluster) {
		c.Facts["master-1"].OSVersion, c.Facts["master-1"].OSName = "10", "Debian GNU/Linux 10 (buster)"
	}, Error, "master-1", "too old"},
	{"os", "no systemd", func(c *Cluster) { c.Facts["master-1"].Init = "init" }, Error, "master-1", "systemd"},
	{"os", "no package manager", func(c *Cluster) { c.Facts["master-1"].PkgManager = "" }, Error, "master-1", "neither apt nor dnf"},
	{"os", "an untried system", func(c *Cluster) { c.Facts["master-1"].OS = "devuan" }, Warning, "master-1", "tried"},
	{"architecture", "not the bundle's", func(c *Cluster) { c.Facts["master-3"].Arch = "arm64" }, Error, "master-3", "arm64"},
	{"architecture", "none that is supported", func(c *Cluster) { c.Facts["master-3"].Arch = "riscv64" }, Error, "master-3", "riscv64"},
	{"architecture", "two, without a bundle", func(c *Cluster) { c.Arch, c.Facts["master-2"].Arch = "", "arm64" }, Error, "master-2", "arm64"},
	{"capabilities", "an ordinary container", func(c *Cluster) { c.Facts["master-1"].CapBnd = 0xa80425fb }, Error, "master-1", "CAP_SYS_ADMIN"},
	{"cpus", "one CPU", func(c *Cluster) { c.Facts["master-1"].CPUs = 1 }, Error, "master-1", "1 CPU"},
	{"memory", "a small master", func(c *Cluster) { c.Facts["master-1"].MemoryBytes = 1024 * mib }, Error, "master-1", "1024 MiB"},
	{"memory", "a tiny worker", func(c *Cluster) { c.Facts["worker-1"].MemoryBytes = 512 * mib }, Warning, "worker-1", "512 MiB"},
	{"disk-space", "a full disk for etcd", func(c *Cluster) { c.Facts["master-1"].Disk("/var/lib/etcd").FreeBytes = 200 * mib }, Error, "master-1", "/var/lib/etcd"},
	{"disk-space", "little room for images", func(c *Cluster) { c.Facts["worker-1"].Disk("/var/lib/containerd").FreeBytes = 5 * gib }, Warning, "worker-1", "5.0 GiB"},
	{"disk-space", "a disk that was not looked at", func(c *Cluster) { c.Inv.Etcd.DataDir = "/srv/etcd" }, Unknown, "master-1", "/srv/etcd"},
	{"disk-latency", "two slow writes of a hundred", func(c *Cluster) {
		w := c.probes["master-2"].Writes
		w[98], w[99] = 15*time.Millisecond, 40*time.Millisecond
	}, Warning, "master-2", "15ms"},
	{"disk-latency", "not measured", func(c *Cluster) { c.probes["master-2"].Writes = nil }, Unknown, "master-2", "could not be measured"},
	{"mount-options", "noexec", func(c *Cluster) { c.Facts["master-1"].Disk("/opt/cni").Options = []string{"rw", "noexec"} }, Error, "master-1", "noexec"},
	{"mount-options", "read-only", func(c *Cluster) { c.Facts["master-1"].Disk("/etc/kubernetes").Options = []string{"ro"} }, Error, "master-1", "read-only"},
	{"mount-options", "nosuid", func(c *Cluster) {
		c.Facts["master-1"].Disk("/var/lib/containerd").Options = []string{"rw", "nosuid"}
	}, Warning, "master-1", "nosuid"},
	{"mount-options", "a file system that was not looked at", func(c *Cluster) { c.Facts["master-1"].Disks = nil }, Unknown, "master-1", "/opt/hactl"},
	{"swap", "of zram", func(c *Cluster) { c.Facts["worker-1"].SwapUnits = []string{"dev-zram0.swap", "zramswap.service"} }, Warning, "worker-1", "when the host boots: dev-zram0.swap, zramswap.service"},
	{"disk-space", "a large disk that is nearly full", func(c *Cluster) {
		*c.Facts["worker-1"].Disk("/var/lib/kubelet") = facts.Disk{Dir: "/var/lib/kubelet", Mount: "/", Type: "ext4", SizeBytes: 1000 * gib, FreeBytes: 90 * gib}
	}, Error, "worker-1", "9 % of / are free (90.0 GiB) for /var/lib/kubelet: the kubelet evicts pods below 10 %"},
	{"disk-space", "images soon evicted", func(c *Cluster) {
		*c.Facts["worker-1"].Disk("/var/lib/containerd") = facts.Disk{Dir: "/var/lib/containerd", Mount: "/srv", Type: "ext4", SizeBytes: 100 * gib, FreeBytes: 17 * gib}
	}, Warning, "worker-1", "17 % of /srv are free"},
	{"clock-skew", "an operator far ahead, and no CA yet", func(c *Cluster) { allOff(c, -6*time.Minute) }, Error, "master-1", "off that of this machine"},
	{"clock-skew", "an operator far ahead, with the CAs", func(c *Cluster) {
		allOff(c, -6*time.Minute)
		c.CAs = map[string]string{"kubernetes": caOne}
	}, Warning, "master-1", "off that of this machine"},
	{"swap", "on", func(c *Cluster) { c.Facts["worker-1"].Swap = true }, Warning, "worker-1", "swap is on"},
	{"kernel-version", "too old for Kubernetes", func(c *Cluster) { c.Facts["master-1"].Kernel = "4.18.0-553.el8" }, Error, "master-1", "4.19"},
	{"kernel-version", "too old for nftables", func(c *Cluster) { c.Facts["master-1"].Kernel = "5.10.0-30" }, Error, "master-1", "5.13"},
	{"kernel-version", "no version at all", func(c *Cluster) { c.Facts["master-1"].Kernel = "custom" }, Unknown, "master-1", "custom"},
	{"kernel-modules", "absent", func(c *Cluster) { c.Facts["master-1"].Modules["br_netfilter"] = facts.Absent }, Error, "master-1", "br_netfilter"},
	{"kernel-modules", "no telling", func(c *Cluster) { c.Facts["master-1"].Modules["veth"] = facts.Unknown }, Unknown, "master-1", "veth"},
	{"kernel-modules", "vxlan for flannel", func(c *Cluster) {
		c.Inv.Network.Preset = "flannel"
		c.Facts["worker-1"].Modules["vxlan"] = facts.Absent
	}, Error, "worker-1", "vxlan"},
	{"sysctls", "read-only", func(c *Cluster) { c.Facts["master-1"].Sysctls["net.ipv4.ip_forward"] = facts.Sysctl{Value: "0"} }, Error, "master-1", "cannot be changed"},
	{"sysctls", "missing", func(c *Cluster) { delete(c.Facts["master-1"].Sysctls, "net.ipv4.ip_forward") }, Error, "master-1", "has no"},
	{"sysctls", "IPv6 off", func(c *Cluster) {
		c.Inv.VIP.Address = netip.MustParseAddr("2001:db8::10")
		c.Facts["master-1"].Sysctls["net.ipv6.conf.all.disable_ipv6"] = facts.Sysctl{Value: "1", Writable: true}
		c.Facts["master-1"].Sysctls["net.ipv6.conf.all.forwarding"] = facts.Sysctl{Value: "0", Writable: true}
	}, Error, "master-1", "IPv6 is switched off"},
	{"sysctls", "few watches", func(c *Cluster) {
		c.Facts["master-1"].Sysctls["fs.inotify.max_user_instances"] = facts.Sysctl{Value: "64"}
	}, Warning, "master-1", "64"},
	{"cgroup", "v1", func(c *Cluster) { c.Facts["master-1"].CgroupV2 = false }, Warning, "master-1", "v1"},
	{"apparmor", "no parser", func(c *Cluster) { c.Facts["master-1"].AppArmor = true }, Warning, "master-1", "apparmor_parser"},
	{"automatic-reboot", "at night", func(c *Cluster) { c.Facts["master-2"].AutomaticReboot = "02:00" }, Warning, "master-2", "02:00"},
	{"selinux", "enforcing", func(c *Cluster) { c.Facts["master-1"].SELinux = "enforcing" }, Warning, "master-1", "enforcing"},
	{"hostname", "addresses mixed up", func(c *Cluster) { c.Facts["master-1"].Hostname = "master-2.example.com" }, Error, "master-1", "master-2"},
	{"machine-id", "a clone", func(c *Cluster) { c.Facts["master-3"].MachineID = c.Facts["master-1"].MachineID }, Error, "master-3", "master-1"},
	{"machine-id", "none", func(c *Cluster) { c.Facts["master-3"].MachineID = "" }, Warning, "master-3", "no machine id"},
	{"product-uuid", "a clone", func(c *Cluster) { c.Facts["master-3"].ProductUUID = c.Facts["master-1"].ProductUUID }, Warning, "master-3", "product UUID"},
	{"mac-address", "a clone", func(c *Cluster) {
		c.Facts["master-2"].Interfaces[1].MAC = c.Facts["master-1"].Interfaces[1].MAC
	}, Error, "master-2", "02:00:00:00:00:01"},
	{"clock-skew", "3 s ahead", func(c *Cluster) {
		c.probes["master-3"].Clock.Offset = 3 * time.Second
		c.Facts["master-3"].ClockError = time.Second
	}, Error, "master-3", "3s off"},
	{"clock-skew", "0.8 s behind", func(c *Cluster) {
		c.probes["master-3"].Clock.Offset = -800 * time.Millisecond
		c.Facts["master-3"].ClockError = time.Second
	}, Warning, "master-3", "-800ms off"},
	{"clock-skew", "a line too slow to tell", func(c *Cluster) {
		c.probes["master-3"].Clock.Error = time.Second
		c.Facts["master-3"].ClockError = time.Second
	}, Unknown, "master-3", "too slow"},
	{"clock-skew", "all alike, and all wrong", func(c *Cluster) {
		for n, p := range c.probes {
			p.Clock.Offset = -time.Hour
			c.Facts[n].ClockError = time.Second
		}
	}, Error, "", "certificates"},
	{"time-sync", "nothing", func(c *Cluster) { c.Facts["master-1"].TimeSync = "" }, Warning, "master-1", "keeps the clock"},
	{"private-address", "on no interface", func(c *Cluster) {
		c.Facts["master-1"].Interfaces[1].Prefixes = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24")}
	}, Error, "master-1", "198.51.100.7 on eth0"},
	{"private-address", "interface down", func(c *Cluster) { c.Facts["master-1"].Interfaces[1].Up = false }, Error, "master-1", "is down"},
	{"private-address", "on another interface", func(c *Cluster) { c.Inv.Hosts[0].Interface = "eth1" }, Error, "master-1", "not on eth1"},
	{"one-segment", "a host elsewhere", func(c *Cluster) { c.Inv.Hosts[3].PrivateAddress = netip.MustParseAddr("198.51.100.9") }, Error, "master-1", "198.51.100.9"},
	{"one-segment", "no address to compare", func(c *Cluster) { c.Facts["master-1"].Interfaces = nil }, Unknown, "master-1", "not known"},
	{"mtu", "different", func(c *Cluster) { c.Facts["worker-1"].Interfaces[1].MTU = 9000 }, Warning, "worker-1", "9000"},
	{"default-route", "none", func(c *Cluster) { c.Facts["master-1"].Routes = c.Facts["master-1"].Routes[1:] }, Warning, "master-1", "no default route"},
	{"default-route", "one that forwarding loses", func(c *Cluster) {
		c.Inv.VIP.Address = netip.MustParseAddr("2001:db8::10")
		c.Facts["master-1"].Routes = append(c.Facts["master-1"].Routes, facts.Route{Dest: netip.MustParsePrefix("::/0"), Interface: "eth0", RA: true})
		c.Facts["master-1"].Sysctls["net.ipv6.conf.eth0.accept_ra"] = facts.Sysctl{Value: "1", Writable: true}
	}, Warning, "master-1", "net.ipv6.conf.eth0.accept_ra is 1"},
	{"networks", "hosts inside the service network", func(c *Cluster) { c.Inv.Network.ServiceSubnet = netip.MustParsePrefix("192.0.0.0/14") }, Error, "master-1", "192.0.2.0/24"},
	{"networks", "a route into the service network", func(c *Cluster) {
		c.Facts["worker-1"].Routes = append(c.Facts["worker-1"].Routes, facts.Route{Dest: netip.MustParsePrefix("10.96.5.0/24"), Interface: "wg0"})
	}, Error, "worker-1", "wg0"},
	{"networks", "another network inside the pod network", func(c *Cluster) {
		c.Facts["worker-1"].Interfaces = append(c.Facts["worker-1"].Interfaces, facts.Interface{Name: "docker0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.244.0.1/16")}})
	}, Error, "worker-1", "docker0"},
	{"resolv-conf", "missing", func(c *Cluster) { c.Facts["master-1"].ResolvConf = false }, Error, "master-1", "missing"},
	{"resolv-conf", "empty", func(c *Cluster) { c.Facts["master-1"].Nameservers = nil }, Warning, "master-1", "names no server"},
	{"resolv-conf", "a server on the host itself", func(c *Cluster) {
		c.Facts["master-1"].Nameservers = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}, Warning, "master-1", "ask itself"},
	{"proxy", "for everything", func(c *Cluster) {
		c.Facts["master-1"].Proxies = map[string]string{"https_proxy": "http://proxy:3128", "no_proxy": "localhost,192.0.2.0/24,10.96.0.0/16"}
	}, Warning, "master-1", "10.244.0.0/16"},
	{"firewall", "forwarding dropped", func(c *Cluster) { c.probes["worker-1"].Forward = []string{"ip filter FORWARD"} }, Error, "worker-1", "(ip filter FORWARD)"},
	{"firewall", "firewalld", func(c *Cluster) { c.Facts["master-1"].Firewall.Services = []string{"firewalld"} }, Error, "master-1", "2380"},
	{"firewall", "firewalld that lets pods in, and not the hosts", func(c *Cluster) {
		c.Facts["master-1"].Firewall = facts.Firewall{Services: []string{"firewalld"}, Trusted: []string{"cni0"}}
	}, Warning, "master-1", "does not trust 192.0.2.11"},
	{"firewall", "nftables that drop", func(c *Cluster) { c.Facts["master-1"].Firewall.Nft = nftDrop }, Warning, "master-1", "2379"},
	{"firewall", "iptables that reject", func(c *Cluster) {
		c.Facts["worker-1"].Firewall.IPTables = "-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable"
	}, Warning, "worker-1", "10250"},
	{"firewall", "a rule against a port", func(c *Cluster) {
		c.Facts["master-1"].Firewall.Nft = "table inet t {\n\tchain i {\n\t\ttype filter hook input priority filter; policy accept;\n\t\ttcp dport 2379 reject with tcp reset\n\t}"
	}, Warning, "master-1", "tcp dport 2379 reject"},
	{"ports-free", "a process of another program", func(c *Cluster) { listen(c.Facts["master-1"], "nginx", 6443) }, Error, "master-1", "nginx (pid 7443)"},
	{"ports-free", "another etcd", func(c *Cluster) {
		listen(c.Facts["master-1"], "etcd", 2379)
		c.probes["master-1"].Others.Holders = map[int]string{1000 + 2379: "/opt/x/etcd, patroni-etcd.service"}
	}, Error, "master-1", "etcd (pid 3379, not hactl's: /opt/x/etcd, patroni-etcd.service)"},
	{"ports-free", "a process that was not found", func(c *Cluster) {
		c.Facts["worker-1"].Listening = append(c.Facts["worker-1"].Listening, facts.Listener{Addr: netip.MustParseAddrPort("[::]:10250")})
	}, Error, "worker-1", "not found"},
	{"ports-reachable", "dropped", func(c *Cluster) { c.dials[0].Reach = silent }, Error, "master-1", "dropped"},
	{"ports-reachable", "rejected", func(c *Cluster) { c.dials[0].Reach = noRoute }, Error, "master-1", "no route"},
	{"ports-reachable", "refused where a process listens", func(c *Cluster) { listen(c.Facts["master-2"], "etcd", 2379) }, Error, "master-1", "rejects"},
	{"ports-reachable", "no forwarding in sshd", func(c *Cluster) { c.dials[0].Reach, c.dials[0].Err = untested, errors.New("prohibited") }, Unknown, "master-1", "prohibited"},
	{"ports-reachable", "no host to dial from", func(c *Cluster) { c.dials = nil }, Unknown, "", "connected from"},
	{"peer-rtt", "a long way", func(c *Cluster) { slow(c, 452*time.Millisecond) }, Warning, "", "heartbeatInterval"},
	{"peer-rtt", "too long for the election", func(c *Cluster) { slow(c, 152*time.Millisecond) }, Warning, "", "electionTimeout"},
	{"peer-rtt", "nothing measured", func(c *Cluster) {
		for i := range c.dials {
			c.dials[i].Reach = silent
		}
	}, Unknown, "", "could not be measured"},
	{"vip-network", "another network", func(c *Cluster) { c.Inv.VIP.Address = netip.MustParseAddr("192.0.3.10") }, Error, "master-1", "192.0.2.0/24"},
	{"vip-network", "no such interface", func(c *Cluster) { c.Inv.VIP.Interface = "bond0" }, Error, "master-1", "no interface"},
	{"vip-unused", "a stranger answers", func(c *Cluster) { c.probes["master-2"].Answers = "02:aa:bb:cc:dd:ee" }, Error, "master-2", "02:aa:bb:cc:dd:ee"},
	{"vip-unused", "a stranger claims it by VRRP", func(c *Cluster) {
		run(c)
		c.probes["master-3"].VRRP.Adverts = append(c.probes["master-3"].VRRP.Adverts, advert(stranger, 7, netip.MustParseAddr("192.0.2.9"), c.Inv.VIP.Address))
	}, Error, "master-3", "192.0.2.200, no master of this cluster, claims the VIP 192.0.2.10"},
	{"vip-unused", "left on an interface", func(c *Cluster) { holdVIP(c, "master-2") }, Error, "master-2", "no keepalived"},
	{"vip-unused", "on a worker", func(c *Cluster) { holdVIP(c, "worker-1") }, Error, "worker-1", "no master"},
	{"vip-unused", "not asked", func(c *Cluster) { c.probes["master-2"].AskedVIP = false }, Unknown, "master-2", "not asked"},
	{"vrid", "another cluster on the wire", func(c *Cluster) {
		c.probes["master-2"].VRRP.Adverts = []vrrpAdvert{advert(stranger, 51)}
	}, Warning, "master-2", "192.0.2.200, no master of this cluster, sends VRRP adverts (version 3) with virtual router id 51"},
	{"vrid", "on a running cluster", func(c *Cluster) {
		run(c)
		c.probes["master-3"].VRRP.Adverts = append(c.probes["master-3"].VRRP.Adverts, advert(stranger, 51))
	}, Warning, "master-3", "192.0.2.200"},
	{"vrid", "a lone master, which yields to it", func(c *Cluster) {
		c.Inv.Hosts = c.Inv.Hosts[:1]
		c.dials = nil
		c.probes["master-1"].VRRP.Adverts = []vrrpAdvert{advert(stranger, 51)}
	}, Error, "master-1", "192.0.2.200"},
	{"vrid", "no ears", func(c *Cluster) { deaf(c, "master-2") }, Unknown, "master-2", "does not run"},
	{"vrid", "no interface", func(c *Cluster) { c.probes["master-2"].VRRP = heard{} }, Unknown, "master-2", "interface"},
	{"vrrp", "a firewall on the way", func(c *Cluster) { notLetIn(c, "master-1", "master-3", false) }, Error, "master-3", "from master-1 (192.0.2.11) does not arrive"},
	{"vrrp", "a firewall on the host", func(c *Cluster) { notLetIn(c, "master-1", "master-3", true) }, Error, "master-3", "from master-1 (192.0.2.11) arrives, and a firewall on this host"},
	{"vrrp", "a firewall for what leaves", func(c *Cluster) {
		notLetIn(c, "master-1", "master-3", false)
		c.probes["master-1"].VRRP.Unsent[c.Inv.Hosts[2].PrivateAddress] = "Operation not permitted"
	}, Error, "master-1", "to master-3 (192.0.2.13): Operation not permitted"},
	{"vrrp", "not at the same time", func(c *Cluster) {
		notLetIn(c, "master-1", "master-3", false)
		c.probes["master-1"].Clock.Offset = -900 * time.Millisecond
	}, Unknown, "master-3", "did not listen while master-1 sent"},
	{"vrrp", "nothing can be sent, and a firewall that does not know it", func(c *Cluster) {
		deaf(c, "master-1")
		c.Facts["master-1"].Firewall.Nft = nftDrop
	}, Warning, "master-1", "112"},
	{"vrrp", "nothing can be sent", func(c *Cluster) { deaf(c, "master-1") }, Unknown, "master-1", "does not run"},
	{"vrrp", "two owners, and nothing can be sent", func(c *Cluster) {
		deaf(c, "master-1")
		for _, m := range c.Inv.Masters() {
			c.Facts[m.Name].Processes = []string{"keepalived"}
		}
		holdVIP(c, "master-1")
		holdVIP(c, "master-2")
	}, Error, "", "do not hear"},
	{"others", "Docker", func(c *Cluster) { others1(c, "worker-1", "engine\tdocker\tpid 7, docker.service") }, Error, "worker-1", "another container engine docker (pid 7, docker.service) is not hactl's"},
	{"others", "Docker that came later", func(c *Cluster) {
		others1(c, "worker-1", "engine\tdocker\tpid 7, docker.service")
		c.Facts["worker-1"].Record.Cluster = "demo-1"
	}, Warning, "worker-1", "docker"},
	{"others", "a permitted file", func(c *Cluster) {
		others1(c, "master-1", "file\t/etc/keepalived/keepalived.conf\tvirtual_router_id 60")
		c.TakeOver = []string{"file:/etc/keepalived/keepalived.conf"}
	}, Warning, "master-1", "permitted by --take-over file:/etc/keepalived/keepalived.conf"},
	{"others", "a bridge with another address", func(c *Cluster) {
		f := c.Facts["worker-1"]
		f.Record.Cluster, f.Record.PodSubnet = "demo-1", netip.MustParsePrefix("10.244.3.0/24")
		f.Interfaces = append(f.Interfaces, facts.Interface{Name: "cni0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.85.0.1/16")}})
	}, Error, "worker-1", "cni0 has 10.85.0.1/16, and the pods of this host are in 10.244.3.0/24"},
	{"others", "a host that was not asked", func(c *Cluster) { c.probes["worker-1"].Others = nil }, Unknown, "worker-1", "not known"},
	{"earlier-cluster", "a stranger's CA", func(c *Cluster) {
		c.CAs["kubernetes"] = caOne
		c.Facts["master-1"].CAs["kubernetes"] = caTwo
	}, Error, "master-1", "not that of the store"},
	{"earlier-cluster", "a CA and no store", func(c *Cluster) { c.Facts["master-1"].CAs["etcd"] = caOne }, Error, "master-1", "has none"},
	{"earlier-cluster", "rubbish for a CA", func(c *Cluster) { c.Facts["master-1"].CAs["etcd"] = "rubbish" }, Error, "master-1", "no readable certificate"},
	{"earlier-cluster", "a member of another cluster", func(c *Cluster) { c.Facts["master-1"].EtcdCluster = "other-99" }, Error, "master-1", "other-99"},
	{"earlier-cluster", "a member and no store", func(c *Cluster) { c.Facts["master-1"].Leftovers = []string{"/var/lib/etcd/member"} }, Error, "master-1", "knows no etcd CA"},
	{"earlier-cluster", "a member on a worker", func(c *Cluster) { c.Facts["worker-1"].Leftovers = []string{"/var/lib/etcd/member"} }, Error, "worker-1", "worker"},
	{"earlier-cluster", "kubeadm's own etcd", func(c *Cluster) {
		c.Facts["master-1"].Leftovers = []string{"/etc/kubernetes/manifests/etcd.yaml"}
	}, Error, "master-1", "etcd of its own"},
	{"earlier-cluster", "a node of some cluster", func(c *Cluster) { c.Facts["worker-1"].Leftovers = []string{"/etc/kubernetes/kubelet.conf"} }, Error, "worker-1", "node of some cluster"},
	{"earlier-cluster", "k3s", func(c *Cluster) { c.Facts["worker-1"].Processes = []string{"k3s-agent"} }, Error, "worker-1", "k3s"},
	{"versions", "a newer kubelet", func(c *Cluster) { running(c, "master-1", "kubelet", version{1, 37, 0}) }, Error, "master-1", "older"},
	{"versions", "two minors at once", func(c *Cluster) { running(c, "master-1", "kubelet", version{1, 34, 1}) }, Error, "master-1", "one step"},
	{"versions", "no telling", func(c *Cluster) { c.Facts["master-1"].Processes = []string{"kubelet"} }, Unknown, "master-1", "kubelet"},
	{"versions", "not measured", func(c *Cluster) { c.probes["master-1"] = nil }, Unknown, "master-1", "not known"},
	{"versions", "a newer etcd", func(c *Cluster) {
		c.Facts["master-1"].Leftovers = []string{"/var/lib/etcd/member"}
		c.probes["master-1"].Versions["etcd"] = version{3, 7, 1}
	}, Error, "master-1", "etcd v3.7.1"},
}

const nftDrop = `table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		tcp dport { 22, 8000-8100 } accept
	}`

// allOff sets the clocks of all hosts off that of the operator.
func allOff(c *Cluster, by time.Duration) {
	for name, p := range c.probes {
		p.Clock.Offset = by
		c.Facts[name].ClockOffset, c.Facts[name].ClockError = by.Seconds(), time.Millisecond
	}
}

// others1 lets a host have something that belongs to others.
func others1(c *Cluster, host, line string) {
	found, err := others.Parse(line + "\nend")
	if err != nil {
		panic(err)
	}
	c.probes[host].Others = found
}

var stranger = netip.MustParseAddr("192.0.2.200")

func advert(from netip.Addr, id int, claims ...netip.Addr) vrrpAdvert {
	return vrrpAdvert{From: from, Version: 3, VRID: id, For: claims}
}

// run lets keepalived run, with its adverts on the wire.
func run(c *Cluster) {
	for _, m := range c.Inv.Masters() {
		c.Facts[m.Name].Processes = []string{"keepalived"}
		c.probes[m.Name].VRRP.Adverts = []vrrpAdvert{advert(c.Inv.Hosts[0].PrivateAddress, 51, c.Inv.VIP.Address)}
	}
	holdVIP(c, "master-1")
}

// deaf is a host on which nothing could be sent or heard.
func deaf(c *Cluster, name string) {
	c.probes[name].VRRP = heard{Why: "hactl-network does not run on the host"}
}

// notLetIn takes the probes of one host to another away: on the wire, or past it.
func notLetIn(c *Cluster, from, to string, wire bool) {
	v, a := &c.probes[to].VRRP, c.Inv.Host(from).PrivateAddress
	other := func(b netip.Addr) bool { return b == a }
	if v.LetIn = slices.DeleteFunc(v.LetIn, other); !wire {
		v.Wire = slices.DeleteFunc(v.Wire, other)
	}
}

func slow(c *Cluster, took time.Duration) {
	for i := range c.dials {
		c.dials[i].Took = took
	}
}

func holdVIP(c *Cluster, name string) {
	i := &c.Facts[name].Interfaces[1]
	i.Prefixes = append(i.Prefixes, netip.PrefixFrom(c.Inv.VIP.Address, 32))
}

func running(c *Cluster, host, process string, v version) {
	c.Facts[host].Processes = []string{process}
	c.probes[host].Versions[process] = v
}

func TestEveryCheckFindsWhatIsBroken(t *testing.T) {
	for _, b := range broken {
		t.Run(b.check+": "+b.name, func(t *testing.T) {
			c := bare(t)
			b.breaks(c)
			res := judge(t, c)[b.check]
			for _, f := range res.Findings {
				if f.Severity == b.want && (b.host == "" || f.Host == b.host) && strings.Contains(f.Message, b.says) {
					if f.Hint == "" && f.Severity != Unknown {
						t.Errorf("no hint: %+v", f)
					}
					return
				}
			}
			t.Errorf("no %s on %q that says %q: %+v", b.want, b.host, b.says, res.Findings)
		})
	}
}

// The hint of each finding has the word that permits it, and permission is for that
// thing alone.
func TestPermissionIsByName(t *testing.T) {
	c := bare(t)
	others1(c, "master-1", "unit\tcontainerd.service\t/lib/systemd/system/containerd.service, active\nengine\tdocker\tpid 7")
	c.TakeOver = []string{"engine:docker", "unit:etcd.service"}
	r := &Report{}
	for _, k := range All {
		r.add(k, k.Run(t.Context(), c), k.ID == othersID)
	}
	if r.Err() != nil {
		t.Errorf("ignored, and yet: %v", r.Err())
	}
	r = &Report{}
	for _, k := range All {
		r.add(k, k.Run(t.Context(), c), false)
	}
	err := r.Err()
	if err == nil || !r.Refuses() || !strings.Contains(remote.HintOf(err), "--take-over unit:containerd.service") || strings.Contains(err.Error(), "docker") {
		t.Errorf("%v, hint %s", err, remote.HintOf(err))
	}
}

func TestEveryCheckHasABrokenWorld(t *testing.T) {
	for _, k := range All {
		found := false
		for _, b := range broken {
			found = found || b.check == k.ID && (b.want == k.Severity || b.want == Error)
		}
		if !found {
			t.Errorf("no test in which %s finds something of its severity (%s) or worse", k.ID, k.Severity)
		}
	}
	for _, b := range broken {
		if !slices.Contains(IDs(), b.check) {
			t.Errorf("%s is no check", b.check)
		}
	}
}

func TestBareHostsPass(t *testing.T) {
	for id, res := range judge(t, bare(t)) {
		if res.State != Passed {
			t.Errorf("%s is %s: %+v", id, res.State, res.Findings)
		}
	}
}

func TestConvergedClusterPassesEveryCheck(t *testing.T) {
	for id, res := range judge(t, converged(t)) {
		if res.State != Passed {
			t.Errorf("%s is %s: %+v", id, res.State, res.Findings)
		}
	}
}

func TestHostWithoutFactsIsUnknownToEveryCheckOfHosts(t *testing.T) {
	c := bare(t)
	delete(c.Facts, "master-2")
	delete(c.probes, "master-2")
	between := []string{"reachable", "ports-reachable", "peer-rtt", "one-segment"}
	for id, res := range judge(t, c) {
		about := slices.ContainsFunc(res.Findings, func(f Finding) bool { return f.Host == "master-2" && f.Severity == Unknown })
		if !about && !slices.Contains(between, id) {
			t.Errorf("%s says %s of a host that was not seen", id, res.State)
		}
	}
}

func TestListIsInOrder(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	for i, k := range All {
		if !form.MatchString(k.ID) || k.Title == "" || k.Hint == "" || k.Run == nil || k.Severity != Error && k.Severity != Warning {
			t.Errorf("check %d is not complete: %+v", i, k)
		}
		if slices.Index(IDs(), k.ID) != i {
			t.Errorf("%s is listed twice", k.ID)
		}
	}
}

func TestRulesThatLetTheClusterInPass(t *testing.T) {
	for name, rules := range map[string]facts.Firewall{
		"named ports": {Nft: strings.Replace(nftDrop, "8000-8100", "2379-2380, 6443, 10250", 1) + "\n\t\tip protocol vrrp accept"},
		"a source":    {Nft: nftDrop + "\n\t\tip saddr 192.0.2.0/24 accept"},
		"protocol 112": {IPTables: "-P INPUT DROP\n-A INPUT -p 112 -j ACCEPT\n" +
			"-A INPUT -p tcp -m multiport --dports 2379:2380,6443,10250 -j ACCEPT"},
		"firewalld": {Services: []string{"firewalld"}, Trusted: []string{"192.0.2.0/24", "10.244.0.0/16"},
			Nft: "table inet firewalld {\n\tchain filter_INPUT {\n\t\ttype filter hook input priority filter + 10; policy accept;\n\t\treject with icmpx admin-prohibited\n\t}"},
		"firewalld, trusting everything": {Services: []string{"firewalld"}, Trusted: []string{"all"}},
		"no rules":                       {Nft: "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t}", Services: []string{"nftables"}},
	} {
		c := bare(t)
		c.Facts["master-1"].Firewall = rules
		if res := judge(t, c)["firewall"]; res.State != Passed {
			t.Errorf("%s: %s, %+v", name, res.State, res.Findings)
		}
	}
}

func TestAdvertsOfTheMastersAreNoCollision(t *testing.T) {
	c := bare(t)
	local := netip.MustParseAddr("fe80::11")
	eth0 := &c.Facts["master-1"].Interfaces[1]
	eth0.Prefixes = append(eth0.Prefixes, netip.PrefixFrom(local, 64))
	c.probes["master-2"].VRRP.Adverts = []vrrpAdvert{advert(netip.MustParseAddr("192.0.2.11"), 51), advert(local, 51), advert(stranger, 52)}
	if res := judge(t, c)["vrid"]; res.State != Passed {
		t.Errorf("%s: %+v", res.State, res.Findings)
	}
}

// A master that is about to leave is no stranger, and what is wrong with it is no reason
// not to replace it.
func TestHostThatLeavesIsKnownAndNotJudged(t *testing.T) {
	c := converged(t)
	c.Facts["master-2"].CPUs = 1
	if res := judge(t, c)["cpus"]; res.State != Failed {
		t.Fatalf("one that stays: %s", res.State)
	}
	c.Leaving = []string{"master-2"}
	c.probes["master-1"].VRRP.Adverts = []vrrpAdvert{advert(c.Inv.Host("master-2").PrivateAddress, 51)}
	for id, res := range judge(t, c) {
		if res.State == Failed {
			t.Errorf("%s: %+v", id, res.Findings)
		}
	}
}

// A stranger that all hear is one finding; two strangers on one host are two.
func TestEveryStrangerIsNamedOnce(t *testing.T) {
	c := bare(t)
	other := netip.MustParseAddr("192.0.2.201")
	for _, m := range c.Inv.Masters() {
		c.probes[m.Name].VRRP.Adverts = []vrrpAdvert{advert(stranger, 51), advert(other, 60), advert(other, 51)}
	}
	res := judge(t, c)["vrid"]
	if len(res.Findings) != 2 || !strings.Contains(res.Findings[1].Message, "192.0.2.201") || !strings.Contains(res.Findings[0].Hint, "51, 60") {
		t.Errorf("%+v", res.Findings)
	}
}

// Clocks that differ are no reason to say that hosts missed one another.
func TestHostsWithOtherClocksListenTogether(t *testing.T) {
	c := bare(t)
	notLetIn(c, "master-1", "master-3", false)
	p := c.probes["master-1"]
	p.Clock.Offset = time.Hour
	p.VRRP.From, p.VRRP.Until = p.VRRP.From+int64(time.Hour), p.VRRP.Until+int64(time.Hour)
	if res := judge(t, c)["vrrp"]; res.State != Failed || len(res.Findings) != 1 {
		t.Errorf("%s: %+v", res.State, res.Findings)
	}
}

// Where nothing can be sent, a running cluster with one owner is proof enough.
func TestRunningClusterShowsThatVRRPPasses(t *testing.T) {
	c := converged(t)
	for _, m := range c.Inv.Masters() {
		deaf(c, m.Name)
	}
	if res := judge(t, c)["vrrp"]; res.State != Passed {
		t.Errorf("%s: %+v", res.State, res.Findings)
	}
}

func TestLoneMasterNeedsNoVRRPToPass(t *testing.T) {
	c := bare(t)
	c.Inv.Hosts = []inventory.Host{c.Inv.Hosts[0], c.Inv.Hosts[3]}
	deaf(c, "master-1")
	if found := vrrpPasses(t.Context(), c); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestPortHeldTwiceIsOneFinding(t *testing.T) {
	c := bare(t)
	listen(c.Facts["master-1"], "nginx", 6443, 6443)
	if res := judge(t, c)["ports-free"]; len(res.Findings) != 1 {
		t.Errorf("%+v", res.Findings)
	}
}

func TestProbeIsToldWhatTheHostHasPartIn(t *testing.T) {
	c := bare(t)
	if p := c.prelude(&c.Inv.Hosts[1]); !strings.Contains(p, "VIP=192.0.2.10\n") || !strings.Contains(p, "IFACE=''\n") || !strings.Contains(p, "PEERS='192.0.2.11 192.0.2.13'\n") || !strings.Contains(p, "OWN=192.0.2.12\n") {
		t.Errorf("master:\n%s", p)
	}
	c.Inv.Hosts[1].Interface = "eth7"
	if p := c.prelude(&c.Inv.Hosts[1]); !strings.Contains(p, "IFACE=eth7\n") {
		t.Errorf("with an interface:\n%s", p)
	}
	if p := c.prelude(&c.Inv.Hosts[3]); !strings.Contains(p, "DIR=''\n") || !strings.Contains(p, "OWN=''\n") || !strings.Contains(p, "VIP=''\n") || !strings.Contains(p, "MASTER=") {
		t.Errorf("worker:\n%s", p)
	}
}

func TestSkewBelowTheErrorOfMeasurementIsNotReported(t *testing.T) {
	c := bare(t)
	for n := range c.probes {
		c.Facts[n].ClockError = time.Second
		c.probes[n].Clock.Error = 200 * time.Millisecond
	}
	c.probes["master-3"].Clock.Offset = 700 * time.Millisecond
	if res := judge(t, c)["clock-skew"]; res.State != Passed {
		t.Errorf("%+v", res.Findings)
	}
}

func TestHostThatCannotForwardIsSaidOnce(t *testing.T) {
	c := bare(t)
	for i := range c.dials {
		if d := &c.dials[i]; d.From == "master-1" {
			d.Reach, d.Err = untested, remote.Hint(errors.New("prohibited"), "set AllowTcpForwarding yes")
		}
	}
	if res := judge(t, c)["ports-reachable"]; len(res.Findings) != 1 || res.Findings[0].Hint == "" {
		t.Errorf("%+v", res.Findings)
	}
}

// A bring-up that was cut off before its hosts were nodes leaves routes behind.
func TestRoutesOfARunThatWasCutOffAreNoObstacle(t *testing.T) {
	c := bare(t)
	f := c.Facts["master-1"]
	for ours, want := range map[bool]int{true: 0, false: 1} {
		f.Routes = append(slices.Clone(f.Routes), facts.Route{Dest: netip.MustParsePrefix("10.244.1.0/24"), Interface: "eth0", Pods: ours})
		if got := networks(t.Context(), c); len(got) != want {
			t.Errorf("made by hactl %t: %+v", ours, got)
		}
		f.Routes = f.Routes[:len(f.Routes)-1]
	}
}
