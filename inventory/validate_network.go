package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// isAddr says whether s is a, however it is spelt.
func isAddr(s string, a netip.Addr) bool {
	b, err := netip.ParseAddr(s)
	return err == nil && b == a
}

// validateVIP asks whether the address can move among the masters.
func validateVIP(inv *Inventory, d *decoder) {
	if inv.VIP.AdvertInterval%(10*time.Millisecond) != 0 {
		d.report("vip.advertInterval", inv.VIP.AdvertInterval.String()+" is not a multiple of 10ms, the unit of VRRP version 3",
			"write "+inv.VIP.AdvertInterval.Round(10*time.Millisecond).String())
	}
	validatePort(inv, d)
	vip := inv.VIP.Address
	if !vip.IsValid() {
		return
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if isAddr(h.Address, vip) || h.PrivateAddress == vip {
			d.report("vip.address", fmt.Sprintf("%s is the address of %s", vip, hostName(inv, i)), "write an address that no host has")
			break
		}
		if b := h.SSH.Bastion; b != nil && isAddr(b.Address, vip) {
			d.report("vip.address", fmt.Sprintf("%s is the address of the bastion", vip), "write an address that no host has")
			break
		}
	}
	validateVIPNetwork(inv, d)
}

// takenPorts are those of a master's other parts.
var takenPorts = map[int]string{
	2379: "etcd", 2380: "etcd", 2381: "etcd", 10248: "the kubelet", 10249: "kube-proxy", 10250: "the kubelet", 10256: "kube-proxy",
	10257: "kube-controller-manager", 10259: "kube-scheduler",
}

// validatePort asks whether the apiservers can listen on their port.
func validatePort(inv *Inventory, d *decoder) {
	port := inv.VIP.Port
	if owner, taken := takenPorts[port]; taken {
		d.report("vip.port", fmt.Sprintf("%d is %s's port", port, owner), "write another one, such as 6443")
		return
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		a, _ := netip.ParseAddr(h.Address) // of a loopback address, a port is forwarded to another one
		if h.Role == ControlPlane && cmp.Or(h.SSH.Port, 22) == port && !a.IsLoopback() {
			d.report("vip.port", fmt.Sprintf("%d is the ssh port of %s", port, hostName(inv, i)), "write another port for one of the two")
			return
		}
	}
}

// validateVIPNetwork asks whether the VIP lies where the masters are. The real
// prefix lengths are on the hosts, so without vip.network this finds only what
// cannot be right; the preflight compares with the interfaces.
func validateVIPNetwork(inv *Inventory, d *decoder) {
	vip, network := inv.VIP.Address, inv.VIP.Network
	if network.IsValid() && network.Addr().Is4() != vip.Is4() {
		d.report("vip.network", fmt.Sprintf("%s is %s, the VIP %s is %s", network, family(network.Addr()), vip, family(vip)), "write the network that holds the VIP")
		return
	}
	if network.IsValid() && !network.Contains(vip) {
		d.report("vip.address", fmt.Sprintf("%s lies outside of vip.network, %s", vip, network), "write an unused address of that network")
		return
	}
	if network.IsValid() && vip.Is4() && network.Bits() < 31 && (vip == network.Addr() || !network.Contains(vip.Next())) {
		d.report("vip.address", fmt.Sprintf("%s is the network or broadcast address of vip.network, %s", vip, network), "write another unused address of that network")
		return
	}
	near, other := false, netip.Addr{}
	if network.IsValid() && !anyMasterIn(inv, network) {
		// One refusal with both ways out, and none for each master besides.
		d.report("vip.network", fmt.Sprintf("no master has its private address in %s: masters speak of the VIP over the network of these addresses", network),
			"write a VIP in the network of the masters' private addresses, or the masters' addresses in "+network.String()+" as privateAddress")
		return
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if h.Role != ControlPlane || !h.PrivateAddress.IsValid() || family(h.PrivateAddress) != family(vip) {
			continue
		}
		if network.IsValid() && !network.Contains(h.PrivateAddress) {
			d.report(privatePath(d, i), fmt.Sprintf("%s lies outside of vip.network, %s", h.PrivateAddress, network),
				"write the master's address in that network, or the network that all masters share")
		}
		other = h.PrivateAddress
		near = near || wide(vip).Contains(h.PrivateAddress)
	}
	if !network.IsValid() && !near && other.IsValid() {
		d.report("vip.address", fmt.Sprintf("%s is in the network of no master (%s, ...)", vip, other),
			"write an unused address in the network of the masters' private addresses, or the masters' addresses in the network of the VIP as privateAddress; name the network in vip.network only if it holds both")
	}
}

// anyMasterIn reports whether a master has its private address in the network, or
// whether no master has one that could be compared.
func anyMasterIn(inv *Inventory, network netip.Prefix) bool {
	compared := false
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if h.Role != ControlPlane || !h.PrivateAddress.IsValid() || h.PrivateAddress.Is4() != network.Addr().Is4() {
			continue
		}
		if network.Contains(h.PrivateAddress) {
			return true
		}
		compared = true
	}
	return !compared
}

// wide is the largest network around a that a VIP is likely to share.
func wide(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 16
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// privatePath is where the private address of a host is written: it may stand
// in address.
func privatePath(d *decoder, i int) string {
	path := indexed("hosts", i)
	if _, ok := d.at[path+".privateAddress"]; ok {
		return path + ".privateAddress"
	}
	return path + ".address"
}

// validateNetwork compares the pod and service subnets with each other and with
// everything that lies outside of the cluster.
func validateNetwork(inv *Inventory, d *decoder) {
	validateFamilies(inv, d)
	pods, services := inv.Network.PodSubnet, inv.Network.ServiceSubnet
	if pods.Overlaps(services) {
		path, other := "network.podSubnet", services
		if _, ok := d.at[path]; !ok {
			path, other = "network.serviceSubnet", pods
		}
		if !d.known("network.podSubnet") && !d.known("network.serviceSubnet") {
			d.report(path, fmt.Sprintf("pods %s and services %s overlap", pods, services), "write a network apart from "+other.String())
		}
	}
	validateSizes(inv, d)
	for _, s := range []struct {
		path string
		net  netip.Prefix
	}{{"network.podSubnet", pods}, {"network.serviceSubnet", services}} {
		if s.net.Addr().Is4() == inv.VIP.Address.Is4() || !inv.VIP.Address.IsValid() {
			outside(inv, d, s.path, s.net)
			continue
		}
		d.report(s.path, fmt.Sprintf("%s is %s, the VIP %s is %s", s.net, family(s.net.Addr()), inv.VIP.Address, family(inv.VIP.Address)),
			"write a network of the VIP's family, or remove the line")
	}
}

// validateFamilies keeps IPv4 and IPv6 apart: the cluster has one family.
func validateFamilies(inv *Inventory, d *decoder) {
	first := inv.VIP.Address
	what := "the VIP"
	for i := range inv.Hosts {
		a := inv.Hosts[i].PrivateAddress
		switch {
		case !a.IsValid():
		case !first.IsValid():
			first, what = a, hostName(inv, i)
		case family(a) != family(first):
			d.refuseFamily(privatePath(d, i), a, first, what)
		}
	}
}

func (d *decoder) refuseFamily(path string, a, first netip.Addr, what string) {
	instead := fmt.Sprintf("write an %s address", family(first))
	if path == parent(path)+".address" {
		instead = fmt.Sprintf("write privateAddress: with an %s address", family(first))
	}
	d.report(path, fmt.Sprintf("%s is %s, that of %s, %s, is %s", a, family(a), what, first, family(first)), instead)
	d.bad[path] = true
}

// outside reports every address of the file that lies in a network of the
// cluster's own: such a host could not be reached from a pod.
func outside(inv *Inventory, d *decoder, path string, network netip.Prefix) {
	report := func(a netip.Addr, what string) bool {
		if !a.IsValid() || !network.Contains(a) {
			return false
		}
		d.report(path, fmt.Sprintf("%s contains %s, the address of %s", network, a, what), "write a network that is used nowhere else")
		return true
	}
	if report(inv.VIP.Address, "the VIP") {
		return
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		a, _ := netip.ParseAddr(h.Address)
		if report(h.PrivateAddress, hostName(inv, i)) || report(a, hostName(inv, i)) {
			return // one host says it
		}
		if b := h.SSH.Bastion; b != nil {
			if a, err := netip.ParseAddr(b.Address); err == nil && report(a, "the bastion") {
				return
			}
		}
	}
	if n := inv.VIP.Network; n.IsValid() && n.Overlaps(network) {
		d.report(path, fmt.Sprintf("%s overlaps vip.network, %s", network, n), "write a network that is used nowhere else")
	}
}

// validateSizes holds the subnets to the limits of kube-controller-manager
// (a /24 or /64 for each node, cut from at most 16 bits) and kube-apiserver
// (at most 20 bits of service addresses; kubeadm asks for at least ten).
func validateSizes(inv *Inventory, d *decoder) {
	pods, services := inv.Network.PodSubnet, inv.Network.ServiceSubnet
	node := 24
	if !pods.Addr().Is4() {
		node = 64
	}
	room := node - pods.Bits()
	example := fmt.Sprintf("write a network of /%d to /%d", node-16, node-needBits(len(inv.Hosts)))
	switch {
	case room > 16:
		d.report("network.podSubnet", fmt.Sprintf("%s is too large: Kubernetes cuts a /%d for each node from at most a /%d", pods, node, node-16), example)
	case room < 0 || room < needBits(len(inv.Hosts)):
		d.report("network.podSubnet", fmt.Sprintf("%s has no room for a /%d for each of %d nodes", pods, node, len(inv.Hosts)), example)
	case pods.Addr().Is4() && inv.Kubernetes.KubeletMaxPods > 253:
		d.report("kubernetes.maxPods", fmt.Sprintf("a node's /24 has addresses for 253 pods, not for %d", inv.Kubernetes.KubeletMaxPods), "write 253 or less")
	}
	bits := services.Addr().BitLen()
	switch free := bits - services.Bits(); {
	case free > 20:
		d.report("network.serviceSubnet", fmt.Sprintf("%s is too large for the apiserver", services), fmt.Sprintf("write a network of /%d to /%d", bits-20, bits-4))
	case free < 4:
		d.report("network.serviceSubnet", fmt.Sprintf("%s is too small: kubeadm asks for ten addresses", services), fmt.Sprintf("write a network of /%d to /%d", bits-20, bits-4))
	}
}

// needBits is the number of bits that count to n.
func needBits(n int) int {
	bits := 0
	for 1<<bits < n {
		bits++
	}
	return bits
}
