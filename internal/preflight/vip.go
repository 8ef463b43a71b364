package preflight

import (
	"context"
	"strings"
)

func vipNetwork(_ context.Context, c *Cluster) []Finding {
	vip := c.Inv.VIP.Address
	return c.eachMaster(func(h host) []Finding {
		i := c.vipInterface(h)
		if i == nil {
			return one(says("there is no interface for the VIP"))
		}
		var nets []string
		for _, p := range i.Prefixes {
			if p.Addr() == vip || p.Addr().IsLinkLocalUnicast() {
				continue // its own entry says nothing of the network
			}
			if p.Contains(vip) {
				return nil
			}
			nets = append(nets, p.Masked().String())
		}
		if len(nets) == 0 {
			nets = []string{"no network"}
		}
		return one(says("%s has %s; %s is not in it", i.Name, strings.Join(nets, ", "), vip))
	})
}

// vipUnused finds who has the VIP: it must be one master with keepalived, or none.
func vipUnused(_ context.Context, c *Cluster) []Finding {
	vip := c.Inv.VIP.Address
	holders := c.holders()
	out := c.vipClaims()
	for _, h := range holders {
		switch {
		case !h.master():
			out = append(out, says("has the VIP %s and is no master", vip).on(h.Name))
		case !h.Facts.Runs("keepalived"):
			out = append(out, says("has the VIP %s and runs no keepalived", vip).on(h.Name).do("ip addr del %s dev %s", single(vip), h.Facts.InterfaceOf(vip).Name))
		case len(holders) > 1:
			out = append(out, says("has the VIP %s, and so have %d others", vip, len(holders)-1).on(h.Name).do("see journalctl -u keepalived; the masters must hear one another's adverts"))
		}
	}
	if len(holders) > 0 {
		return out
	}
	return append(out, c.eachMaster(func(h host) []Finding {
		switch {
		case h.Probe == nil || !h.Probe.AskedVIP:
			return unknown("it was not asked who has %s", vip)
		case h.Probe.Answers != "":
			return one(says("%s answers for %s, and is none of the hosts", h.Probe.Answers, vip))
		}
		return nil
	})...)
}
