// Package facts looks at a host in one round trip, and hands what it saw to
// everything that decides by it.
package facts

import (
	"net/netip"
	"slices"
	"time"
)

// Brief is what every run decides by: what is wanted of a host depends on it.
type Brief struct {
	Arch       string // GOARCH spelling: "amd64", "arm64"; others as uname -m says
	CgroupV2   bool   // the kubelet's controllers are in the unified hierarchy
	CapBnd     uint64 // capability bounding set of PID 1
	PkgManager string // "apt", "dnf" or ""
	// NetworkManagers are programs of the host that set up interfaces, running or
	// not: "networkd", "NetworkManager".
	NetworkManagers []string

	Interfaces []Interface
	KubeletCA  string // PEM of the CA that the host's kubelet trusts, "" when it has joined no cluster
	Record     Record // zero when the host has none
	Owned      bool   // it has the record of what hactl made on it
	// Programs are the versions that the host's units and static pods name, by the name
	// of the program: "etcd", "containerd", "kubelet", "kube-apiserver". One that hactl
	// does not start is missing.
	Programs map[string]string
}

// Ours reports whether hactl has worked on the host before: it has a record, or a node
// runs there.
func (b *Brief) Ours() bool { return b.Record.Cluster != "" || b.KubeletCA != "" }

// Facts are what a host said of itself. All of it is untrusted input: [Gather]
// has bounded every text and removed its control characters.
type Facts struct {
	Brief
	Hostname    string
	MachineID   string // 32 hex digits; empty when the host has none yet
	BootID      string
	ProductUUID string // empty where the host has no DMI
	OS          string // ID of os-release: "debian", "rocky"
	OSLike      string // ID_LIKE of os-release
	OSVersion   string // VERSION_ID
	OSName      string // PRETTY_NAME
	Kernel      string // uname -r
	Init        string // name of PID 1: "systemd"
	UID         int    // whom the script ran as: 0 when sudo works
	CPUs        int
	MemoryBytes int64
	Swap        bool     // some swap is active
	SwapUnits   []string // units that make swap when the host boots, those of /etc/fstab and of zram included
	Routes      []Route
	ClockOffset float64       // seconds the host's clock is ahead of the operator's
	ClockError  time.Duration // how wrong ClockOffset can be: half of the time on the wire

	ResolvConf  bool // /etc/resolv.conf can be read
	Nameservers []netip.Addr
	Proxies     map[string]string // http_proxy, https_proxy, all_proxy, no_proxy; no passwords
	Disks       []Disk
	Listening   []Listener
	Processes   []string // names of the running processes, sorted
	Modules     map[string]ModuleState
	Sysctls     map[string]Sysctl // by dotted name
	SELinux     string            // "enforcing", "permissive" or "" when off
	AppArmor    bool
	// AppArmorParser says that apparmor_parser is there, which containerd needs to use
	// AppArmor.
	AppArmorParser bool
	// AutomaticReboot is when unattended-upgrades reboots the host by itself: "now", a time
	// such as "02:00", or "" when it does not.
	AutomaticReboot string
	TimeSync        string // what keeps the clock: "chronyd", "systemd-timesyncd"; "" when nothing seems to
	Firewall        Firewall
	Leftovers       []string          // files and folders of an earlier cluster, or of this one
	EtcdCluster     string            // token that the etcd member was established with
	CAs             map[string]string // PEM of "kubernetes", "front-proxy", "etcd" where the host has them
}

// Interface is a network interface with its addresses.
type Interface struct {
	Name     string
	MAC      string
	MTU      int
	Up       bool
	Prefixes []netip.Prefix
}

// Route is one entry of the main routing table.
type Route struct {
	Dest      netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Interface string
	Kernel    bool // made by the kernel for an address of the interface
	RA        bool // made by the kernel of a router advertisement
	Pods      bool // made by hactl for the pods of another node, see PodRoutes
}

// PodRoutes is the protocol number of the routes that hactl makes
// (RTPROT in rtnetlink(7); numbers from 5 on are for users).
const PodRoutes = "104"

// Disk is the file system that holds a folder, or would hold it once made.
type Disk struct {
	Dir       string // the folder that was asked for
	Mount     string // where the file system is mounted
	Type      string // "ext4"
	Options   []string
	SizeBytes int64
	FreeBytes int64
}

// Listener is a listening TCP socket.
type Listener struct {
	Addr    netip.AddrPort
	PID     int    // 0 when the holder was not found
	Process string // name of the holder, "" when not found
}

// ModuleState says whether the kernel has a module.
type ModuleState string

// The states of a module.
const (
	Loaded   ModuleState = "loaded"
	BuiltIn  ModuleState = "builtin"
	Loadable ModuleState = "loadable" // modprobe would find it
	Absent   ModuleState = "absent"
	Unknown  ModuleState = "unknown" // the host cannot tell
)

// Sysctl is a kernel parameter.
type Sysctl struct {
	Value    string
	Writable bool
}

// Firewall is what may drop packets that reach the host.
type Firewall struct {
	Services []string // "firewalld", "ufw", "nftables" where active
	Trusted  []string // sources and interfaces of firewalld's zone trusted; "all": it is the default zone
	Nft      string   // the chains that are hooked into input, as nft prints them
	NoNft    bool     // the host has no nft to ask
	IPTables string   // iptables -S INPUT, where nft does not show it
}

// InterfaceOf returns the interface that holds addr, or nil.
func (f *Brief) InterfaceOf(addr netip.Addr) *Interface {
	for i := range f.Interfaces {
		for _, p := range f.Interfaces[i].Prefixes {
			if p.Addr() == addr {
				return &f.Interfaces[i]
			}
		}
	}
	return nil
}

// Disk returns the disk that holds dir, or nil when it was not asked for.
func (f *Facts) Disk(dir string) *Disk {
	for i := range f.Disks {
		if f.Disks[i].Dir == dir {
			return &f.Disks[i]
		}
	}
	return nil
}

// Runs reports whether a process of that name runs. The kernel cuts names at
// 15 bytes.
func (f *Facts) Runs(name string) bool {
	_, ok := slices.BinarySearch(f.Processes, name[:min(len(name), 15)])
	return ok
}

// Has reports whether the disk is mounted with the option.
func (d *Disk) Has(option string) bool { return slices.Contains(d.Options, option) }
