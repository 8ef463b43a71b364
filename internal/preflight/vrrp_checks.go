package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/inventory"
)

// vrrpOverlap is for how long two hosts must have been at it together before
// silence means something: five of the probes, which come every 100 ms.
const vrrpOverlap = 500 * time.Millisecond

// vrrpPeers are the other masters that take part.
func (c *Cluster) vrrpPeers(h *inventory.Host) string {
	var out []string
	for _, m := range c.Inv.Masters() {
		if m.Name != h.Name && c.Hosts[m.Name] != nil && m.PrivateAddress.IsValid() {
			out = append(out, m.PrivateAddress.String())
		}
	}
	return strings.Join(out, " ")
}

// vrrpPasses asks what became of the probes of IP protocol 112 that the masters
// sent one another. Where nothing could be sent, the rules of the firewalls and
// what keepalived does are all that is left to look at.
func vrrpPasses(_ context.Context, c *Cluster) []Finding {
	masters := c.Inv.Masters()
	if len(masters) < 2 {
		return nil
	}
	var out, blind []Finding
	for _, to := range masters {
		found, notSeen := c.vrrpTo(to)
		out, blind = append(out, found...), append(blind, notSeen...)
	}
	if len(blind) == 0 {
		return out
	}
	return append(out, c.vrrpUntried(blind)...)
}

// vrrpTo is what one master hears of the others, and what cannot be said.
func (c *Cluster) vrrpTo(to *inventory.Host) (found, blind []Finding) {
	t := c.probes[to.Name]
	switch {
	case t == nil:
		return nil, one(says("the host could not be looked at").as(Unknown).on(to.Name))
	case !t.VRRP.Heard:
		return nil, one(says("VRRP was not tried: %s", t.VRRP.why()).as(Unknown).on(to.Name).
			do("see for yourself that IP protocol 112 passes between the masters"))
	}
	var dropped, lost []string
	for _, from := range c.Inv.Masters() {
		f := c.probes[from.Name]
		a := from.PrivateAddress
		if from.Name == to.Name || f == nil || !f.VRRP.Heard || slices.Contains(t.VRRP.LetIn, a) {
			continue
		}
		who := fmt.Sprintf("%s (%s)", from.Name, a)
		switch why := f.VRRP.Unsent[to.PrivateAddress]; {
		case why != "":
			found = append(found, says("VRRP (IP protocol 112) cannot be sent to %s (%s): %s", to.Name, to.PrivateAddress, why).
				as(Error).on(from.Name).do("a firewall on this host drops what it sends, or there is no route: nft list ruleset; ip route"))
		case slices.Contains(t.VRRP.Wire, a):
			dropped = append(dropped, who)
		case together(f, t) < vrrpOverlap:
			blind = append(blind, says("did not listen while %s sent", from.Name).as(Unknown).on(to.Name).do("run hactl preflight again: one of them was slow"))
		default:
			lost = append(lost, who)
		}
	}
	if len(dropped) > 0 {
		found = append(found, says("VRRP (IP protocol 112) from %s arrives, and a firewall on this host drops it", strings.Join(dropped, ", ")).
			as(Error).on(to.Name).do("let IP protocol 112 in from the other masters: nft add rule ... ip protocol vrrp accept; firewall-cmd --permanent --add-protocol=vrrp"))
	}
	if len(lost) > 0 {
		found = append(found, says("VRRP (IP protocol 112) from %s does not arrive", strings.Join(lost, ", ")).
			as(Error).on(to.Name).do("allow IP protocol 112 between the masters: in the cloud's security group, the hypervisor, the switch"))
	}
	return found, blind
}

// apart reports whether a master did not hear another one that sent at another time.
func (c *Cluster) apart() bool {
	for _, to := range c.Inv.Masters() {
		for _, from := range c.Inv.Masters() {
			t, f := c.probes[to.Name], c.probes[from.Name]
			if t == nil || f == nil || t == f || !t.VRRP.Heard || !f.VRRP.Heard {
				continue
			}
			heard := slices.Contains(t.VRRP.LetIn, from.PrivateAddress) || slices.Contains(t.VRRP.Wire, from.PrivateAddress)
			if !heard && f.VRRP.Unsent[to.PrivateAddress] == "" && together(f, t) < vrrpOverlap {
				return true
			}
		}
	}
	return false
}

// vrrpUntried judges masters between which nothing was sent: by the rules on the
// hosts, and by one owner of the VIP where keepalived runs everywhere.
func (c *Cluster) vrrpUntried(blind []Finding) []Finding {
	running := 0
	out := c.eachMaster(func(h host) []Finding {
		if h.Facts.Runs("keepalived") {
			running++
		}
		if fw := h.Facts.Firewall; drops(fw) && len(unmentioned(fw, []string{"VRRP"})) > 0 {
			return one(says("the firewall drops by default and no rule mentions VRRP (IP protocol 112)"))
		}
		return nil
	})
	all, owners := running == len(c.Inv.Masters()), len(c.holders())
	switch {
	case all && owners == 1:
		return out
	case all && owners > 1:
		return append(out, says("keepalived runs on all masters and %d of them hold the VIP: they do not hear one another", owners).as(Error))
	}
	return append(out, slices.DeleteFunc(blind, func(f Finding) bool { return c.Facts[f.Host] == nil })...) // those are in out
}

// together is for how long two hosts sent and listened at the same time, at the
// least: on the operator's clock, less what is not known of theirs.
func together(a, b *probe) time.Duration {
	from := max(a.VRRP.From-int64(a.Clock.Offset), b.VRRP.From-int64(b.Clock.Offset))
	until := min(a.VRRP.Until-int64(a.Clock.Offset), b.VRRP.Until-int64(b.Clock.Offset))
	return time.Duration(until-from) - a.Clock.Error - b.Clock.Error
}

// foreign are the adverts that a host heard of others than the masters. Our own
// keepalived's are ours.
func (c *Cluster) foreign(h *inventory.Host) []vrrpAdvert {
	p := c.probes[h.Name]
	if p == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.VRRP.Adverts), func(a vrrpAdvert) bool { return c.isMaster(a.From) })
}

// vridUnused asks who else uses the id. Masters speak to one another by unicast
// and drop what strangers say, so it costs no more than their log lines; a lone
// master speaks by multicast, and yields to any higher priority.
func vridUnused(_ context.Context, c *Cluster) []Finding {
	severity := Warning
	if len(c.Inv.Masters()) == 1 {
		severity = Error
	}
	var ids []string
	for _, h := range c.Inv.Masters() {
		for _, a := range c.foreign(h) {
			ids = append(ids, strconv.Itoa(a.VRID))
		}
	}
	slices.Sort(ids)
	taken := strings.Join(slices.Compact(ids), ", ")
	told := map[netip.Addr]bool{}
	return c.eachMaster(func(h host) []Finding {
		if h.Probe == nil {
			return unknown("it was not listened for VRRP")
		}
		var out []Finding
		for _, a := range c.foreign(h.Host) {
			if a.VRID == c.Inv.VIP.VirtualRouterID && !told[a.From] {
				out = append(out, says("%s, no master of this cluster, sends VRRP adverts (version %d) with virtual router id %d", a.From, a.Version, a.VRID).
					as(severity).do("set vip.virtualRouterID to a number that others do not use (heard: %s)", taken))
			}
			told[a.From] = told[a.From] || a.VRID == c.Inv.VIP.VirtualRouterID
		}
		if len(out) == 0 && !h.Probe.VRRP.Heard {
			return unknown("it was not listened for VRRP: %s", h.Probe.VRRP.why())
		}
		return out
	})
}

// vipClaims finds strangers whose adverts claim the VIP: two would have it.
func (c *Cluster) vipClaims() []Finding {
	var out []Finding
	told := map[netip.Addr]bool{}
	for _, h := range c.Inv.Masters() {
		for _, a := range c.foreign(h) {
			if !told[a.From] && slices.Contains(a.For, c.Inv.VIP.Address) {
				told[a.From] = true
				out = append(out, says("%s, no master of this cluster, claims the VIP %s by VRRP (virtual router id %d)", a.From, c.Inv.VIP.Address, a.VRID).
					on(h.Name).do("stop keepalived on %s, or write another address into vip.address", a.From))
			}
		}
	}
	return out
}

// isMaster reports whether an address is on a master: that of the inventory, or
// another of its interfaces.
func (c *Cluster) isMaster(a netip.Addr) bool {
	for _, m := range c.Inv.Masters() {
		if f := c.Facts[m.Name]; m.PrivateAddress == a || f != nil && f.InterfaceOf(a) != nil {
			return true
		}
	}
	return false
}
