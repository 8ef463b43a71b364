package drill

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// Units that a drill stops, kills and hangs.
const (
	keepalivedUnit = "keepalived.service"
	etcdUnit       = "etcd.service"
	kubeletUnit    = "kubelet.service"
)

// Fault is one thing done to one host. The scripts run as root with sh.
type Fault struct {
	What string // "SIGKILL kube-apiserver"
	// Before prints what identifies the target now; it must print something.
	// Proof finds that in $BEFORE. A process is found by its name and by something in its
	// command line, so that one of that name in somebody's pod is not hit.
	Before string
	Do     string
	// Proof exits 0 once the fault is in effect. It is asked until it does,
	// for ProofWithin at most.
	Proof       string
	ProofWithin time.Duration
	// Undo is safe to run twice and while the fault never happened: it is armed
	// on the host before Do, and run again by hactl.
	Undo string
	// Power means that the host goes away as a whole: Do and Undo are the
	// operator's power commands or reboot -f, and the proof is that the host
	// does not answer or has started anew; once it is back, it must have.
	Power bool
	// Restarts is the static pod that the kubelet has to start again, or "".
	Restarts string
	// Etcd means that the host's etcd member is not there while it lasts.
	Etcd bool
}

// proofWithin is long enough for hosts that stand still after a fault to be asked.
const proofWithin = 20 * time.Second

func stopUnit(unit string) Fault {
	return Fault{
		What:   "stop " + unit,
		Before: `identify $(main_process ` + unit + `)`,
		Do:     "systemctl stop " + unit,
		Proof:  "! is_running " + unit + " && have_ended $BEFORE",
		Undo:   startUnit(unit),
		Etcd:   unit == etcdUnit,
	}
}

// startUnit does not wait: etcd's start returns only when there is quorum.
func startUnit(unit string) string {
	return "systemctl reset-failed " + unit + " 2>/dev/null; systemctl start --no-block " + unit
}

func killUnit(unit string) Fault {
	return Fault{
		What:   "SIGKILL every process of " + unit,
		Before: `identify $(main_process ` + unit + `)`,
		Do:     "systemctl kill -s KILL " + unit,
		Proof:  "have_ended $BEFORE",
		Undo:   startUnit(unit), // in case the unit does not restart itself
		Etcd:   unit == etcdUnit,
	}
}

// killKeepalived kills it so that the VIP stays behind on its interface. systemd
// kills the parent first, and its death is SIGTERM to the child that holds the
// address (prctl(2), PR_SET_PDEATHSIG): unless they all stand still by then, one kill
// of six ended with the address taken away, as by a stop.
func killKeepalived(c *Cluster, m *Member) Hit {
	f := killUnit(keepalivedUnit)
	f.Do = "systemctl kill -s STOP " + keepalivedUnit + "\n" + f.Do + `
has_address ` + remote.Quote(c.VIP.String()) + ` || { echo "the address did not stay behind" >&2; exit 1; }`
	return Hit{m, f}
}

func hangUnit(unit string) Fault {
	return Fault{
		What:   "SIGSTOP every process of " + unit,
		Before: `identify $(main_process ` + unit + `)`,
		Do:     "systemctl kill -s STOP " + unit,
		Proof:  "are_stopped $BEFORE",
		Undo:   "systemctl kill -s CONT " + unit,
		Etcd:   unit == etcdUnit,
	}
}

// kubeadmMark is in the command line of every control-plane process that
// kubeadm configures, and of no process of the same name in a pod.
const kubeadmMark = "=/etc/kubernetes/"

// signalProcess signals a static pod's process as the host sees it; the
// kubelet starts it again.
func signalProcess(name, signal string) Fault { return signalMatching(name, kubeadmMark, signal) }

func signalMatching(name, mark, signal string) Fault {
	comm := name
	if len(comm) > 15 {
		comm = comm[:15]
	}
	find := "$(pids_of " + remote.Quote(comm) + " " + remote.Quote(mark) + ")"
	f := Fault{
		What:   "SIG" + signal + " " + name,
		Before: "identify " + find,
		Do:     "for t in $BEFORE; do kill -" + signal + ` "${t%%:*}"; done`,
		Proof:  "have_ended $BEFORE",
		Undo:   "systemctl start --no-block " + kubeletUnit, // who starts it again
	}
	if signal != "STOP" {
		f.Restarts = name
	} else {
		f.Proof = "are_stopped $BEFORE"
		f.Undo = "for p in " + find + "; do kill -CONT \"$p\"; done"
	}
	return f
}

// stopAPIServer asks a member's apiserver to stop. It says so at once (/readyz names
// the check "shutdown"), serves on for its shutdown delay, and then waits up to a
// minute for the connections that clients keep open: the fault is in effect at the
// first of these.
func stopAPIServer(_ *Cluster, m *Member) Hit {
	f := signalProcess("kube-apiserver", "TERM")
	f.Proof = "have_ended $BEFORE || curl --silent --cacert /etc/kubernetes/pki/ca.crt --max-time " + wait.Times(5) + " " + remote.Quote("https://"+m.API+"/readyz") + ` | grep -q '^\[-\]shutdown '`
	return Hit{m, f}
}

// cutOff drops every packet in and out but ssh to this host and what goes to
// allowed addresses. ARP for the VIP is dropped too, as far as the kernel can:
// a host whose cable is cut does not answer for the address either.
func cutOff(m *Member, vip netip.Addr, allowed ...netip.Addr) Fault {
	ports := make([]string, 0, len(m.SSHPorts))
	for _, p := range m.SSHPorts {
		ports = append(ports, strconv.Itoa(p))
	}
	ssh := "{ " + strings.Join(ports, ", ") + " }"
	in, out := peers(allowed)
	rules := fmt.Sprintf(`table inet hactl_drill {
 chain drill_in { type filter hook input priority -300; policy drop; iifname "lo" accept; tcp dport %[1]s accept; %[2]s%[3]s}
 chain drill_out { type filter hook output priority -300; policy drop; oifname "lo" accept; tcp sport %[1]s accept; %[4]s%[5]s}
 chain drill_forward { type filter hook forward priority -300; policy drop; }
}`, ssh, in, neighbours(vip, ""), out, neighbours(vip, "ip6 saddr "+vip.String()+" drop; "))
	do := "nft delete table inet hactl_drill 2>/dev/null; nft -f - <<'EOF'\n" + rules + "\nEOF\nrc=$?\n"
	if vip.Is4() {
		do += fmt.Sprintf(`nft -f - 2>/dev/null <<'EOF' || :
table arp hactl_drill {
 chain drill_in { type filter hook input priority 0; arp daddr ip %[1]s drop; }
 chain drill_out { type filter hook output priority 0; arp saddr ip %[1]s drop; }
}
EOF
`, vip)
	}
	return Fault{
		What:   "drop every packet but ssh",
		Before: "nft list tables >/dev/null && echo nft",
		Do:     do + "exit $rc",
		Proof:  `nft list chain inet hactl_drill drill_in | grep -q 'policy drop'`,
		Undo:   "nft delete table arp hactl_drill 2>/dev/null; nft delete table inet hactl_drill 2>/dev/null; ! nft list tables | grep -q hactl_drill",
		Etcd:   true,
	}
}

func peers(allowed []netip.Addr) (in, out string) {
	for _, a := range allowed {
		family := "ip"
		if a.Is6() {
			family = "ip6"
		}
		in += fmt.Sprintf("%s saddr %s accept; ", family, a)
		out += fmt.Sprintf("%s daddr %s accept; ", family, a)
	}
	return in, out
}

// neighbours lets neighbour discovery through, without which ssh over IPv6
// dies, but not what speaks for the VIP.
func neighbours(vip netip.Addr, deny string) string {
	if vip.Is4() {
		deny = ""
	}
	return deny + "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept; "
}

// powerOff takes the whole machine down.
func powerOff() Fault {
	return Fault{
		What:        "power off",
		Before:      "this_boot",
		Do:          "(sleep 0.2; reboot -f) >/dev/null 2>&1 &",
		ProofWithin: 30 * time.Second,
		Power:       true,
		Etcd:        true,
	}
}
