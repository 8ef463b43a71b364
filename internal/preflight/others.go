package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"hactl/internal/others"
)

// othersID is the check that --ignore does not make harmless: a step refuses, too.
const othersID = "others"

// belongsToOthers names what hactl did not make and would remove, replace or meet. On
// a host that hactl has set up, its own files are not asked about: there only what
// came later is named.
func belongsToOthers(_ context.Context, c *Cluster) []Finding {
	if c.Ask == nil {
		return nil
	}
	return c.each(func(h host) []Finding {
		if h.Probe == nil || h.Probe.Others == nil {
			return unknown("it is not known what belongs to others on the host")
		}
		if h.Facts.Record.Cluster != "" {
			return append(laterEngines(h.Probe.Others), otherBridge(h)...)
		}
		var out []Finding
		allowed, refused := h.Probe.Others.Split(c.TakeOver)
		for _, t := range refused {
			out = append(out, says("%s", t).do("%s", t.Hint()))
		}
		for _, t := range allowed {
			out = append(out, says("%s: permitted by --take-over %s", t, t.Word()).as(Warning).do("nothing to do"))
		}
		return out
	})
}

func laterEngines(found *others.Found) (out []Finding) {
	for _, t := range found.Things {
		if t.ID == "engine" {
			out = append(out, says("%s", t).as(Warning).do("%s", t.Way))
		}
	}
	return out
}

// otherBridge is a cni0 that was made for another pod subnet: the CNI plugin then
// starts no pod.
func otherBridge(h host) []Finding {
	subnet := h.Facts.Record.PodSubnet
	for _, i := range h.Facts.Interfaces {
		if i.Name != "cni0" || !subnet.IsValid() {
			continue
		}
		ours := func(p netip.Prefix) bool { return subnet.Contains(p.Addr()) || p.Addr().IsLinkLocalUnicast() }
		if k := slices.IndexFunc(i.Prefixes, func(p netip.Prefix) bool { return !ours(p) }); k >= 0 {
			return one(says("cni0 has %s, and the pods of this host are in %s: no pod starts", i.Prefixes[k], subnet).do("ip link delete cni0; the next pod makes it anew"))
		}
	}
	return nil
}

// holder is what a process is that has the name of one of hactl's and is not; "" when
// it is hactl's.
func (h host) holder(pid int) string {
	if h.Probe == nil || h.Probe.Others == nil {
		return ""
	}
	return h.Probe.Others.Holders[pid]
}

// forwarding: without it pods of two hosts do not reach one another.
func (c *Cluster) forwarding(h host) (out []Finding) {
	if h.Probe == nil || c.Inv.Network.Preset == "none" {
		return nil
	}
	pods := c.Inv.Network.PodSubnet
	for _, chain := range h.Probe.Forward {
		out = append(out, says("what is forwarded is dropped by default (%s): pods of two hosts do not reach one another", chain).as(Error).
			do("accept the pods there, such as iptables -I FORWARD -s %[1]s -j ACCEPT; iptables -I FORWARD -d %[1]s -j ACCEPT", fmt.Sprint(pods)))
	}
	return out
}
