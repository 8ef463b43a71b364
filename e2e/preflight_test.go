//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/internal/preflight"
)

// checks is what hactl preflight -o json says, by check.
func (r *rig) checks(t *testing.T, code int) map[string]preflight.Result {
	t.Helper()
	res := r.must(t, code, "preflight", "-o", "json")
	var doc preflight.Report
	if err := json.Unmarshal([]byte(res.out), &doc); err != nil {
		t.Fatalf("%v: %s", err, res)
	}
	out := map[string]preflight.Result{}
	var ids []string
	for _, k := range doc.Results {
		ids = append(ids, k.ID)
		out[k.ID] = k
	}
	if !slices.Equal(ids, preflight.IDs()) {
		t.Errorf("checks: %v, want %v", ids, preflight.IDs())
	}
	took(t, "preflight", doc.Took)
	return out
}

// expected are the states of all checks on the hosts of a lab: passed, except where
// the machine decides, since the hosts share its kernel and disk.
func (r *rig) expected(t *testing.T) map[string]preflight.State {
	t.Helper()
	want := map[string]preflight.State{}
	for _, id := range preflight.IDs() {
		want[id] = preflight.Passed
	}
	want["time-sync"] = preflight.Weak // the machine keeps the clock of its namespaces
	controllers := strings.Fields(labOutput(t, r.Lab, "master-1", "cat /sys/fs/cgroup/cgroup.controllers || true"))
	if !slices.Contains(controllers, "cpu") || !slices.Contains(controllers, "memory") {
		want["cgroup"] = preflight.Weak
	}
	if labOutput(t, r.Lab, "master-1", "tail -n +2 /proc/swaps") != "" {
		want["swap"] = preflight.Weak
	}
	return want
}

// asExpected compares every check. The disk's latency and the round trip between
// hosts are whatever they are on a busy machine, but must have been measured.
func asExpected(t *testing.T, got map[string]preflight.Result, want map[string]preflight.State) {
	t.Helper()
	// What the lab's hosts share with the machine: its disk and its processors.
	measured := []string{"disk-latency", "peer-rtt", "disk-space"}
	for _, id := range preflight.IDs() {
		k := got[id]
		if k.State != want[id] && (!slices.Contains(measured, id) || k.State != preflight.Weak) {
			t.Errorf("%s is %s, want %s: %+v", id, k.State, want[id], k.Findings)
		}
		if (k.State == preflight.Passed) != (len(k.Findings) == 0) {
			t.Errorf("%s is %s: %+v", id, k.State, k.Findings)
		}
		for _, f := range k.Findings {
			if f.Severity != preflight.Unknown && f.Hint == "" {
				t.Errorf("%s gives no hint: %+v", id, f)
			}
		}
	}
}

// preflight of hosts as they come from the installer.
func (r *rig) preflight(t *testing.T) {
	got := r.checks(t, 0)
	asExpected(t, got, r.expected(t))
	var hosts []string
	for _, f := range got["time-sync"].Findings {
		hosts = append(hosts, f.Host)
	}
	if !slices.Equal(hosts, r.everyHost()) {
		t.Errorf("hosts without a service that keeps the clock: %v, want %v", hosts, r.everyHost())
	}
}

// TestPreflightOfARunningClusterPasses looks at the running cluster: every check
// passes, and keepalived neither ends nor complains about the probes.
func TestPreflightOfARunningClusterPasses(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	process := func(host string) string {
		return labOutput(t, r.Lab, host, "systemctl show -p MainPID -p NRestarts keepalived")
	}
	// State changes are not complaints: the VIP may move for other reasons.
	complaints := func(host string) string {
		return labOutput(t, r.Lab, host, "journalctl -q -u keepalived -o cat | grep -Ei 'invalid|mismatch|bogus|incorrect|discard|wrong|unexpected' || :")
	}
	processes, before := map[string]string{}, map[string]string{}
	for _, m := range r.names(lab.Master) {
		processes[m], before[m] = process(m), complaints(m)
		if !strings.Contains(labOutput(t, r.Lab, m, "journalctl -q -u keepalived -o cat"), "Entering") {
			t.Errorf("%s: the journal of keepalived is not here", m)
		}
	}
	asExpected(t, r.checks(t, 0), r.expected(t))
	for m, b := range before {
		if now := process(m); now != processes[m] {
			t.Errorf("%s: keepalived was %s, is %s", m, processes[m], now)
		}
		if now := complaints(m); now != b {
			t.Errorf("%s: keepalived complained before of\n%s\nand complains now of\n%s", m, b, now)
		}
	}
	r.owner(t)
}

// hardenHosts makes hosts without perl, and with a /run from which nothing can be
// started, as Debian's initramfs mounts it.
func (r *rig) hardenHosts(t *testing.T) {
	t.Helper()
	for _, h := range r.everyHost() {
		labOutput(t, r.Lab, h, `rm -f /usr/bin/perl*; mount -o remount,noexec /run; ! command -v perl
cp /bin/true /run/e2e-true; ! /run/e2e-true 2>/dev/null; rm /run/e2e-true`)
	}
}

// TestPreflightHearsVRRP has bare hosts, a firewall in each place where one can
// be, and a stranger's keepalived.
func TestPreflightHearsVRRP(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) {
			inTurnPart(t)
			r := newRig(t, lab.Config{Name: nextName("vrrp"), Masters: 3, Workers: 1, IPv6: six})
			a := vrrpLab{rig: r, addr: map[string]string{}, want: r.expected(t)}
			for _, h := range r.Hosts() {
				if a.addr[h.Name] = h.Address; six {
					a.addr[h.Name] = h.Address6
				}
			}
			r.hardenHosts(t)
			then(t, "bare hosts pass", r.preflight)
			a.firewalls(t, six)
			a.strangers(t, six)
			then(t, "nothing is left of it", r.preflight)
			for _, h := range r.everyHost() {
				if left := labOutput(t, r.Lab, h, "ls -d /run/hactl* /opt/hactl* 2>/dev/null || :"); left != "" {
					t.Errorf("left on %s: %s", h, left)
				}
			}
		})
	}
}

type vrrpLab struct {
	*rig
	addr map[string]string // of hosts, by name
	want map[string]preflight.State
}

// finds asks for one finding of a check and for what is expected of all others.
func (a vrrpLab) finds(t *testing.T, code int, check string, state preflight.State, host, says string, want map[string]preflight.State) {
	t.Helper()
	got := a.checks(t, code)
	if found := got[check].Findings; len(found) != 1 || found[0].Host != host || found[0].Message != says {
		t.Errorf("%s is %s: %+v\nwant it %s on %s: %s", check, got[check].State, found, state, host, says)
	}
	want = maps.Clone(want)
	want[check] = state
	asExpected(t, got, want)
}

func (a vrrpLab) firewalls(t *testing.T, six bool) {
	from := "ip saddr %s ip protocol 112"
	to := "ip daddr %s ip protocol 112"
	if six {
		from, to = "ip6 saddr %s ip6 nexthdr 112", "ip6 daddr %s ip6 nexthdr 112"
	}
	who := func(host string) string { return fmt.Sprintf("%s (%s)", host, a.addr[host]) }
	for _, f := range []struct {
		what, family, hook, match, on, says string
		rules                               preflight.State // of firewall, which reads them
	}{
		{"what comes to a host from one other", "inet", "input", fmt.Sprintf(from, a.addr["master-1"]), "master-3",
			"VRRP (IP protocol 112) from " + who("master-1") + " arrives, and a firewall on this host drops it", preflight.Passed},
		{"all that comes to a host", "inet", "input", "meta l4proto 112", "master-2",
			"VRRP (IP protocol 112) from " + who("master-1") + ", " + who("master-3") + " arrives, and a firewall on this host drops it", preflight.Weak},
		{"what a host sends to one other", "inet", "output", fmt.Sprintf(to, a.addr["master-1"]), "master-2",
			"VRRP (IP protocol 112) cannot be sent to " + who("master-1") + ": operation not permitted", preflight.Passed},
		{"the wire between two hosts", "netdev", "ingress device eth0", fmt.Sprintf(from, a.addr["master-2"]), "master-3",
			"VRRP (IP protocol 112) from " + who("master-2") + " does not arrive", preflight.Passed},
	} {
		then(t, "dropped: "+f.what, func(t *testing.T) {
			labOutput(t, a.Lab, f.on, fmt.Sprintf("nft 'add table %[1]s e2e; add chain %[1]s e2e c { type filter hook %[2]s priority 0; }; add rule %[1]s e2e c %[3]s drop'", f.family, f.hook, f.match))
			want := maps.Clone(a.want)
			want["firewall"] = f.rules
			a.finds(t, 1, "vrrp", preflight.Failed, f.on, f.says, want)
			labOutput(t, a.Lab, f.on, "nft delete table "+f.family+" e2e")
		})
	}
}

// strangers lets the worker's keepalived speak: with our id, and for our VIP.
func (a vrrpLab) strangers(t *testing.T, six bool) {
	own, other, from := "10.77.0.250/32", a.VIP()+"/32", a.addr["worker-1"]
	if six {
		own, other = "fe80::250/64", "fe80::250/64\n"+a.VIP()+"/128"
		from = strings.TrimSuffix(labOutput(t, a.Lab, "worker-1", "ip -6 -o address show dev eth0 scope link | awk '{print $4}'"), "/64")
	}
	then(t, "a stranger with the id of our VIP", func(t *testing.T) {
		a.speak(t, 51, own)
		a.finds(t, 0, "vrid", preflight.Weak, "master-1", from+", no master of this cluster, sends VRRP adverts (version 3) with virtual router id 51", a.want)
		a.hush(t)
	})
	then(t, "a stranger that claims our VIP", func(t *testing.T) {
		a.speak(t, 77, other)
		got := a.checks(t, 1)
		want := from + ", no master of this cluster, claims the VIP " + a.VIP() + " by VRRP (virtual router id 77)"
		if !slices.ContainsFunc(got["vip-unused"].Findings, func(f preflight.Finding) bool { return f.Severity == preflight.Error && f.Message == want }) {
			t.Errorf("it does not say %q: %+v", want, got["vip-unused"])
		}
		if k := got["vrid"]; k.State != preflight.Passed {
			t.Errorf("another id is no collision: %+v", k)
		}
		a.hush(t)
	})
}

func (a vrrpLab) speak(t *testing.T, id int, addresses string) {
	t.Helper()
	labOutput(t, a.Lab, "worker-1", fmt.Sprintf(`cat >/run/e2e.conf <<'X'
global_defs {
    vrrp_version 3
}
vrrp_instance stranger {
    interface eth0
    state MASTER
    virtual_router_id %d
    priority 200
    advert_int 0.5
    virtual_ipaddress {
        %s
    }
}
X
systemd-run --quiet --unit e2e-stranger keepalived --dont-fork --vrrp --log-detail -f /run/e2e.conf -p /run/e2e.pid -r /run/e2e-vrrp.pid
for i in $(seq 100); do journalctl -q -u e2e-stranger | grep -q 'Entering MASTER' && exit 0; sleep 0.1; done
journalctl -q -u e2e-stranger >&2; exit 1`, id, addresses))
}

func (a vrrpLab) hush(t *testing.T) {
	t.Helper()
	labOutput(t, a.Lab, "worker-1", "systemctl stop e2e-stranger; rm -f /run/e2e.conf; journalctl --rotate -q; journalctl -q --vacuum-time=1s")
}
