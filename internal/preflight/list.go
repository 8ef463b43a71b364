package preflight

// All is every check, in the order in which a report shows them. Ids are stable:
// people keep them in scripts.
var All = []Check{
	// Can the host be worked on at all?
	{"reachable", "every host answers", Error, "see the error; hactl trust HOST after a host was rebuilt", reachable},
	{"root", "commands run as root, by login or by sudo", Error, "log in as root, or give the user sudo rights and set ssh.sudo", root},
	{"os", "the operating system is one that hactl sets up", Error, "use Debian 11, Ubuntu 20.04, an Enterprise Linux 8 or later, with systemd", osSupported},
	{"architecture", "the architecture is amd64 or arm64, and the bundle's", Error, "use hosts of one architecture and a bundle made for it: hactl bundle --arch", architecture},
	{"capabilities", "PID 1 has the rights that containers need", Error, "if this host is a container, start it privileged; or use a VM", capabilities},

	// Is it strong enough?
	{"cpus", "masters have 2 CPUs", Error, "give the host 2 CPUs or more", cpus},
	{"memory", "masters have 1700 MiB of memory", Error, "give the host 2 GiB or more", memory},
	{"disk-space", "there is room for etcd and for containers", Error, "free space, or mount a larger disk there", diskSpace},
	{"disk-latency", "99 of 100 synchronous writes take less than 10 ms", Warning, "put etcd's data on a local SSD; a slow disk makes leaders change under load", diskLatency},
	{"mount-options", "file systems allow what is put on them", Error, "remount the file system without that option and mend /etc/fstab", mountOptions},
	{"swap", "swap is off", Warning, "nothing to do: hactl up turns swap off, comments it out in /etc/fstab and masks its units", swap},

	// Does the kernel have what is needed?
	{"kernel-version", "the kernel is recent enough", Error, "install a newer kernel", kernelVersion},
	{"kernel-modules", "the kernel has the modules of containers and pod networks", Error, "install the kernel's extra modules package, or another kernel", kernelModules},
	{"sysctls", "kernel parameters have, or can be given, the needed values", Error, "set it in /etc/sysctl.d and reboot, or, if this host is a container, set it on the machine that runs it", sysctls},
	{"cgroup", "the kubelet's controllers are in cgroup v2", Warning, "boot with systemd.unified_cgroup_hierarchy=1; Kubernetes is dropping cgroup v1", cgroup},
	{"apparmor", "containerd can use the kernel's AppArmor", Warning, "apt-get install apparmor, then restart containerd", appArmor},
	{"selinux", "SELinux lets containers run", Warning, "install container-selinux, or setenforce 0 until it is", selinux},

	// Is each host itself, and no other?
	{"hostname", "no host has the name of another", Error, "compare the addresses in the inventory with the hosts", hostname},
	{"machine-id", "machine ids are unique", Error, "on a cloned host: rm /etc/machine-id; systemd-machine-id-setup; reboot", machineID},
	{"product-uuid", "product UUIDs are unique", Warning, "give the cloned virtual machine a UUID of its own in the hypervisor", productUUID},
	{"mac-address", "MAC addresses are unique", Error, "give the cloned virtual machine a MAC address of its own in the hypervisor", macAddress},

	// What does the host do by itself?
	{"automatic-reboot", "no host reboots by itself", Warning, "set Unattended-Upgrade::Automatic-Reboot to \"false\" and reboot with hactl reboot --if-required", automaticReboot},

	// Time.
	{"clock-skew", "clocks agree within half a second", Warning, "start chrony or systemd-timesyncd on every host", clockSkew},
	{"time-sync", "something keeps the clock", Warning, "apt-get install chrony, or dnf install chrony", timeSync},

	// The network of each host.
	{"private-address", "the private address is on an interface that is up", Error, "correct privateAddress or interface of the host in the inventory", privateAddress},
	{"one-segment", "hosts share a segment where the pod network needs it", Error, "set network.preset to flannel, or put the hosts into one segment", oneSegment},
	{"mtu", "hosts have the same MTU", Warning, "set the same MTU on the interfaces of all hosts", mtu},
	{"default-route", "there is a default route", Warning, "add one: without it a host cannot reach service addresses", defaultRoute},
	{"networks", "pod and service networks lie outside of what the hosts have", Error, "set network.podSubnet or network.serviceSubnet to a network that is used nowhere", networks},
	{"resolv-conf", "/etc/resolv.conf exists and names a server", Error, "write /etc/resolv.conf: the kubelet fails every pod without it", resolvConf},
	{"proxy", "proxies are not used for the cluster's own addresses", Warning, "add them to no_proxy", proxy},
	{"firewall", "no firewall on the host is in the way", Warning, "open the ports between the hosts and allow IP protocol 112 between masters", firewall},

	// The network between hosts.
	{"ports-free", "the ports of the cluster are free, or its own", Error, "stop what holds the port", portsFree},
	{"ports-reachable", "hosts reach one another's ports", Error, "open the port in the firewalls of and between the hosts", portsReachable},
	{"peer-rtt", "etcd's timers fit the round trip between masters", Warning, "set etcd.heartbeatInterval to 0.5 to 1.5 times the round trip, etcd.electionTimeout to at least ten times", peerRTT},
	{"vip-network", "the VIP is in the network of every master", Error, "write an address of the masters' network, or name the interface in vip.interface", vipNetwork},
	{"vip-unused", "no machine but a master has the VIP", Error, "write another address, or find the machine that answers for it", vipUnused},
	{"vrid", "no other cluster uses the virtual router id", Warning, "set vip.virtualRouterID to another number", vridUnused},
	{"vrrp", "VRRP (IP protocol 112) passes between masters", Warning, "allow IP protocol 112 between the masters", vrrpPasses},

	// What was here before?
	{othersID, "nothing on the hosts belongs to others that hactl would touch", Error, "see docs/hosts-as-they-are.md", belongsToOthers},
	{"earlier-cluster", "there is nothing of another cluster", Error, "use fresh hosts; or restore the PKI store of that cluster to go on with it", earlierCluster},
	{"versions", "what runs can be brought to the wanted versions", Error, "go up one minor version at a time, and never down", versionSkew},
}
