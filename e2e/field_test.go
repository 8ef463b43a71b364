//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"hactl/internal/lab"
)

// losses are what other programs, and people, do to the network of a host that runs:
// each removes something that pods need, without a word. healed is what
// hactl-network has to say about it; "" when nothing may be lost.
var losses = []struct{ what, script, healed string }{
	{"kube-proxy started again", `old=$(pgrep -x kube-proxy); kill $old; i=0
until new=$(pgrep -x kube-proxy) && [ "$new" != "$old" ] && curl --silent --fail --max-time 1 http://127.0.0.1:10256/healthz >/dev/null; do i=$((i+1)); [ $i -lt 300 ] || break; sleep 0.2; done
sleep 3 # it may remove what it finds a moment later`, ""},
	{"a link that was down and up", `d=$(ip route show default); ip link set eth0 down; ip link set eth0 up; ip route replace $d`, "set the route"},
	{"nft flush ruleset", "nft flush ruleset", "set masquerading"},
	{"kube-proxy's table flushed", "nft flush table ip kube-proxy", "kube-proxy has lost its tables"},
	{"iptables -F", "iptables -F; iptables -t nat -F", ""},
	{"systemd-networkd that takes eth0 over", `a=$(ip -o -4 address show dev eth0 scope global | sed -n '1s/.* inet \([^ ]*\) .*/\1/p'); g=$(ip route show default | sed -n '1s/.* via \([^ ]*\) .*/\1/p')
printf '[Match]\nName=eth0\n[Network]\nAddress=%s\nGateway=%s\nLinkLocalAddressing=no\n' "$a" "$g" >/run/systemd/network/10-eth0.network
systemctl restart systemd-networkd; sleep 2; systemctl stop systemd-networkd systemd-networkd.socket; rm /run/systemd/network/10-eth0.network`, ""},
}

// TestNetworkOfAHostHeals removes routes, tables and rules on a master that does not
// hold the VIP, and waits until it reaches pods of the worker and services again. How
// long that takes is a figure.
func TestNetworkOfAHostHeals(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.deploy(t, "field", "master-1")
	defer r.undeploy(t, "field")
	on := r.notOwner(t)
	works := r.reaches(t, "field")
	if out := labOutput(t, r.Lab, on, works); out != "" {
		t.Fatal(out)
	}
	for _, l := range losses {
		then(t, l.what+" on "+on, func(t *testing.T) {
			// kube-proxy is started again once a minute.
			labOutput(t, r.Lab, on, `mkdir -p /run/systemd/network; systemctl try-restart hactl-network; date +%s >/run/field-begun`)
			since := labOutput(t, r.Lab, on, "sleep 1; date +%s.%N")
			labOutput(t, r.Lab, on, l.script)
			text := labOutput(t, r.Lab, on, works+"\ndate +%s.%N")
			out := strings.Fields(text)
			if len(out) != 1 {
				t.Fatalf("%s", text)
			}
			took(t, "heals: "+l.what, seconds(t, out[len(out)-1])-seconds(t, since))
			journal := labOutput(t, r.Lab, on, "journalctl -o cat -u hactl-network --since @$(cat /run/field-begun)")
			if l.healed != "" && !strings.Contains(journal, l.healed) {
				t.Errorf("hactl-network does not say %q: %s", l.healed, journal)
			}
			r.owner(t)
		})
	}
	r.healthy(t)
	r.comesInSync(t)
}

func seconds(t *testing.T, s string) time.Duration {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(f * float64(time.Second))
}

// notOwner is a master without the VIP.
func (r *rig) notOwner(t *testing.T) string {
	t.Helper()
	if r.owner(t) == "master-3" {
		return "master-2"
	}
	return "master-3"
}

// reaches is a script that waits until a host reaches every pod and the service of
// that name, and the API by its service, with everything in its kernel.
func (r *rig) reaches(t *testing.T, name string) string {
	t.Helper()
	pods := strings.Fields(r.kubectlSays(t, "get", "pods", "-l", "app="+name, "-o", "jsonpath={.items[*].status.podIP}"))
	service := r.kubectlSays(t, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
	api := r.kubectlSays(t, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
	var asks strings.Builder
	for _, u := range append(pods, service) {
		port := ":8080/"
		if u == service {
			port = ":80/"
		}
		fmt.Fprintf(&asks, "curl --silent --fail --max-time 1 http://%s%s >/dev/null && ", bracketed(u), port)
	}
	return fmt.Sprintf(`i=0; until %scurl --silent --insecure --max-time 1 https://%s/version >/dev/null &&
[ "$(ip route show proto 104 | wc -l)" = 3 ] && nft list table ip hactl_pods >/dev/null; do
i=$((i+1)); [ $i -lt %d ] || break; sleep 0.1; done
[ $i -lt 600 ] || { echo "not within a minute:"; ip route; nft list table ip kube-proxy | head -60; systemctl status hactl-network | cat; tail -n 20 /var/log/pods/*/kube-proxy/*.log; }`, asks.String(), bracketed(api), 600)
}

// foreign is what other people have on hosts, by the host, and the word that permits
// each.
var foreign = []struct{ host, what, make, word string }{
	{"master-1", "a keepalived with an address of its own", `mkdir -p /etc/keepalived
printf 'vrrp_instance DB {\n interface eth0\n virtual_router_id 60\n priority 100\n virtual_ipaddress {\n  10.77.0.150/24\n }\n}\n' >/etc/keepalived/keepalived.conf`, "file:/etc/keepalived/keepalived.conf"},
	{"master-1", "a keepalived under another name", `mkdir -p /opt/x; cp /bin/sleep /opt/x/keepalived; systemd-run --quiet --unit=vip-db /opt/x/keepalived 10000`, "process:keepalived"},
	{"worker-1", "a container engine", `mkdir -p /opt/x; cp /bin/sleep /opt/x/dockerd; systemd-run --quiet --unit=docker /opt/x/dockerd 10000`, "engine:docker"},
	{"worker-1", "the configuration of its containerd", `mkdir -p /etc/containerd; echo 'version = 2' >/etc/containerd/config.toml`, "file:/etc/containerd/config.toml"},
	{"worker-1", "another pod network", `mkdir -p /etc/cni/net.d; echo '{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"calico"}]}' >/etc/cni/net.d/10-calico.conflist`, "cni:10-calico.conflist"},
	{"worker-1", "a bridge of another pod network", `ip link add cni0 type bridge; ip address add 10.85.0.1/16 dev cni0; ip link set cni0 up`, "interface:cni0"},
	{"worker-1", "a package that conflicts with one of hactl's", `mkdir -p /tmp/p/DEBIAN /tmp/q/DEBIAN; cd /tmp
printf 'Package: containerd.io\nVersion: 1.7\nArchitecture: all\nMaintainer: x <x@example.com>\nProvides: containerd, runc\nConflicts: containerd, runc\nReplaces: containerd, runc\nDescription: x\n' >p/DEBIAN/control
printf 'Package: docker-ce\nVersion: 27\nArchitecture: all\nMaintainer: x <x@example.com>\nDepends: containerd.io\nDescription: x\n' >q/DEBIAN/control
dpkg-deb --build p p.deb >/dev/null && dpkg-deb --build q q.deb >/dev/null && dpkg -i p.deb q.deb >/dev/null && apt-get update -q >/dev/null`, "package:containerd.io"},
}

// TestWhatBelongsToOthersIsNotTouched: everything is named at once, before anything is
// changed, by preflight, plan and up; --ignore does not help.
func TestWhatBelongsToOthersIsNotTouched(t *testing.T) {
	inTurn(t)
	r := foreignHosts(t)
	state := func() string {
		return r.touched(t, "master-1") + r.touched(t, "worker-1") + labOutput(t, r.Lab, "worker-1", "dpkg-query -l docker-ce containerd.io; systemctl is-active docker")
	}
	before := state()
	for args, code := range map[string]int{"preflight": 1, "plan": 7, "up --yes": 7, "up --yes --ignore=others,swap": 7} {
		res := r.must(t, code, strings.Fields(args)...)
		for _, f := range foreign {
			// What apt would do is preflight's question.
			if f.word == "package:containerd.io" && (args == "plan" || strings.Contains(args, "ignore")) {
				continue
			}
			// A table breaks lines.
			if said := strings.Join(strings.Fields(res.out+res.err), " "); !strings.Contains(said, "--take-over "+f.word) {
				t.Errorf("%s does not name %s (%s): %s", args, f.what, f.word, res)
			}
		}
	}
	if after := state(); after != before {
		t.Error("a host was changed")
	}
}

// TestWhatIsPermittedIsTakenOver: with every word the cluster comes up, and what hactl
// need not replace is there as before. A package source that does not answer is no
// obstacle.
func TestWhatIsPermittedIsTakenOver(t *testing.T) {
	inTurn(t)
	r := foreignHosts(t)
	for _, h := range r.everyHost() { // the packages are in the other source
		labOutput(t, r.Lab, h, "printf 'deb [trusted=yes] http://127.0.0.1:9/site stable main\n' >/etc/apt/sources.list.d/site.list")
	}
	args := []string{"up", "--yes", "--take-over", "package:docker-ce"}
	for _, f := range foreign {
		args = append(args, "--take-over", f.word)
	}
	r.must(t, 0, args...)
	r.nodesReady(t, 2)
	if got := labOutput(t, r.Lab, "worker-1", "systemctl is-active docker; ls /etc/cni/net.d"); got != "active\n10-calico.conflist.before-hactl\n10-hactl.conflist" {
		t.Errorf("on worker-1: %s", got)
	}
	if got := labOutput(t, r.Lab, "master-1", "systemctl is-active vip-db"); got != "active" {
		t.Errorf("on master-1: %s", got)
	}
	r.inSync(t)
}

// foreignHosts are bare hosts on which others have something.
func foreignHosts(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, lab.Config{Name: nextName("field"), Masters: 1, Workers: 1, Bare: true})
	for _, f := range foreign {
		labOutput(t, r.Lab, f.host, f.make)
	}
	return r
}
