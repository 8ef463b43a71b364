//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// losses are what other programs, and people, do to the network of a host that runs:
// each removes something that pods need, without a word. healed is what
// hactl-network has to say about it; "" when nothing may be lost.
var losses = []struct{ what, script, healed string }{
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
