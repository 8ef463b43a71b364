// Package reset brings a host back to what it was before hactl: it stops what hactl
// started, and takes back what the host's record says that hactl made. What is not in
// the record, and is not plainly the cluster's, stays.
package reset

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
)

// Host is a host that is reset, and what it said of itself.
type Host struct {
	Name       string
	Made       []plan.Made // its record
	Noted      bool        // it was noted as it was before hactl came
	PkgManager string      // "apt", "dnf" or ""
	VIP        netip.Addr
	EtcdData   string // folder of the etcd member
	// Others says that containerd runs containers that are not Kubernetes': then
	// containerd stays as it is, with its folders.
	Others   bool
	Data     bool // delete the data of etcd; else it is moved to /var/lib/hactl
	Packages bool // remove the packages that hactl installed
}

func (h Host) id(what string) plan.ID { return plan.ID("reset/" + h.Name + "/" + what) }

// Steps are in the order in which they are done. A step that was done looks in sync, so
// that a run that was cut is completed by the next one. The record goes last.
func (h Host) Steps() []plan.Step {
	steps := slices.Concat(h.stopped("keepalived.service", "hactl-prober.service"), []plan.Step{h.address()},
		h.stopped("kubelet.service"), []plan.Step{h.pods(), h.mounts()}, h.stopped("etcd.service"))
	if h.made("unit", "etcd.service") {
		steps = append(steps, h.etcdData())
	}
	if !h.Others {
		steps = append(steps, h.stopped("containerd.service")...)
	}
	steps = append(steps, h.stopped(h.otherUnits()...)...)
	steps = append(steps, h.network(), h.files(), h.folders())
	steps = append(append(steps, h.formerUnits()...), h.kernel(), h.names())
	if h.Packages {
		steps = append(steps, h.packages())
	}
	return append(steps, h.record())
}

// made reports whether the host's record has the thing.
func (h Host) made(kind, name string) bool {
	return slices.ContainsFunc(h.Made, func(m plan.Made) bool { return m.Kind == kind && m.Name == name })
}

// stopAfter bounds how long a unit may take to end.
const stopAfter = 30 * time.Second

// stopped are units that neither run nor start with the host: those that hactl has made
// or configured. Another etcd or keepalived is another's.
func (h Host) stopped(units ...string) (out []plan.Step) {
	for _, u := range units {
		if h.made("unit", u) {
			out = append(out, plan.Service{ID: h.id("stop-" + strings.TrimSuffix(u, ".service")), Host: h.Name, Unit: u, Absent: true, Wait: stopAfter}.Step())
		}
	}
	return out
}

// inOrder are the units that have a step of their own.
var inOrder = map[string]bool{"keepalived.service": true, "hactl-prober.service": true, "kubelet.service": true, "etcd.service": true, "containerd.service": true}

func (h Host) otherUnits() (out []string) {
	for _, m := range h.Made {
		if m.Kind == "unit" && !inOrder[m.Name] {
			out = append(out, m.Name)
		}
	}
	return out
}

// script is a step whose look prints what is left, or "ok".
func (h Host) script(what, summary, look, run string) plan.Step {
	return plan.Script{
		ID: h.id(what), Host: h.Name, Title: what, Op: plan.Delete, Summary: summary, Look: look, Run: run, Timeout: 3 * time.Minute,
		// Another look may find less, or more of the same: processes come and go.
		Acts: func(string) []string { return []string{what} },
	}.Step()
}

// address is the VIP on this host, which a keepalived that was killed leaves there.
func (h Host) address() plan.Step {
	find := "d=$(ip -o address show | awk -v a=" + remote.Quote(h.VIP.String()) + ` '{ split($4, p, "/"); if (p[1] == a) print $2 }')`
	return h.script("address", "take the virtual IP off", find+"\n"+`[ -z "$d" ] && echo ok || echo "$d"`,
		find+"\nfor i in $d; do ip address delete "+remote.Quote(netip.PrefixFrom(h.VIP, h.VIP.BitLen()).String())+` dev "$i" || exit; done`)
}

// shims defines a function that prints the process ids of the shims of Kubernetes'
// containers, those of containerd's namespace k8s.io, and of no other.
const shims = `shims() {
for p in $(grep -lzxF k8s.io /proc/[0-9]*/cmdline 2>/dev/null); do
p=${p%/cmdline}; c=; { read -r c <"$p/comm"; } 2>/dev/null
case $c in containerd-shim*) echo "${p#/proc/}" ;; esac
done
}
`

// pods ends the containers of Kubernetes with everything that they started. A shim is
// the parent of all processes of its pod.
func (h Host) pods() plan.Step {
	return h.script("pods", "end the pods", shims+`n=$(shims | wc -l)
[ "$n" = 0 ] && echo ok || echo "$n pods"`, shims+`ended() {
s=$(shims | tr '\n' ' '); [ -n "$s" ] || return 0
# shellcheck disable=SC2046 # words are wanted
kill -9 $(awk -v shims=" $s" '/^Pid:/ { pid = $2 } /^PPid:/ { parent[pid] = $2 }
END { for (p in parent) { q = p; for (n = 0; n < 64 && q + 0 > 1; n++) { if (index(shims, " " q " ")) { print p; break } q = parent[q] } } }' /proc/[0-9]*/status 2>/dev/null) 2>/dev/null
return 1
}
wait_until 20 "the pods did not end" ended || { echo "processes $s are left" >&2; exit 1; }`)
}

// mountsOfPods are the volumes of the kubelet, and what containerd mounts for the
// containers of Kubernetes: not for those of others.
const mountsOfPods = "^(/var/lib/kubelet/|/run/netns/cni-|/run/containerd/io.containerd.runtime.v2.task/k8s.io/|(/run|/var/lib)/containerd/io.containerd.grpc.v1.cri/)"

// mounts are unmounted, the deepest first. Nothing is deleted below a mount: its content is a volume's.
func (h Host) mounts() plan.Step {
	find := "m=$(awk '{ print $2 }' /proc/self/mounts | grep -E '" + mountsOfPods + "' | sort -ru)"
	return h.script("mounts", "unmount the volumes of pods", find+`
[ -z "$m" ] && echo ok || echo "$(echo "$m" | wc -l) mounts"`, find+`
echo "$m" | while IFS= read -r d; do d=$(printf '%b' "$d"); umount -- "$d" 2>/dev/null || umount -l -- "$d" || exit 1; done || exit
rm -f /run/netns/cni-*`)
}

// etcdData is the data of the member: moved away, or deleted where that was asked for.
func (h Host) etcdData() plan.Step {
	d := remote.Quote(path.Join(h.EtcdData, "member"))
	look := "[ -e " + d + " ] && echo " + d + " || echo ok"
	if h.Data {
		return h.script("etcd-data", "delete the data of etcd", look, "find "+d+" -xdev -delete")
	}
	return h.script("etcd-data", "move the data of etcd to "+plan.OwnedDir, look,
		`t=`+plan.OwnedDir+`/removed-$(date -u +%Y%m%dT%H%M%SZ); mkdir -p -m 0700 "$t" && mv -- `+d+` "$t/etcd-member" && sync "$t"`)
}

// names are the host's own name and the line by which it knows it.
func (h Host) names() plan.Step {
	look, run := "m=\n", ":\n"
	for _, m := range h.Made {
		switch m.Kind {
		case "hostname":
			running, disk, _ := strings.Cut(m.Former.Value, " ")
			look += fmt.Sprintf("[ \"$(cat /proc/sys/kernel/hostname)\" = %s ] || m=\"$m the host's name\"\n", remote.Quote(running))
			run += fmt.Sprintf("printf '%%s\\n' %s >/proc/sys/kernel/hostname || exit\n", remote.Quote(running))
			if disk == "nothing" {
				run += "rm -f /etc/hostname\n"
			} else {
				run += fmt.Sprintf("printf '%%s\\n' %s >/etc/.hostname.hactl && sync /etc/.hostname.hactl && mv /etc/.hostname.hactl /etc/hostname || exit\n", remote.Quote(disk))
			}
		case "line":
			f, l := remote.Quote(m.Target), remote.Quote(m.Name)
			look += fmt.Sprintf("! grep -qsxF %s %s || m=\"$m its line in %s\"\n", l, f, m.Target)
			run += fmt.Sprintf("! grep -qsxF %[1]s %[2]s || { cp -p %[2]s %[2]s.hactl && { grep -vxF %[1]s %[2]s >%[2]s.hactl || :; } && sync %[2]s.hactl && mv %[2]s.hactl %[2]s; } || exit\n", l, f)
		}
	}
	return h.script("names", "give back", look+`[ -z "$m" ] && echo ok || echo "$m"`, run)
}

// record is what hactl keeps on a host for itself. Data that was moved away stays.
func (h Host) record() plan.Step {
	const mine = "owned.json host.json former images"
	return h.script("record", "forget the host", "cd "+plan.OwnedDir+" 2>/dev/null || { echo ok; exit 0; }\nm=; for f in "+mine+`; do [ ! -e "$f" ] || m="$m $f"; done
[ -z "$m" ] && echo ok || echo "$m"`,
		// The record goes last: without it nothing says what was here before.
		"cd "+plan.OwnedDir+" || exit\nrm -rf images former host.json /run/hactl-verified /run/hactl/probe/socket && sync . && rm -f owned.json && sync .; rmdir "+plan.OwnedDir+" 2>/dev/null; :")
}

// folderList is every folder that hactl and what it starts make. Those of a component
// count only where hactl runs it: the host may have another etcd.
func (h Host) folderList() (out []string) {
	for _, d := range append(slices.Clone(host.Folders), h.EtcdData) {
		switch {
		case strings.Contains(d, "containerd") && (h.Others || !h.made("unit", "containerd.service")):
		case (strings.Contains(d, "etcd") || d == h.EtcdData) && !h.made("unit", "etcd.service"):
		case slices.Contains(out, d):
		default:
			out = append(out, d)
		}
	}
	slices.Sort(out) // a folder follows its parent
	return out
}
