package preflight

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"hactl/internal/facts"
)

func privateAddress(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if !h.PrivateAddress.IsValid() {
			return one(says("address %s is a name and privateAddress is not given", h.Address))
		}
		i := h.Facts.InterfaceOf(h.PrivateAddress)
		switch {
		case i == nil:
			return one(says("no interface has %s; it has %s", h.PrivateAddress, addresses(h.Facts)))
		case !i.Up:
			return one(says("%s, which has %s, is down", i.Name, h.PrivateAddress).do("ip link set %s up", i.Name))
		case h.Interface != "" && h.Interface != i.Name:
			return one(says("%s is on %s, not on %s", h.PrivateAddress, i.Name, h.Interface))
		}
		return nil
	})
}

// addresses lists what a host has, without loopback and link-local addresses.
func addresses(f *facts.Facts) string {
	var out []string
	for _, i := range f.Interfaces {
		for _, p := range i.Prefixes {
			if a := p.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() && len(out) < 8 {
				out = append(out, a.String()+" on "+i.Name)
			}
		}
	}
	if len(out) == 0 {
		return "no address"
	}
	return strings.Join(out, ", ")
}

// segment is the network of a host's private address.
func segment(h host) netip.Prefix {
	if i := h.Facts.InterfaceOf(h.PrivateAddress); i != nil {
		for _, p := range i.Prefixes {
			if p.Addr() == h.PrivateAddress {
				return p.Masked()
			}
		}
	}
	return netip.Prefix{}
}

// oneSegment: the preset routes sends pods' packets to the other host as the
// next hop, which must be a neighbour.
func oneSegment(_ context.Context, c *Cluster) []Finding {
	if c.Inv.Network.Preset != "routes" {
		return nil
	}
	return c.each(func(h host) []Finding {
		net := segment(h)
		if !net.IsValid() {
			return unknown("the network of %s is not known", h.PrivateAddress)
		}
		for _, other := range c.all() {
			if other.PrivateAddress.IsValid() && !net.Contains(other.PrivateAddress) {
				return one(says("%s of %s is not in %s, and network.preset is routes", other.PrivateAddress, other.Name, net))
			}
		}
		return nil
	})
}

func mtu(_ context.Context, c *Cluster) []Finding {
	first, name := 0, ""
	return c.each(func(h host) []Finding {
		i := h.Facts.InterfaceOf(h.PrivateAddress)
		switch {
		case i == nil || i.MTU == 0:
			return unknown("the interface of the private address is not known")
		case first == 0:
			first, name = i.MTU, h.Name
		case i.MTU != first:
			return one(says("the MTU of %s is %d, on %s it is %d", i.Name, i.MTU, name, first))
		}
		return nil
	})
}

func defaultRoute(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		var found *facts.Route
		for i, r := range h.Facts.Routes {
			if r.Dest.Bits() == 0 && r.Dest.Addr().Is6() == c.Inv.IPv6() && (found == nil || found.RA) {
				found = &h.Facts.Routes[i] // one that stays is better
			}
		}
		if found == nil {
			return one(says("there is no default route"))
		}
		// With forwarding the kernel takes advertisements only where accept_ra is 2. At 0
		// systemd-networkd or another program takes them.
		key := "net.ipv6.conf." + found.Interface + ".accept_ra"
		if found.RA && h.Facts.Sysctls[key].Value == "1" {
			return one(says("the default route comes by router advertisement, and is lost soon after hactl up turns forwarding on: %s is 1", key).
				do("echo %s=2 >/etc/sysctl.d/80-accept-ra.conf; sysctl -p /etc/sysctl.d/80-accept-ra.conf", key))
		}
		return nil
	})
}

// networks compares the cluster's networks with the hosts' own. Hosts inside the
// service network lose every new connection to one another as soon as kube-proxy
// is up: it drops what goes to service addresses that do not exist, and nothing
// logs a reason.
func networks(_ context.Context, c *Cluster) []Finding {
	pods, services := c.Inv.Network.PodSubnet, c.Inv.Network.ServiceSubnet
	return c.each(func(h host) []Finding {
		var out []Finding
		for _, r := range occupied(h) {
			if r.prefix.Overlaps(services) {
				out = append(out, says("network.serviceSubnet %s overlaps %s", services, r))
			}
			if r.prefix.Overlaps(pods) && !ownPodNetwork(h, r, pods) {
				out = append(out, says("network.podSubnet %s overlaps %s", pods, r))
			}
		}
		return out
	})
}

// place is a network that a host has, and where.
type place struct {
	prefix netip.Prefix
	iface  string
	what   string
	pods   bool // hactl made it for pods
}

func (p place) String() string { return p.prefix.String() + ", " + p.what + " " + p.iface }

// occupied lists the networks of a host's interfaces and routes, each once.
func occupied(h host) []place {
	var out []place
	add := func(p netip.Prefix, iface, what string, pods bool) {
		a := p.Addr()
		known := slices.ContainsFunc(out, func(o place) bool { return o.prefix == p && o.iface == iface })
		if p.Bits() > 0 && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !known {
			out = append(out, place{p, iface, what, pods})
		}
	}
	for _, i := range h.Facts.Interfaces {
		for _, p := range i.Prefixes {
			add(p.Masked(), i.Name, "the network of interface", false)
		}
	}
	for _, r := range h.Facts.Routes {
		add(r.Dest.Masked(), r.Interface, "a route through", r.Pods)
	}
	return out
}

// ownPodNetwork reports whether a network is what this cluster's own pod network
// has made: it lies inside the pod network, and hactl made the route (a run that
// was cut off did, too) or the host is a node already.
func ownPodNetwork(h host, p place, pods netip.Prefix) bool {
	return (p.pods || slices.Contains(h.Facts.Leftovers, "/etc/kubernetes/kubelet.conf")) &&
		p.prefix.Bits() >= pods.Bits() && pods.Contains(p.prefix.Addr())
}

func resolvConf(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		switch {
		case !h.Facts.ResolvConf:
			return one(says("/etc/resolv.conf is missing or cannot be read"))
		case len(h.Facts.Nameservers) == 0:
			return one(says("/etc/resolv.conf names no server: pods resolve only names of the cluster").as(Warning))
		}
		for _, n := range h.Facts.Nameservers {
			// 127.0.0.53 is systemd-resolved, which kubeadm looks behind.
			if n.IsLoopback() && n.String() != "127.0.0.53" {
				return one(says("/etc/resolv.conf names %s, which in a pod is the pod itself: CoreDNS would ask itself", n).as(Warning))
			}
		}
		return nil
	})
}

// proxy: kubeadm, kubelet and containerd take proxies from the environment and
// would send the cluster's own traffic there.
func proxy(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		p := h.Facts.Proxies
		if p["http_proxy"] == "" && p["https_proxy"] == "" && p["all_proxy"] == "" {
			return nil
		}
		var missing []string
		for _, want := range c.ownNetworks() {
			if !exempt(p["no_proxy"], want) {
				missing = append(missing, prefixText(want))
			}
		}
		if len(missing) > 0 {
			return one(says("a proxy is set and no_proxy does not cover %s", strings.Join(missing, ", ")))
		}
		return nil
	})
}

// ownNetworks is everything that must not go through a proxy.
func (c *Cluster) ownNetworks() []netip.Prefix {
	out := []netip.Prefix{c.Inv.Network.ServiceSubnet, c.Inv.Network.PodSubnet, single(c.Inv.VIP.Address)}
	for _, h := range c.all() {
		if h.PrivateAddress.IsValid() {
			out = append(out, single(h.PrivateAddress))
		}
	}
	return out
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// exempt reports whether no_proxy covers all of a network. Go programs know
// addresses, networks and *.
func exempt(noProxy string, want netip.Prefix) bool {
	for _, word := range strings.FieldsFunc(noProxy, func(r rune) bool { return r == ',' || r == ' ' }) {
		if word == "*" {
			return true
		}
		p, err := netip.ParsePrefix(word)
		if a, err2 := netip.ParseAddr(word); err2 == nil {
			p, err = single(a), nil
		}
		if err == nil && p.Bits() <= want.Bits() && p.Contains(want.Addr()) {
			return true
		}
	}
	return false
}
