package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// firewalld judges the firewalld of a host by its zone "trusted", whose sources it lets in
// and forwards, pods' packets included. Rules of hactl's could not replace that: what
// another table accepts, firewalld still rejects. Opening it is left to the operator, since
// the firewall is his.
func (c *Cluster) firewalld(h host) []Finding {
	trusted := h.Facts.Firewall.Trusted
	if slices.Contains(trusted, "all") {
		return nil
	}
	var out []string
	open := "firewall-cmd --permanent --zone=trusted"
	for _, h := range c.Inv.Hosts {
		a := h.PrivateAddress
		open += " --add-source=" + a.String()
		if !covered(trusted, netip.PrefixFrom(a, a.BitLen())) {
			out = append(out, a.String())
		}
	}
	pods := c.Inv.Network.PodSubnet
	podsOut := c.Inv.Network.Preset != "none" && !slices.Contains(trusted, "cni0") && !covered(trusted, pods)
	if podsOut {
		out = append(out, fmt.Sprintf("the pods (%s)", pods))
	}
	if len(out) == 0 {
		return nil
	}
	if c.Inv.Network.Preset != "none" {
		open += " --add-source=" + pods.String()
	}
	if h.master() {
		open += fmt.Sprintf(" && firewall-cmd --permanent --add-port=%d/tcp", c.Inv.VIP.Port)
	}
	f := says("firewalld is active and does not trust %s: it must let in %s", strings.Join(out, ", "), strings.Join(c.needs(h), ", ")).
		do("%s && firewall-cmd --reload; or stop firewalld", open)
	if podsOut {
		f = f.as(Error) // no pod reaches the API
	}
	return one(f)
}

// covered reports whether an address or network of trusted holds all of p.
func covered(trusted []string, p netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(t string) bool {
		if a, err := netip.ParseAddr(t); err == nil {
			t = netip.PrefixFrom(a, a.BitLen()).String()
		}
		n, err := netip.ParsePrefix(t)
		return err == nil && n.Bits() <= p.Bits() && n.Contains(p.Addr())
	})
}
