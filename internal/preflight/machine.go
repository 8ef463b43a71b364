package preflight

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/facts"
	"hactl/internal/remote"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

func reachable(_ context.Context, c *Cluster) []Finding {
	var out []Finding
	for _, h := range c.all() {
		err := c.failed[h.Name]
		if c.Hosts[h.Name] == nil {
			if err = c.Down[h.Name]; err == nil {
				err = fmt.Errorf("no connection")
			}
		}
		if err == nil {
			continue
		}
		f := says("%v", err).on(h.Name)
		if hint := remote.HintOf(err); hint != "" {
			f.Hint = hint
		}
		out = append(out, f)
	}
	return out
}

func root(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if h.Facts.UID != 0 {
			return one(says("commands run as user id %d", h.Facts.UID))
		}
		return nil
	})
}

// oldest releases that hactl sets up, by ID of os-release.
var oldest = map[string]int{"debian": 11, "ubuntu": 20, "rhel": 8, "rocky": 8, "almalinux": 8, "centos": 8, "ol": 8, "fedora": 40}

func osSupported(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		f := h.Facts
		name := f.OSName
		if name == "" {
			name = "an operating system without a name"
		}
		least, known := oldest[f.OS]
		major, err := strconv.Atoi(strings.SplitN(f.OSVersion, ".", 2)[0])
		switch {
		case f.Init != "systemd":
			return one(says("PID 1 is %q, not systemd", f.Init))
		case f.PkgManager == "" && c.Inv.Artifacts.OSPackages != "present":
			return one(says("%s has neither apt nor dnf", name).do("install the packages yourself and set artifacts.osPackages to present"))
		case known && err == nil && major < least:
			return one(says("%s is too old: at least %s %d", name, f.OS, least))
		case !known:
			return one(says("%s is none that hactl was tried on", name).as(Warning))
		}
		return nil
	})
}

func architecture(_ context.Context, c *Cluster) []Finding {
	want := c.Arch
	return c.each(func(h host) []Finding {
		a := h.Facts.Arch
		switch {
		case a != "amd64" && a != "arm64":
			return one(says("the architecture is %s", a))
		case want == "":
			want = a // without a bundle, the first host decides
		case a != want:
			return one(says("the architecture is %s, that of the bundle or of the hosts before is %s", a, want))
		}
		return nil
	})
}

func capabilities(_ context.Context, c *Cluster) []Finding {
	needed := []struct {
		bit  int
		name string
	}{{0, "CAP_CHOWN"}, {12, "CAP_NET_ADMIN"}, {13, "CAP_NET_RAW"}, {19, "CAP_SYS_PTRACE"}, {21, "CAP_SYS_ADMIN"}}
	return c.each(func(h host) []Finding {
		var missing []string
		for _, n := range needed {
			if h.Facts.CapBnd&(1<<n.bit) == 0 {
				missing = append(missing, n.name)
			}
		}
		if len(missing) > 0 {
			return one(says("PID 1 lacks %s", strings.Join(missing, ", ")))
		}
		return nil
	})
}

func cpus(_ context.Context, c *Cluster) []Finding {
	return c.eachMaster(func(h host) []Finding {
		if h.Facts.CPUs < 2 {
			return one(says("%d CPU", h.Facts.CPUs))
		}
		return nil
	})
}

// memory: the bound is kubeadm's own.
func memory(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		have := h.Facts.MemoryBytes
		switch {
		case h.master() && have < 1700*mib:
			return one(says("%d MiB of memory", have/mib))
		case have < 700*mib:
			return one(says("%d MiB of memory leave little for pods", have/mib).as(Warning))
		}
		return nil
	})
}

// The kubelet's thresholds, of a disk as a whole: below them it evicts pods, and
// starts none (evictionHard of KubeletConfiguration, unless the inventory has others).
const (
	nodeThreshold  = 10 // per cent that are available to pods, in /var/lib/kubelet
	imageThreshold = 15 // and to images, in /var/lib/containerd
	nearThreshold  = 5  // per cent above them that are soon used
)

// threshold is what the inventory says in per cent, or usual where it says nothing of
// thresholds; 0 where it has none for the signal, or an amount.
func (c *Cluster) threshold(signal string, usual int64) int64 {
	hard := c.Inv.Kubernetes.Kubelet.EvictionHard
	if len(hard) == 0 {
		return usual
	}
	share, ok := strings.CutSuffix(hard[signal], "%")
	percent, err := strconv.ParseFloat(share, 64)
	if !ok || err != nil {
		return 0
	}
	return int64(percent)
}

// evictions are disks that the kubelet would call full, however much is free there.
func (c *Cluster) evictions(h host) (out []Finding) {
	for _, d := range []struct {
		dir   string
		least int64
	}{{"/var/lib/kubelet", c.threshold("nodefs.available", nodeThreshold)}, {"/var/lib/containerd", c.threshold("imagefs.available", imageThreshold)}} {
		disk := h.Facts.Disk(d.dir)
		if disk == nil || disk.SizeBytes <= 0 {
			continue // said elsewhere
		}
		percent := disk.FreeBytes * 100 / disk.SizeBytes
		text := says("%d %% of %s are free (%s) for %s: the kubelet evicts pods below %d %%", percent, disk.Mount, size(disk.FreeBytes), d.dir, d.least)
		switch {
		case percent < d.least:
			out = append(out, text.as(Error).do("free space there, or mount another disk"))
		case d.least > 0 && percent < d.least+nearThreshold:
			out = append(out, text.as(Warning).do("free space there, or mount another disk"))
		}
	}
	return out
}

func diskSpace(_ context.Context, c *Cluster) []Finding {
	quota := c.Inv.Etcd.QuotaBackendBytes
	return c.each(func(h host) []Finding {
		var out []Finding
		room := func(dir string, least, better int64) {
			d := h.Facts.Disk(dir)
			switch {
			case d == nil:
				out = append(out, unknown("nothing is known of the disk of %s", dir)...)
			case d.FreeBytes < least:
				out = append(out, says("%s free on %s for %s, needed are %s", size(d.FreeBytes), d.Mount, dir, size(least)))
			case d.FreeBytes < better:
				out = append(out, says("%s free on %s for %s, better are %s", size(d.FreeBytes), d.Mount, dir, size(better)).as(Warning))
			}
		}
		if h.master() {
			room(c.Inv.Etcd.DataDir, gib, max(gib, quota/4))
		}
		room("/var/lib/containerd", 3*gib, 10*gib)
		return append(out, c.evictions(h)...)
	})
}

func size(n int64) string {
	if n < gib {
		return fmt.Sprintf("%d MiB", n/mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/gib)
}

// slowWrite is etcd's own bound for its log (etcd's documentation: p99 of
// wal_fsync_duration_seconds below 10 ms).
const slowWrite = 10 * time.Millisecond

func diskLatency(_ context.Context, c *Cluster) []Finding {
	return c.eachMaster(func(h host) []Finding {
		switch {
		case h.Probe == nil || len(h.Probe.Writes) == 0:
			return unknown("writes to %s could not be measured", c.Inv.Etcd.DataDir)
		case h.Probe.p99() >= slowWrite:
			n := len(h.Probe.Writes)
			return one(says("%s: 99%% of %d synchronous writes took up to %s, half of them %s", c.Inv.Etcd.DataDir, n,
				h.Probe.p99().Round(100*time.Microsecond), h.Probe.Writes[n/2].Round(100*time.Microsecond)))
		}
		return nil
	})
}

func mountOptions(_ context.Context, c *Cluster) []Finding {
	execDirs := []string{"/opt/hactl", "/opt/cni", "/var/lib/containerd"}
	return c.each(func(h host) []Finding {
		dirs := append(slices.Clone(execDirs), "/var/lib/kubelet", "/etc/kubernetes")
		if h.master() {
			dirs = append(dirs, c.Inv.Etcd.DataDir)
		}
		var out []Finding
		for _, dir := range dirs {
			d := h.Facts.Disk(dir)
			switch {
			case d == nil:
				out = append(out, unknown("nothing is known of the file system of %s", dir)...)
			case d.Has("ro"):
				out = append(out, says("%s is on %s, which is read-only", dir, d.Mount))
			case d.Has("noexec") && slices.Contains(execDirs, dir):
				out = append(out, says("%s is on %s, where no program may be run (noexec)", dir, d.Mount))
			case d.Has("nosuid") && dir == "/var/lib/containerd":
				out = append(out, says("%s is on %s with nosuid: sudo and ping fail in containers", dir, d.Mount).as(Warning))
			}
		}
		return out
	})
}

func swap(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		var out []Finding
		if h.Facts.Swap {
			out = append(out, says("swap is on"))
		}
		if units := h.Facts.SwapUnits; len(units) > 0 {
			out = append(out, says("swap comes back when the host boots: %s", strings.Join(units, ", ")))
		}
		return out
	})
}

// kernelVersion: kubeadm 1.36 asks for 4.19, kube-proxy's nftables mode for 5.13.
func kernelVersion(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		var major, minor int
		if n, _ := fmt.Sscanf(h.Facts.Kernel, "%d.%d", &major, &minor); n != 2 {
			return unknown("the kernel calls itself %q", h.Facts.Kernel)
		}
		switch v := major*1000 + minor; {
		case v < 4019:
			return one(says("kernel %s is older than 4.19", h.Facts.Kernel))
		case v < 5013 && c.Inv.Network.ProxyMode == "nftables":
			return one(says("kernel %s is older than 5.13, which kube-proxy's nftables mode needs", h.Facts.Kernel).do("set network.proxyMode to iptables, or install a newer kernel"))
		}
		return nil
	})
}

func kernelModules(_ context.Context, c *Cluster) []Finding {
	needed := []string{"overlay", "br_netfilter", "nf_conntrack", "bridge", "veth"}
	if c.Inv.Network.ProxyMode == "nftables" {
		needed = append(needed, "nf_tables")
	}
	if c.Inv.Network.Preset == "flannel" {
		needed = append(needed, "vxlan")
	}
	return c.each(func(h host) []Finding {
		var absent, unsure []string
		for _, m := range needed {
			switch h.Facts.Modules[m] {
			case facts.Absent:
				absent = append(absent, m)
			case facts.Loaded, facts.BuiltIn, facts.Loadable:
			default:
				unsure = append(unsure, m)
			}
		}
		var out []Finding
		if len(absent) > 0 {
			out = append(out, says("the kernel has no %s", strings.Join(absent, ", ")))
		}
		if len(unsure) > 0 {
			out = append(out, unknown("the host cannot tell whether its kernel has %s", strings.Join(unsure, ", "))...)
		}
		return out
	})
}

func sysctls(_ context.Context, c *Cluster) []Finding {
	set := []string{"net.ipv4.ip_forward"} // by hactl up; the bridge's appear with br_netfilter
	if c.Inv.IPv6() {
		set = append(set, "net.ipv6.conf.all.forwarding")
	}
	return c.each(func(h host) []Finding {
		var out []Finding
		for _, k := range append(slices.Clone(set), "net.bridge.bridge-nf-call-iptables") {
			s, there := h.Facts.Sysctls[k]
			switch {
			case !there && slices.Contains(set, k):
				out = append(out, says("the kernel has no %s", k))
			case there && s.Value != "1" && !s.Writable:
				out = append(out, says("%s is %s and cannot be changed on this host", k, s.Value))
			}
		}
		if c.Inv.IPv6() && h.Facts.Sysctls["net.ipv6.conf.all.disable_ipv6"].Value == "1" {
			out = append(out, says("IPv6 is switched off (net.ipv6.conf.all.disable_ipv6 is 1)"))
		}
		if n, err := strconv.Atoi(h.Facts.Sysctls["fs.inotify.max_user_instances"].Value); err == nil && n < 128 {
			out = append(out, says("fs.inotify.max_user_instances is %d: kubelet and containers run out of watches", n).as(Warning))
		}
		return out
	})
}

func cgroup(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if !h.Facts.CgroupV2 {
			return one(says("the controllers are in cgroup v1"))
		}
		return nil
	})
}

// appArmor: without apparmor_parser containerd takes AppArmor for absent. Pods run without
// a profile then, and those that name one do not start.
func appArmor(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if h.Facts.AppArmor && !h.Facts.AppArmorParser {
			return one(says("the kernel has AppArmor and apparmor_parser is missing: pods run without a profile, and those that name one do not start"))
		}
		return nil
	})
}

// automaticReboot: hosts with the same settings reboot in the same minute, masters
// included.
func automaticReboot(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if at := h.Facts.AutomaticReboot; at != "" {
			return one(says("unattended-upgrades reboots it by itself (%s): hosts with the same settings go down in the same minute", at))
		}
		return nil
	})
}

func selinux(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if h.Facts.SELinux == "enforcing" {
			return one(says("SELinux is enforcing; hactl installs no policy for containers"))
		}
		return nil
	})
}
