package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
)

// Scaffold says what a new inventory is to hold.
type Scaffold struct {
	Cluster string     // "demo" when empty
	Masters int        // 1, 3, 5 or 7
	Workers int        // 0 to 100
	VIP     netip.Addr // the zero value: an example address
}

// YAML returns a commented inventory that loads as it is. Placeholder hosts get
// the addresses behind the VIP's. All comments are the doc tags of the types,
// and the settings that are left out are shown with their defaults.
func (s Scaffold) YAML() ([]byte, error) {
	or(&s.Cluster, "demo")
	or(&s.VIP, netip.MustParseAddr("192.0.2.10"))
	if err := s.check(); err != nil {
		return nil, err
	}
	hosts := s.placeholders()
	pods, services := s.subnets()
	w := scaffoldWriter{
		set: map[string]string{
			"apiVersion": APIVersion, "kind": Kind, "cluster": s.Cluster, "vip.address": s.VIP.String(), "ssh.user": "root",
			"network.podSubnet": pods.String(), "network.serviceSubnet": services.String(),
		},
		examples: map[string]string{"vip.network": s.near().String(), "pki.store": "pki-" + s.Cluster},
		hosts:    hosts,
	}
	if err := w.learnDefaults(s.minimal(hosts)); err != nil {
		return nil, err
	}
	w.line("# yaml-language-server: $schema=%s", SchemaName)
	w.line("#")
	w.line("# The inventory of hactl. A # without a space behind it marks a setting that is left")
	w.line("# out; the value shown is its default or an example. Check with: hactl validate -i FILE")
	w.fields(reflect.TypeFor[Inventory](), "", "")
	out := []byte(w.String())
	if _, err := Parse("inventory.yaml", out); err != nil {
		return nil, err
	}
	return out, nil
}

func (s Scaffold) check() error {
	if what, instead := usableAddr(s.VIP); what != "" {
		return fmt.Errorf("the VIP: %s; %s", what, instead)
	}
	switch {
	case s.Masters < 1 || s.Masters > 7 || s.Masters%2 == 0:
		return fmt.Errorf("%d masters: an inventory has 1, 3, 5 or 7", s.Masters)
	case s.Workers < 0 || s.Workers > 100:
		return fmt.Errorf("%d workers: a scaffold has 0 to 100; copy the entry of one for more", s.Workers)
	}
	return nil
}

// near is a network around the VIP that has room for every placeholder.
func (s Scaffold) near() netip.Prefix {
	bits := 120
	if s.VIP.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(s.VIP, bits).Masked()
}

// placeholders are hosts with the addresses after the VIP's, in its /24 (/120).
func (s Scaffold) placeholders() []Host {
	near := s.near()
	addr, hosts := s.VIP, make([]Host, s.Masters+s.Workers)
	for i := range hosts {
		addr = addr.Next()
		for !near.Contains(addr) || !near.Contains(addr.Next()) || addr == near.Addr() || addr == s.VIP {
			if addr = addr.Next(); !near.Contains(addr) {
				addr = near.Addr().Next()
			}
		}
		hosts[i] = Host{Name: fmt.Sprintf("master-%d", i+1), Address: addr.String(), Role: ControlPlane}
		if i >= s.Masters {
			hosts[i].Name, hosts[i].Role = fmt.Sprintf("worker-%d", i-s.Masters+1), Worker
		}
	}
	return hosts
}

// subnets are the defaults, or others where the VIP's surroundings overlap them.
func (s Scaffold) subnets() (pods, services netip.Prefix) {
	pick := func(candidates ...string) (p netip.Prefix) {
		for _, c := range candidates {
			if p = netip.MustParsePrefix(c); !p.Overlaps(wide(s.VIP)) {
				break
			}
		}
		return p
	}
	if s.VIP.Is4() {
		return pick("10.244.0.0/16", "172.20.0.0/16"), pick("10.96.0.0/16", "172.21.0.0/16")
	}
	return pick("fd00:10:244::/56", "fd00:20:244::/56"), pick("fd00:10:96::/112", "fd00:20:96::/112")
}

// minimal is the same inventory in plain YAML, from which defaults are learnt.
func (s Scaffold) minimal(hosts []Host) string {
	var b strings.Builder
	pods, services := s.subnets()
	fmt.Fprintf(&b, "cluster: %q\nvip: {address: %q}\nnetwork: {podSubnet: %q, serviceSubnet: %q}\nhosts:\n", s.Cluster, s.VIP, pods, services)
	for _, h := range hosts {
		fmt.Fprintf(&b, "- {name: %q, address: %q, role: %q}\n", h.Name, h.Address, h.Role)
	}
	return b.String()
}
