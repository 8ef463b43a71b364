package host

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// OS returns the steps that set up the operating system, in order.
func (h Host) OS() []plan.Step {
	steps := []plan.Step{
		h.hostname(), h.cloudInit(), h.needrestart(), h.packages(),
		plan.File{ID: h.id("modules-file"), Host: h.Host.Name, Path: "/etc/modules-load.d/hactl.conf", Content: []byte("overlay\nbr_netfilter\n")}.Step(),
		h.modules(),
		plan.File{ID: h.id("sysctl-file"), Host: h.Host.Name, Path: "/etc/sysctl.d/90-hactl.conf", Content: []byte(h.sysctlFile())}.Step(),
		h.sysctls(), h.swap(),
	}
	if h.master() {
		steps = append(steps, h.etcdUser())
	}
	return steps
}

func (h Host) hostname() plan.Step {
	name := remote.Quote(h.Host.Name)
	return plan.Script{
		ID: h.id("hostname"), Host: h.Host.Name, Title: "hostname",
		Look: `n=$(cat /proc/sys/kernel/hostname) || exit 1
f=$(cat /etc/hostname 2>/dev/null) || f=
[ "$n" = ` + name + ` ] && [ "$f" = ` + name + ` ] && { echo ok; exit 0; }
grep -qsw ` + name + ` /etc/hosts && h= || h=", not in /etc/hosts"
echo "is $n, on disk ${f:-nothing}$h"`,
		Op: plan.Update, Summary: "set the hostname to " + h.Host.Name, Made: h.madeHostname,
		// The line that no look asks about comes first.
		Run: `grep -qsw ` + name + ` /etc/hosts || { printf '%s\n' ` + remote.Quote(h.hostsLine()) + ` >>/etc/hosts && sync /etc/hosts; } || exit
printf '%s\n' ` + name + ` >/etc/.hostname.hactl && sync /etc/.hostname.hactl && mv /etc/.hostname.hactl /etc/hostname &&
printf '%s' ` + name + ` >/proc/sys/kernel/hostname`,
	}.Step()
}

// hostsLine is the line of /etc/hosts by which a host knows its own name.
func (h Host) hostsLine() string { return "127.0.1.1 " + h.Host.Name }

// madeHostname is from "is NAME, on disk NAME[, not in /etc/hosts]".
func (h Host) madeHostname(answer string) []plan.Made {
	names, missing := strings.CutSuffix(answer, ", not in /etc/hosts")
	running, disk, _ := strings.Cut(strings.TrimPrefix(names, "is "), ", on disk ")
	made := []plan.Made{{Kind: "hostname", Name: h.Host.Name, Former: plan.Former{Value: running + " " + disk}}}
	if missing {
		made = append(made, plan.Made{Kind: "line", Name: h.hostsLine(), Target: "/etc/hosts", Former: plan.Former{Absent: true}})
	}
	return made
}

// packages that the cluster calls by name on a host, with what for.
var packages = []struct {
	apt, dnf string
	// With neither it is wanted everywhere, else where one of them holds.
	masters bool // on masters
	mirror  bool // where hosts fetch from a mirror
}{
	{apt: "runc", dnf: "runc"},                              // containerd starts containers with it
	{apt: "conntrack", dnf: "conntrack-tools"},              // kube-proxy, kubeadm's preflight
	{apt: "iptables", dnf: "iptables-nft"},                  // port mappings of the CNI plugins
	{apt: "nftables", dnf: "nftables"},                      // kube-proxy's mode here; the drill's way to cut a host off
	{apt: "ethtool", dnf: "ethtool"},                        // kubeadm's preflight
	{apt: "socat", dnf: "socat"},                            // kubectl port-forward
	{apt: "curl", dnf: "curl", masters: true, mirror: true}, // the check script; to fetch with
	{apt: "ca-certificates", dnf: "ca-certificates", mirror: true},
	{apt: "keepalived", dnf: "keepalived", masters: true},
}

// Packages lists the operating system packages a host of that role needs, as
// the package manager ("apt" or "dnf") names them. mirror says whether it fetches
// artifacts from one.
func Packages(manager string, role inventory.Role, mirror bool) []string {
	var out []string
	for _, p := range packages {
		here := !p.masters && !p.mirror || p.masters && role == inventory.ControlPlane || p.mirror && mirror
		switch {
		case !here:
		case manager == "dnf":
			out = append(out, p.dnf)
		default:
			out = append(out, p.apt)
		}
	}
	return out
}

func (h Host) packages() plan.Step {
	s := plan.Script{
		ID: h.id("packages"), Host: h.Host.Name, Title: "OS packages", Op: plan.Create,
		Timeout: 10 * time.Minute, Stream: true, Acts: plan.EachOf, Made: added("package"),
	}
	want := strings.Join(Packages(h.Facts.PkgManager, h.Host.Role, h.fetches()), " ")
	s.Summary = "install OS packages"
	s.Look, s.Run = packageScripts(h.Facts.PkgManager, want, h.mayRemove())
	if h.Inv.Artifacts.OSPackages == "present" {
		s.Summary = "expect OS packages on the host"
		s.Run = "echo 'packages are missing and artifacts.osPackages is present' >&2; exit 1"
	}
	return s.Step()
}

// holdKeepalived keeps a keepalived that is about to be installed from being started.
func holdKeepalived(want string) string {
	if !slices.Contains(strings.Fields(want), "keepalived") {
		return ""
	}
	return `if [ -s /etc/keepalived/keepalived.conf ] && [ ! -e /usr/sbin/keepalived ]; then
systemctl mask --runtime --quiet keepalived.service
trap 'systemctl unmask --runtime --quiet keepalived.service' EXIT
fi
`
}

// mayRemove are the packages that apt may remove.
func (h Host) mayRemove() (out []string) {
	for _, w := range h.TakeOver {
		if name, ok := strings.CutPrefix(w, "package:"); ok {
			out = append(out, name)
		}
	}
	return out
}

// packageScripts renders the look and the installation for a package manager.
func packageScripts(manager, want string, mayRemove []string) (look, run string) {
	if manager == "dnf" {
		return dnfScripts(want)
	}
	return `m=$(apt_lack ` + want + `)
[ -z "$m" ] && echo ok || echo "missing:$m"`,
		// Services are configured before they are started: the packages must
		// not start them with their own defaults. Who has one of the locks, such as a
		// host's first upgrade of itself, is waited for. apt does so by itself for
		// dpkg's lock alone, not for those of its lists and archives. apt says whose process
		// has it. needrestart, which Ubuntu runs after every apt, would restart services.
		`export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
end=$(($(date +%s) + ` + wait.Times(480) + `))
said=
patiently() {
until e=$("$@" 2>&1); do
case $e in *locked*|*"Could not get lock"*|*"Unable to lock"*) [ "$(date +%s)" -ge $end ] || { waiting; sleep 1; continue; }; echo "apt got no lock within ` + wait.Times(480) + ` s" >&2;; esac
printf '%s\n' "$e" >&2; return 1
done
printf '%s\n' "$e"
}
waiting() { # says once who has the lock; dpkg gives the pid alone
l=$(printf '%s\n' "$e" | grep -m 1 -i lock); p=${l##* with pid }; n=
[ "$p" = "$l" ] || { read -r n <"/proc/${p%%[!0-9]*}/comm"; } 2>/dev/null
[ "$l" = "$said" ] || echo "waiting: $l${n:+ ($n)}"
said=$l
}
may=' ` + strings.Join(mayRemove, " ") + ` '
refused() { # what apt would remove and was not permitted
apt-get -s -y --no-install-recommends install ` + want + ` 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' | while read -r p; do
case $may in *" $p "*) ;; *) printf ' %s' "$p" ;; esac; done
}
install() {
keep=--no-remove; [ "$may" = '  ' ] || [ -n "$(refused)" ] || keep=
patiently apt-get -y $keep --no-install-recommends -o Dpkg::Options::=--force-confold install ` + want + `
}
patiently dpkg --configure -a || exit
# Debian starts a keepalived that finds a configuration.
` + holdKeepalived(want) + `install && exit
# A source that does not answer is no matter as long as another has the packages.
patiently apt-get update || echo "not every package source answers: going on with the others"
install && exit
r=$(refused); [ -z "$r" ] || echo "apt would remove$r to install ` + want + `; permit it: $(for p in $r; do printf -- '--take-over package:%s ' "$p"; done)" >&2
exit 1`
}

// dnfScripts are those for dnf. Only what is missing is asked for.
func dnfScripts(want string) (look, run string) {
	missing := "m=$(dnf_lack " + want + ")\n"
	return missing + `[ -z "$m" ] && echo ok || echo "missing:$m"`,
		// A configuration that comes with the package is removed: it would count as
		// a change since the plan was made.
		`c=/etc/keepalived/keepalived.conf; had=; [ ! -e $c ] || had=1
` + missing + `# shellcheck disable=SC2086 # words are wanted
dnf install -y --setopt=install_weak_deps=False --setopt='*.skip_if_unavailable=True' $m && { [ -n "$had" ] || rm -f $c; }`
}

func (h Host) modules() plan.Step {
	return plan.Script{
		ID: h.id("modules"), Host: h.Host.Name, Title: "kernel modules",
		// Built into the kernel counts as loaded.
		Look: `m=; grep -qw overlay /proc/filesystems || m="$m overlay"
[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || m="$m br_netfilter"
[ -z "$m" ] && echo ok || echo "not loaded:$m"`,
		Op: plan.Start, Summary: "load kernel modules", Acts: plan.EachOf, Made: added("module"),
		Run: "modprobe -a overlay br_netfilter",
	}.Step()
}

// sysctl is one kernel parameter and its wanted value.
type sysctl struct{ key, value string }

// sysctlList is what kube-proxy, the pod network and the kubelet rely on.
func (h Host) sysctlList() []sysctl {
	l := []sysctl{
		{"net.ipv4.ip_forward", "1"},
		{"net.bridge.bridge-nf-call-iptables", "1"},
	}
	if h.Inv.IPv6() {
		l = append(l, sysctl{"net.ipv6.conf.all.forwarding", "1"}, sysctl{"net.bridge.bridge-nf-call-ip6tables", "1"})
	}
	return l
}

func (h Host) sysctlFile() string {
	var b strings.Builder
	b.WriteString("# Written by hactl; changes made here are seen as drift and undone.\n")
	for _, s := range h.sysctlList() {
		fmt.Fprintf(&b, "%s = %s\n", s.key, s.value)
	}
	return b.String()
}

func (h Host) sysctls() plan.Step {
	look, run := "m=\n", ""
	for _, s := range h.sysctlList() {
		p := "/proc/sys/" + strings.ReplaceAll(s.key, ".", "/")
		look += fmt.Sprintf("v=$(cat %s 2>/dev/null) || v=absent; [ \"$v\" = %s ] || m=\"$m %s=$v\"\n", p, s.value, s.key)
		run += fmt.Sprintf("printf %s >%s && ", s.value, p)
	}
	return plan.Script{
		ID: h.id("sysctls"), Host: h.Host.Name, Title: "sysctls",
		Look: look + `[ -z "$m" ] && echo ok || echo "is:${m}"`,
		Op:   plan.Update, Summary: "set kernel parameters", Run: run + ":",
		Made: formerParameters,
		Acts: plan.EachOf, // a module that is loaded before brings its parameters along
	}.Step()
}

// added are the things of a kind that a script adds, from the list of those that
// are missing.
func added(kind string) func(answer string) []plan.Made {
	return func(answer string) (out []plan.Made) {
		for _, name := range plan.EachOf(answer) {
			out = append(out, plan.Made{Kind: kind, Name: name, Former: plan.Former{Absent: true}})
		}
		return out
	}
}

// formerParameters are the kernel parameters that are set, with the values before,
// from "is: NAME=VALUE ...".
func formerParameters(answer string) (out []plan.Made) {
	for _, w := range strings.Fields(strings.TrimPrefix(answer, "is:")) {
		name, value, _ := strings.Cut(w, "=")
		was := plan.Former{Value: value}
		if value == "absent" {
			was = plan.Former{Absent: true}
		}
		out = append(out, plan.Made{Kind: "sysctl", Name: name, Former: was})
	}
	return out
}

func (h Host) swap() plan.Step {
	return plan.Script{
		ID: h.id("swap"), Host: h.Host.Name, Title: "swap",
		Look: `s=$(sed 1d /proc/swaps) || exit 1
f=$(grep -cE '^[^#[:space:]][^[:space:]]*[[:space:]]+[^[:space:]]+[[:space:]]+swap[[:space:]]' /etc/fstab 2>/dev/null)
u=$(swap_units)
[ -z "$s$u" ] && [ "${f:-0}" = 0 ] && echo ok || echo "swap is $([ -n "$s" ] && echo on || echo off), ${f:-0} lines in fstab, units: ${u:-none}"`,
		Op: plan.Update, Summary: "turn swap off, comment it out in /etc/fstab, mask its units",
		Made: func(answer string) []plan.Made {
			was, units, _ := strings.Cut(strings.TrimPrefix(answer, "swap is "), ",")
			made := []plan.Made{{Kind: "swap", Name: "/etc/fstab", Former: plan.Former{Value: was}}}
			if _, units, _ = strings.Cut(units, "units: "); units != "none" {
				for _, u := range strings.Fields(units) {
					made = append(made, plan.Made{Kind: "mask", Name: u, Former: plan.Former{Absent: true}})
				}
			}
			return made
		},
		Timeout: 10 * time.Minute, // what was swapped out is read back
		// There is no moment without an fstab, and what takes its place is on the disk.
		Run: `swapoff -a || exit
if [ -e /etc/fstab ]; then
cp -p /etc/fstab /etc/fstab.hactl && cp -p /etc/fstab /etc/.fstab.hactl &&
sed -i -E 's/^([^#[:space:]][^[:space:]]*[[:space:]]+[^[:space:]]+[[:space:]]+swap[[:space:]])/#\1/' /etc/.fstab.hactl &&
sync /etc/fstab.hactl /etc/.fstab.hactl && mv /etc/.fstab.hactl /etc/fstab && sync /etc || exit
fi
systemctl daemon-reload
for u in $(swap_units); do
systemctl stop -- "$u"
systemctl mask --quiet -- "$u" 2>/dev/null || systemctl disable --quiet -- "$u" || exit # one in /etc cannot be masked
done
swapoff -a`,
	}.Step()
}

// etcdUser also completes what a useradd that was killed leaves behind: it
// writes the user first and its group last.
func (h Host) etcdUser() plan.Step {
	return plan.Script{
		ID: h.id("etcd-user"), Host: h.Host.Name, Title: "user etcd",
		Look: `if ! getent passwd etcd >/dev/null; then echo absent
elif getent group etcd >/dev/null && id -gn etcd >/dev/null 2>&1; then echo ok
else echo "its group is absent"; fi`,
		Op: plan.Create, Summary: "create system user etcd",
		Made: func(answer string) []plan.Made {
			return []plan.Made{{Kind: "user", Name: "etcd", Former: plan.Former{Absent: answer == "absent"}}}
		},
		Run: `getent group etcd >/dev/null || groupadd --system etcd || exit
if ! getent passwd etcd >/dev/null; then useradd --system --gid etcd --no-create-home --home-dir / --shell /usr/sbin/nologin etcd
elif ! id -gn etcd >/dev/null 2>&1; then usermod --gid etcd etcd; fi`,
	}.Step()
}
