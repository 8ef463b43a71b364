package facts

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

const mark = "hactl-0123456789abcdef01234567"

// sections is what a Debian master that is part of a cluster prints.
func sections() map[string]string {
	return map[string]string{
		"clock-before": "1000000000000000000\n", "clock-after": "1000000000100000000\n",
		"uid": "0\n", "hostname": "master-1\n", "machine-id": "3d1219c7c4c5404aaa1f6d2a48adfda4\n",
		"boot-id": "ec8d81ed-535e-4c20-bb03-4e6005091786\n", "product-uuid": "4C4C4544-0042\n",
		"os-release": "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
		"kernel":     "6.1.0-30-amd64\n", "machine": "x86_64\n", "init": "systemd\n", "cpus": "4\n", "memory": "8192000\n",
		"capbnd": "000001ffffffffff\n", "cgroup": "cpuset cpu io memory hugetlb pids\n", "swap": "", "swap-units": "dev-zram0.swap\n", "package-manager": "/usr/bin/apt-get\n", "network-managers": "networkd\n",
		"links": "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n" +
			"2: eth0@if9: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue\\    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff\n",
		"addresses": "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n" +
			"2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever\n" +
			"2: eth0    inet 192.0.2.77 peer 192.0.2.78/32 scope global eth0\\       valid_lft forever\n" +
			"2: eth0    inet6 2001:db8::11/64 scope global \\       valid_lft forever\n",
		"routes": "default via 192.0.2.1 dev eth0 \n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.11 \n" +
			"192.0.2.200 dev eth0 scope link \n10.244.1.0/24 via 192.0.2.12 dev eth0 proto 104 \nunreachable 203.0.113.0/24\ndefault via fe80::1 dev eth0 proto ra metric 1024\n",
		"resolv-conf": "present\n# comment\nnameserver 192.0.2.1\nnameserver nonsense\nsearch example.com\n",
		"proxies":     "https_proxy=http://***@proxy:3128\nNO_PROXY=localhost,10.0.0.0/8\n",
		"disks": "41000000 30000000 ext4 rw,relatime / on /var/lib/etcd\n" +
			"100 -5 xfs rw,noexec /mnt/a disk on /srv/with space\n",
		"listening": "0100007F:094B 77 500 etcd\n00000000000000000000000000000000:192B 78 501 kube-apiserver\n0000000000000000FFFF00000B0200C0:0016 79 0 -\n",
		"processes": "systemd\netcd\nsystemd\nchronyd\n",
		"modules":   "overlay loaded\nveth builtin\nvxlan loadable\nbridge absent\nip_tables unknown\n",
		"sysctls":   "net/ipv4/ip_forward rw 1\nkernel/pid_max ro 32768\n",
		"selinux":   "", "apparmor": "Y\n", "apparmor-parser": "/sbin/apparmor_parser\n", "automatic-reboot": "Unattended-Upgrade::Automatic-Reboot \"true\";\nUnattended-Upgrade::Automatic-Reboot-Time \"02:00\";\n", "time-sync": "",
		"firewall": "service firewalld\ntrusts cni0\ntrusts 192.0.2.11 10.244.0.0/16\n", "nft": "table inet filter {\n\tchain input {\n", "iptables": "",
		"leftovers": "/etc/kubernetes/kubelet.conf\n/var/lib/etcd/member\n", "etcd-cluster": "demo-0123\n",
		"kubelet-ca": "  Q0E=\n", "host-record": `{"apiVersion":"hactl/v1","cluster":"demo-0123","name":"master-1","vipPriority":220,"podSubnet":"10.244.1.0/24"}`, "owned": "yes\n", "vip-priority": "", "node-versions": "",
		"programs":      "etcd v3.6.16\nkubelet v1.36.3\n",
		"kubernetes-ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "front-proxy-ca": "", "etcd-ca": "",
	}
}

// print writes sections as the script does.
func print(s map[string]string) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "\n%s %s\n%s", mark, name, s[name])
	}
	fmt.Fprintf(&b, "\n%s end\n", mark)
	return []byte(b.String())
}

func during(from, to int64) window { return window{time.Unix(0, from), time.Unix(0, to)} }

func TestAnswerIsRead(t *testing.T) {
	f, err := parse(print(sections()), mark, during(999999999800000000, 1000000000200000000))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"system", fmt.Sprint(f.OS, f.OSVersion, " ", f.OSName, " ", f.Arch, " ", f.PkgManager, f.CPUs), "debian12 Debian GNU/Linux 12 (bookworm) amd64 apt4"},
		{"swap units", fmt.Sprint(f.SwapUnits), "[dev-zram0.swap]"},
		{"network managers", fmt.Sprint(f.NetworkManagers), "[networkd]"},
		{"memory", fmt.Sprint(f.MemoryBytes), "8388608000"},
		{"AppArmor's parser, a reboot at night", fmt.Sprint(f.AppArmorParser, " ", f.AutomaticReboot), "true 02:00"},
		{"cgroup, swap, AppArmor", fmt.Sprint(f.CgroupV2, f.Swap, f.AppArmor), "true false true"},
		{"interface", fmt.Sprint(f.Interfaces[1]), "{eth0 02:00:00:00:00:01 1500 true [192.0.2.11/24 192.0.2.77/32 2001:db8::11/64]}"},
		{"routes", fmt.Sprint(f.Routes), "[{0.0.0.0/0 eth0 false false false} {192.0.2.0/24 eth0 true false false} {192.0.2.200/32 eth0 false false false} {10.244.1.0/24 eth0 false false true} {::/0 eth0 false true false}]"},
		{"resolver", fmt.Sprint(f.ResolvConf, f.Nameservers), "true [192.0.2.1]"},
		{"proxies", fmt.Sprint(f.Proxies), "map[https_proxy:http://***@proxy:3128 no_proxy:localhost,10.0.0.0/8]"},
		{"disk", fmt.Sprintln(f.Disk("/var/lib/etcd").FreeBytes, f.Disk("/srv/with space").Mount, f.Disk("/srv/with space").Has("noexec")), "30720000000 /mnt/a disk true\n"},
		{"listening", fmt.Sprint(f.Listening), "[{127.0.0.1:2379 500 etcd} {[::]:6443 501 kube-apiserver} {192.0.2.11:22 0 }]"},
		{"processes", fmt.Sprint(f.Processes, f.Runs("etcd"), f.Runs("kubelet")), "[chronyd etcd systemd] true false"},
		{"time", f.TimeSync, "chronyd"},
		{"modules", fmt.Sprint(f.Modules), "map[bridge:absent ip_tables:unknown overlay:loaded veth:builtin vxlan:loadable]"},
		{"sysctls", fmt.Sprint(f.Sysctls), "map[kernel.pid_max:{32768 false} net.ipv4.ip_forward:{1 true}]"},
		{"firewall", fmt.Sprint(f.Firewall.Services, f.Firewall.Trusted, f.Firewall.NoNft), "[firewalld] [cni0 192.0.2.11 10.244.0.0/16] false"},
		{"record", fmt.Sprint(f.KubeletCA, f.Record), "CA{hactl/v1 demo-0123 master-1 220 10.244.1.0/24 {  }}"},
		{"programs", fmt.Sprint(f.Programs), "map[etcd:v3.6.16 kubelet:v1.36.3]"},
		{"earlier", fmt.Sprintln(f.Leftovers, f.EtcdCluster, len(f.CAs)), "[/etc/kubernetes/kubelet.conf /var/lib/etcd/member] demo-0123 1\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.what, c.got, c.want)
		}
	}
	if f.InterfaceOf(netip.MustParseAddr("192.0.2.11")).Name != "eth0" {
		t.Error("the private address is on no interface")
	}
	// 0.4 s here, 0.1 s of it there: 0.3 s on the wire; ahead by (0.2 - 0.1) / 2.
	if f.ClockOffset < 0.0499 || f.ClockOffset > 0.0501 || f.ClockError != 150*time.Millisecond {
		t.Errorf("clock %.3f s ahead, give or take %s", f.ClockOffset, f.ClockError)
	}
}

func TestHybridHierarchyIsCgroupV1(t *testing.T) {
	for controllers, want := range map[string]bool{"": false, "hugetlb\n": false, "cpuset pids\n": false, "cpu memory pids\n": true} {
		s := sections()
		s["cgroup"] = controllers
		f, err := parse(print(s), mark, window{})
		if err != nil || f.CgroupV2 != want {
			t.Errorf("%q: v2 %v, %v", controllers, f != nil && f.CgroupV2, err)
		}
	}
}

func TestNonsenseNamesItsField(t *testing.T) {
	for _, c := range []struct{ field, value string }{
		{"hostname", ""}, {"hostname", "a b\n"}, {"hostname", strings.Repeat("a", 5000)}, {"hostname", "../../etc\n"},
		{"machine-id", "3D12; rm -rf /\n"}, {"boot-id", "none\n"}, {"kernel", "6.1 $(id)\n"}, {"machine", ""},
		{"uid", "root\n"}, {"cpus", "0\n"}, {"cpus", "99999999999999999999\n"}, {"memory", "-1\n"}, {"memory", "1e9\n"}, {"capbnd", "all\n"},
		{"product-uuid", strings.Repeat("u", 300)}, {"os-release", "ID=" + strings.Repeat("d", 300)},
		{"links", "1:\n"}, {"links", "2: a/b: <UP> mtu 1500\n"}, {"links", "no ip\n"}, {"links", "2: eth0: <UP> link/ether zz\n"}, {"links", "2: eth0: <UP> mtu many\n"},
		{"addresses", "2: eth0 inet 999.0.0.1/24 scope global\n"}, {"addresses", "2: eth7 inet 192.0.2.1/24 scope global\n"},
		{"disks", "1 2 3\n"}, {"disks", "x 1 ext4 rw / on /\n"},
		{"listening", "0100007F:094B\n"}, {"listening", "XX:094B 1 1 etcd\n"}, {"listening", "010000:094B 1 1 etcd\n"}, {"listening", "0100007F:094B 1 -1 etcd\n"},
		{"modules", "overlay maybe\n"}, {"sysctls", "kernel/pid_max rx 1\n"}, {"processes", strings.Repeat("p", 300)},
		{"kubelet-ca", "not base64\n"}, {"host-record", "unreadable\n"}, {"host-record", "{"}, {"host-record", `{"apiVersion":"hactl/v9"}`},
		{"host-record", `{"apiVersion":"hactl/v1","vipPriority":255}`}, {"host-record", `{"apiVersion":"hactl/v1","podSubnet":"nonsense"}`}, {"vip-priority", "0\n"}, {"vip-priority", "many\n"}, {"node-versions", "Kubernetes ;rm\n"}, {"programs", "etcd 3;rm\n"},
		{"processes", strings.Repeat("p\n", maxLines+1)}, {"clock-before", "now\n"}, {"nft", strings.Repeat("x", maxSection+1)},
	} {
		s := sections()
		s[c.field] = c.value
		_, err := parse(print(s), mark, window{})
		if err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s %.40q: got %v", c.field, c.value, err)
		}
		if err != nil && remote.Clean(err.Error()) != err.Error() {
			t.Errorf("%s: control characters in %q", c.field, err)
		}
	}
}

func TestMissingSectionNamesItsField(t *testing.T) {
	for field := range sections() {
		s := sections()
		delete(s, field)
		if _, err := parse(print(s), mark, window{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("without %s: %v", field, err)
		}
	}
}

func TestAnswerThatEndsEarlyOrGoesOnIsRefused(t *testing.T) {
	whole := print(sections())
	for name, out := range map[string][]byte{
		"empty":       nil,
		"cut off":     whole[:len(whole)/2],
		"without end": whole[:len(whole)-len("\n"+mark+" end\n")],
		"goes on":     append(slices.Clone(whole), []byte("\n"+mark+" uid\n0\n")...),
		"twice":       append([]byte("\n"+mark+" uid\n0\n"), whole...),
		"too large":   make([]byte, maxAnswer+1),
	} {
		if _, err := parse(out, mark, window{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A host's clock that is set while the script runs makes neither nonsense nor a
// small error.
func TestClockThatJumpsIsNotTrusted(t *testing.T) {
	s := sections()
	s["clock-before"], s["clock-after"] = "2000000000000000000\n", "1000000000100000000\n"
	f, err := parse(print(s), mark, during(1000000000000000000, 1000000000200000000))
	if err != nil {
		t.Fatal(err)
	}
	if f.ClockOffset > 1 || f.ClockOffset < -1 || f.ClockError != 100*time.Millisecond {
		t.Errorf("clock %.3f s ahead, give or take %s", f.ClockOffset, f.ClockError)
	}
}

func TestControlCharactersNeverComeThrough(t *testing.T) {
	s := sections()
	for _, field := range []string{"product-uuid", "init", "nft", "iptables", "etcd-cluster", "kubernetes-ca", "processes", "leftovers", "resolv-conf", "proxies", "time-sync"} {
		s[field] += "x\x1b]0;owned\a\x1b[2J\u202e\x00y\n"
	}
	f, err := parse(print(s), mark, window{})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", *f); remote.Clean(text) != text {
		t.Errorf("%q", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(print(sections())))
	for name, v := range sections() {
		s := sections()
		s[name] = "\x1b[31m" + strings.Repeat(v, 3)
		f.Add(string(print(s)))
	}
	f.Fuzz(func(t *testing.T, out string) {
		got, err := parse([]byte(out), mark, during(0, 1e9))
		if err != nil {
			if remote.Clean(err.Error()) != err.Error() {
				t.Errorf("control characters in the error %q", err)
			}
			return
		}
		if text := fmt.Sprintf("%+v", *got); remote.Clean(text) != text {
			t.Errorf("control characters came through: %q", text)
		}
	})
}

func TestVersionsOfANodeWithoutARecord(t *testing.T) {
	s := sections()
	s["node-versions"] = "Kubernetes v1.35.4\ncontainerd github.com/containerd/containerd/v2 2.2.1+unknown \netcd Version: 3.6.16\n"
	b, err := parseBrief(print(s), mark, window{})
	if want := (Versions{"v1.35.4", "v3.6.16", "v2.2.1"}); err != nil || b.Record.Versions != want {
		t.Errorf("got %v, want %v: %v", b.Record.Versions, want, err)
	}
}
