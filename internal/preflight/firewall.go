package preflight

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hactl/internal/facts"
)

// needs lists what other hosts must be able to reach on a host.
func (c *Cluster) needs(h host) []string {
	out := []string{fmt.Sprint(kubeletPort)}
	if h.master() {
		out = append(out, fmt.Sprint(etcdClientPort), fmt.Sprint(etcdPeerPort), fmt.Sprint(c.Inv.VIP.Port))
		if len(c.Inv.Masters()) > 1 {
			out = append(out, "VRRP")
		}
	}
	return out
}

// firewall reads the rules that a host has for what comes in. It cannot follow
// every rule: it asks whether packets are dropped by default and whether a rule
// names the port. What TCP really does is the business of ports-reachable.
func firewall(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		fw := h.Facts.Firewall
		out := c.forwarding(h)
		for _, s := range fw.Services {
			switch s {
			case "firewalld":
				out = append(out, c.firewalld(h)...)
			case "ufw":
				out = append(out, says("ufw is active: it must let in %s", strings.Join(c.needs(h), ", ")).do("%s", openUFW))
			}
		}
		for _, n := range c.needs(h) {
			if rule := refusal(fw, n); rule != "" {
				out = append(out, says("a rule stands against %s: %s", n, rule))
			}
		}
		// Its rules end with a reject, and were judged above.
		if len(out) > 0 || slices.Contains(fw.Services, "firewalld") || !drops(fw) {
			return out
		}
		if missing := unmentioned(fw, c.needs(h)); len(missing) > 0 {
			return one(says("what comes in is dropped by default and no rule mentions %s", strings.Join(missing, ", ")))
		}
		return nil
	})
}

const openUFW = "ufw allow from NETWORK_OF_THE_HOSTS; ufw allow proto vrrp is not known to ufw: add it to /etc/ufw/before.rules; or ufw disable"

var (
	nftPolicy  = regexp.MustCompile(`hook input [^;]*;[^\n]*policy drop`)
	nftVerdict = regexp.MustCompile(`(?m)^\s*(counter (packets \d+ bytes \d+ )?)?(drop|reject( with .*)?)\s*$`)
	iptPolicy  = regexp.MustCompile(`(?m)^-P INPUT (DROP|REJECT)`)
	iptVerdict = regexp.MustCompile(`(?m)^-A INPUT -j (DROP|REJECT)`)
	vrrpRule   = regexp.MustCompile(`\bvrrp\b|\b(ip|ipv6|meta|l4)?proto(col)? (\{[^}\n]*)?112\b|-p 112\b`)
)

// drops reports whether a chain for what comes in drops what no rule accepts.
func drops(fw facts.Firewall) bool {
	return nftPolicy.MatchString(fw.Nft) || nftVerdict.MatchString(fw.Nft) ||
		iptPolicy.MatchString(fw.IPTables) || iptVerdict.MatchString(fw.IPTables)
}

// refusal returns a rule that drops or rejects what comes to a port, or "". A
// reject by reset cannot be told from a port without a listener.
func refusal(fw facts.Firewall, need string) string {
	for rule := range strings.Lines(fw.Nft + "\n" + fw.IPTables) {
		nft := nftRefusal.MatchString(rule) && !strings.Contains(rule, "saddr")
		ipt := iptRefusal.MatchString(rule) && !strings.Contains(rule, " -s ")
		names := need == "VRRP" && vrrpRule.MatchString(rule) || need != "VRRP" && portMentioned(rule, need)
		if (nft || ipt) && names {
			return strings.TrimSpace(rule)
		}
	}
	return ""
}

var (
	nftRefusal = regexp.MustCompile(`(dport|proto|protocol|nexthdr) .*\b(drop|reject)\b`)
	iptRefusal = regexp.MustCompile(`^-A INPUT .*-j (DROP|REJECT)`)
)

// unmentioned returns what no rule names, neither by itself nor with everything
// from some source.
func unmentioned(fw facts.Firewall, needs []string) []string {
	rules := fw.Nft + "\n" + fw.IPTables
	var out []string
	for _, n := range needs {
		switch {
		case sourceRule.MatchString(rules):
		case n == "VRRP" && vrrpRule.MatchString(rules):
		case n != "VRRP" && portMentioned(rules, n):
		default:
			out = append(out, n)
		}
	}
	return out
}

// sourceRule accepts everything from an address or network.
var sourceRule = regexp.MustCompile(`(?m)^\s*ip6? saddr (\{[^}\n]*\}|\S+)( counter[^\n]*)? accept$|^-A INPUT -s \S+ -j ACCEPT`)

var portRange = regexp.MustCompile(`\b(\d{1,5})[-:](\d{1,5})\b`)

func portMentioned(rules, port string) bool {
	if regexp.MustCompile(`\b` + port + `\b`).MatchString(rules) {
		return true
	}
	for _, m := range portRange.FindAllStringSubmatch(rules, -1) {
		var from, to, n int
		if k, _ := fmt.Sscan(m[1]+" "+m[2]+" "+port, &from, &to, &n); k == 3 && from <= n && n <= to {
			return true
		}
	}
	return false
}
