package facts

import (
	"encoding/base64"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/remote"
)

var (
	hostnameForm  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	machineIDForm = regexp.MustCompile(`^([0-9a-f]{32}|uninitialized)?$`)
	bootIDForm    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	wordForm      = regexp.MustCompile(`^[A-Za-z0-9._+~-]{1,128}$`)
)

// parse turns a host's answer into facts, or names the field that is wrong.
func parse(out []byte, mark string, w window) (*Facts, error) {
	return read(out, mark, func(a *answer) *Facts { return a.facts(w) })
}

// parseBrief does the same with the shorter answer.
func parseBrief(out []byte, mark string, _ window) (*Brief, error) {
	return read(out, mark, (*answer).brief)
}

func read[T any](out []byte, mark string, fields func(*answer) *T) (*T, error) {
	a, err := split(out, mark)
	if err != nil {
		return nil, err
	}
	f := fields(a)
	if a.err != nil {
		return nil, a.err
	}
	return f, nil
}

func (a *answer) brief() *Brief {
	b := &Brief{Arch: goarch(a.pick("machine", wordForm))}
	cap, err := strconv.ParseUint(a.text("capbnd"), 16, 64)
	if err != nil {
		a.fail("capbnd", "%.80q is not a capability set", a.text("capbnd"))
	}
	b.CapBnd = cap
	// With controllers in version 1 a unified hierarchy may be mounted as well;
	// it then has none of the kubelet's.
	have := strings.Fields(remote.Clean(a.raw("cgroup")))
	b.CgroupV2 = slices.Contains(have, "cpu") && slices.Contains(have, "memory")
	for _, l := range a.lines("package-manager") {
		switch name := l[strings.LastIndexByte(l, '/')+1:]; {
		case b.PkgManager != "":
		case name == "apt-get":
			b.PkgManager = "apt"
		case name == "dnf":
			b.PkgManager = "dnf"
		}
	}
	b.NetworkManagers = a.words("network-managers")
	a.interfaces(b)
	a.belongs(b)
	return b
}

// belongs reads which cluster the host is of. A host of an older hactl has no
// record: the priority is then that of its keepalived.
func (a *answer) belongs(b *Brief) {
	ca, err := base64.StdEncoding.DecodeString(strings.TrimSpace(a.raw("kubelet-ca")))
	if err != nil {
		a.fail("kubelet-ca", "%v", err)
	}
	b.KubeletCA = string(ca)
	if b.Record, err = parseRecord(strings.TrimSpace(a.raw("host-record"))); err != nil {
		a.fail("host-record", "%s: %v", RecordFile, err)
	}
	b.Owned = a.text("owned") == "yes"
	a.nodeVersions(&b.Record.Versions)
	b.Programs = a.programs()
	if p := a.text("vip-priority"); p != "" {
		b.Record.VIPPriority = int(a.number("vip-priority", p, 1, 254))
	}
}

func (a *answer) facts(w window) *Facts {
	f := &Facts{
		Brief:       *a.brief(),
		Hostname:    a.pick("hostname", hostnameForm),
		MachineID:   strings.TrimPrefix(a.pick("machine-id", machineIDForm), "uninitialized"),
		BootID:      a.pick("boot-id", bootIDForm),
		ProductUUID: strings.ToLower(a.text("product-uuid")),
		Kernel:      a.pick("kernel", wordForm),
		Init:        a.text("init"),
		UID:         int(a.number("uid", a.text("uid"), 0, 1<<32)),
		CPUs:        int(a.number("cpus", a.text("cpus"), 1, 1<<16)),
		MemoryBytes: a.number("memory", a.text("memory"), 1, 1<<43) << 10,
		Swap:        a.text("swap") != "",
		SwapUnits:   a.words("swap-units"),
	}
	a.osRelease(f)
	a.modules(f)
	a.sysctls(f)
	for _, l := range a.lines("routes") {
		a.route(f, l)
	}
	a.resolver(f)
	a.clock(f, w)
	a.storage(f)
	a.sockets(f)
	a.security(f)
	a.leftovers(f)
	return f
}

func goarch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

// osRelease reads os-release(5). A host without it has no known system.
func (a *answer) osRelease(f *Facts) {
	into := map[string]*string{"ID": &f.OS, "ID_LIKE": &f.OSLike, "VERSION_ID": &f.OSVersion, "PRETTY_NAME": &f.OSName}
	for _, l := range a.lines("os-release") {
		key, v, _ := strings.Cut(l, "=")
		if p := into[key]; p != nil {
			*p = a.value("os-release", strings.Trim(strings.TrimSpace(v), `"'`))
		}
	}
}

func (a *answer) modules(f *Facts) {
	f.Modules = map[string]ModuleState{}
	for _, l := range a.lines("modules") {
		name, state, _ := strings.Cut(l, " ")
		switch s := ModuleState(state); s {
		case Loaded, BuiltIn, Loadable, Absent, Unknown:
			f.Modules[a.value("modules", name)] = s
		default:
			a.fail("modules", "%.80q makes no sense", l)
		}
	}
}

func (a *answer) sysctls(f *Facts) {
	f.Sysctls = map[string]Sysctl{}
	for _, l := range a.lines("sysctls") {
		w := strings.SplitN(l, " ", 3)
		if len(w) != 3 || w[1] != "rw" && w[1] != "ro" {
			a.fail("sysctls", "%.80q makes no sense", l)
			return
		}
		key := strings.ReplaceAll(a.value("sysctls", w[0]), "/", ".")
		f.Sysctls[key] = Sysctl{Value: a.value("sysctls", w[2]), Writable: w[1] == "rw"}
	}
}

// clock estimates how far the host's clock is ahead, as NTP does: the time that
// the script took on the host does not count as time on the wire.
func (a *answer) clock(f *Facts, w window) {
	before, after := a.instant("clock-before"), a.instant("clock-after")
	if a.err != nil {
		return
	}
	there := after.Sub(before)
	wire := w.to.Sub(w.from) - there
	if there < 0 || wire < 0 {
		// The host's clock was set while the script ran; all that is known is
		// that it stood at after before the answer came.
		there, wire = 0, w.to.Sub(w.from)
		before = after
	}
	f.ClockOffset = (before.Sub(w.from) + after.Sub(w.to)).Seconds() / 2
	f.ClockError = wire / 2
}

func (a *answer) instant(field string) time.Time {
	return time.Unix(0, a.number(field, a.text(field), 0, 1<<62))
}

// automaticReboot reads lines of apt-config dump.
func automaticReboot(lines []string) string {
	on, at := false, "now"
	for _, l := range lines {
		key, value, _ := strings.Cut(strings.TrimSuffix(l, ";"), " ")
		value = strings.Trim(value, `"`)
		switch key {
		case "Unattended-Upgrade::Automatic-Reboot":
			on = slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(value))
		case "Unattended-Upgrade::Automatic-Reboot-Time":
			at = value
		}
	}
	if !on {
		return ""
	}
	return at
}

func (a *answer) security(f *Facts) {
	switch a.text("selinux") {
	case "1":
		f.SELinux = "enforcing"
	case "0":
		f.SELinux = "permissive"
	}
	f.AppArmor = a.text("apparmor") == "Y"
	f.AppArmorParser = a.text("apparmor-parser") != ""
	f.AutomaticReboot = automaticReboot(a.lines("automatic-reboot"))
	for _, l := range a.lines("processes") {
		f.Processes = append(f.Processes, a.value("processes", l))
	}
	slices.Sort(f.Processes)
	f.Processes = slices.Compact(f.Processes)
	f.TimeSync = a.text("time-sync")
	for _, p := range []string{"chronyd", "ntpd", "ntpsec", "openntpd", "ptp4l"} {
		if f.TimeSync == "" && f.Runs(p) {
			f.TimeSync = p
		}
	}
	for _, l := range a.lines("firewall") {
		if s, ok := strings.CutPrefix(l, "service "); ok {
			f.Firewall.Services = append(f.Firewall.Services, a.value("firewall", s))
		}
		if s, ok := strings.CutPrefix(l, "trusts "); ok {
			f.Firewall.Trusted = append(f.Firewall.Trusted, strings.Fields(s)...)
		}
	}
	f.Firewall.Nft = a.block("nft")
	if f.Firewall.Nft == "no nft" {
		f.Firewall.Nft, f.Firewall.NoNft = "", true
	}
	f.Firewall.IPTables = a.block("iptables")
}

func (a *answer) leftovers(f *Facts) {
	for _, l := range a.lines("leftovers") {
		f.Leftovers = append(f.Leftovers, a.value("leftovers", l))
	}
	f.EtcdCluster = a.text("etcd-cluster")
	f.CAs = map[string]string{}
	for _, name := range []string{"kubernetes", "front-proxy", "etcd"} {
		if pem := a.block(name + "-ca"); pem != "" {
			f.CAs[name] = pem
		}
	}
}

func (a *answer) storage(f *Facts) {
	for _, l := range a.lines("disks") {
		// size free type options mount on dir; the last two may hold spaces.
		w := strings.SplitN(l, " ", 5)
		if len(w) != 5 {
			a.fail("disks", "%.80q makes no sense", l)
			return
		}
		mount, dir, _ := strings.Cut(w[4], " on ")
		f.Disks = append(f.Disks, Disk{
			Dir: a.value("disks", dir), Mount: a.value("disks", mount),
			Type: a.value("disks", w[2]), Options: strings.Split(plain(w[3]), ","),
			SizeBytes: a.number("disks", w[0], 0, 1<<50) << 10,
			FreeBytes: a.number("disks", w[1], -1<<50, 1<<50) << 10,
		})
	}
}

func (a *answer) resolver(f *Facts) {
	for i, l := range a.lines("resolv-conf") {
		w := strings.Fields(l)
		switch {
		case i == 0:
			f.ResolvConf = l == "present"
		case len(w) > 1 && w[0] == "nameserver":
			if addr, err := netip.ParseAddr(w[1]); err == nil {
				f.Nameservers = append(f.Nameservers, addr)
			}
		}
	}
	f.Proxies = map[string]string{}
	for _, l := range a.lines("proxies") {
		key, v, ok := strings.Cut(l, "=")
		if !ok {
			continue
		}
		key = strings.ToLower(a.value("proxies", key))
		// A long no_proxy is cut rather than refused: people do that.
		v = plain(strings.Trim(v, `"'`))
		f.Proxies[key] = v[:min(len(v), 4096)]
	}
}

// programs reads which builds the host's units and static pods name.
func (a *answer) programs() map[string]string {
	out := map[string]string{}
	for _, l := range a.lines("programs") {
		name, version, ok := strings.Cut(remote.Clean(l), " ")
		if !ok || !wordForm.MatchString(name) || !wordForm.MatchString(version) || version[0] != 'v' {
			a.fail("programs", "%.80q is not a program and its version", l)
			continue
		}
		out[name] = version
	}
	return out
}

// nodeVersions reads what the programs of a node say of themselves, where the host
// has no record of it.
func (a *answer) nodeVersions(v *Versions) {
	for _, l := range a.lines("node-versions") {
		words := strings.Fields(remote.Clean(l))
		if len(words) == 0 {
			continue
		}
		last := "v" + strings.TrimPrefix(words[len(words)-1], "v")
		switch {
		case strings.HasPrefix(l, "Kubernetes "):
			v.Kubernetes = last
		case strings.HasPrefix(l, "etcd Version:"):
			v.Etcd = last
		case strings.HasPrefix(l, "containerd ") && len(words) > 2: // containerd MODULE VERSION REVISION
			v.Containerd, _, _ = strings.Cut("v"+strings.TrimPrefix(words[2], "v"), "+")
		}
	}
	if !v.valid() {
		a.fail("node-versions", "%.80q are not versions", a.text("node-versions"))
	}
}
