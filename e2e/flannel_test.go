//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"hactl/internal/lab"
)

// TestFlannelConnectsPodsOfTwoHosts is the preset for hosts that share no
// segment: node subnets from the controller manager, vxlan between the nodes.
func TestFlannelConnectsPodsOfTwoHosts(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: named("flannel"), Masters: 1, Workers: 1})
	r.inventory(t, "inventory.yaml", func(s string) string {
		return strings.Replace(s, "hosts:\n", "network:\n  preset: flannel\nhosts:\n", 1)
	})
	// The default route is another interface's; the hosts' private addresses are on eth0.
	for _, h := range r.everyHost() {
		labOutput(t, r.Lab, h, "ip link add ext type veth peer name ext0; ip link set ext0 up; ip link set ext up; ip address add 192.0.2.9/24 dev ext; ip route replace default via 192.0.2.1 dev ext")
	}
	then(t, "up, healthy, in sync", func(t *testing.T) {
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 2)
		r.inSync(t)
	})
	// From the master to pods on the worker, which alone runs ordinary pods.
	then(t, "pods on the worker answer the master", func(t *testing.T) { r.deploy(t, "web", "master-1") })
	then(t, "status names the hosts between which UDP 8472 is dropped", func(t *testing.T) {
		labOutput(t, r.Lab, "worker-1", "nft add table inet field; nft 'add chain inet field i { type filter hook input priority 0; }'; nft add rule inet field i udp dport 8472 drop")
		res := r.must(t, 5, "status")
		labOutput(t, r.Lab, "worker-1", "nft delete table inet field")
		said := strings.Join(strings.Fields(res.out), " ")
		if !strings.Contains(said, "traffic") || !strings.Contains(said, "UDP 8472 between the hosts") || !strings.Contains(said, "worker-1") {
			t.Errorf("%s", res)
		}
		r.healthy(t)
	})
	then(t, "the pods answer again after both hosts were powered off", func(t *testing.T) {
		if err := r.InjectAll(t.Context(), lab.Off, r.everyHost()); err != nil {
			t.Fatal(err)
		}
		if err := r.InjectAll(t.Context(), lab.Boot, r.everyHost()); err != nil {
			t.Fatal(err)
		}
		r.healthy(t)
		r.answers(t, "web", "master-1")
		r.comesInSync(t)
	})
	then(t, "what a running cluster cannot follow is refused, all at once, before anything is touched", func(t *testing.T) {
		before := r.touched(t, "master-1") + r.touched(t, "worker-1")
		r.inventory(t, "inventory.yaml", func(s string) string {
			return strings.NewReplacer(`"`+r.VIP()+`"`, "10.77.0.101", "kubernetes:\n", "kubernetes:\n  maxPods: 50\n",
				"hosts:\n", "network:\n  preset: flannel\n  serviceSubnet: 10.97.0.0/16\nhosts:\n").Replace(s)
		})
		for _, args := range [][]string{{"plan"}, {"up", "--yes"}} {
			res := r.must(t, 7, args...)
			for _, want := range []string{
				"vip.address is 10.77.0.101 in the inventory, the cluster was made with " + r.VIP() + " (master-1, worker-1)",
				"network.serviceSubnet is 10.97.0.0/16 in the inventory, the cluster was made with 10.96.0.0/16 (master-1)",
				"kubernetes.maxPods is 50 in the inventory, the cluster was made with 110 (master-1)",
				"hint: nothing was changed; put the old values back",
			} {
				if !strings.Contains(res.err, want) {
					t.Errorf("not said: %s: %s", want, res)
				}
			}
		}
		if r.touched(t, "master-1")+r.touched(t, "worker-1") != before {
			t.Error("a host was touched")
		}
		for _, h := range []string{"master-1", "worker-1"} { // a renamed node
			r.inventory(t, "inventory.yaml", func(s string) string {
				return strings.NewReplacer("name: "+h+"\n", "name: other-1\n", "hosts:\n", "network:\n  preset: flannel\nhosts:\n").Replace(s)
			})
			if res := r.must(t, 7, "plan"); !strings.Contains(res.err, "hosts[].name is other-1 in the inventory, the cluster was made with "+h+" (other-1)") {
				t.Errorf("%s", res)
			}
		}
	})
}
