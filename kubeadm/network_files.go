package kubeadm

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hactl/internal/facts"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
	"hactl/templates"
)

const (
	conflist = "/etc/cni/net.d/10-hactl.conflist"
)

// OwnSubnets reports whether hactl hands out the nodes' pod subnets. With any
// other pod network the controller manager does.
func OwnSubnets(inv *inventory.Inventory) bool { return inv.Network.Preset == "routes" }

// SubnetsOf are the nodes' pod subnets by the names of their hosts.
type SubnetsOf = map[string]netip.Prefix

// SeenSubnets is what the hosts' own files say about pod subnets.
type SeenSubnets struct {
	own    map[string]netip.Prefix                // by host, of the host itself
	routes map[string]map[netip.Addr]netip.Prefix // by host, of the others by their addresses

	former []network.Route // see Reserve
}

// LookForSubnets reads the hosts' pod network, one round trip each, all at once.
func LookForSubnets(ctx context.Context, inv *inventory.Inventory, hosts plan.Hosts) (*SeenSubnets, error) {
	found := make([]podSubnets, len(inv.Hosts))
	g, gctx := errgroup.WithContext(ctx)
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if hosts[h.Name] == nil {
			continue // skipped on request
		}
		g.Go(func() error {
			var err error
			if found[i], err = remote.Ask(gctx, hosts[h.Name], askSubnets, 0); err != nil {
				return fmt.Errorf("%s: look for its pod subnet: %w", h.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	seen := &SeenSubnets{own: map[string]netip.Prefix{}, routes: map[string]map[netip.Addr]netip.Prefix{}}
	for i := range inv.Hosts {
		seen.own[inv.Hosts[i].Name], seen.routes[inv.Hosts[i].Name] = found[i].own, found[i].others
	}
	return seen, nil
}

// Reserve keeps for nodes that are in no inventory the pod subnets that hosts have a
// route to: their machines may still run, and no newcomer gets the same one. nodes are
// those of the cluster; nil when they are not known, which counts as there. Nothing is
// kept for hosts that are being removed. It returns the routes to keep.
func (s *SeenSubnets) Reserve(inv *inventory.Inventory, nodes map[string]Node, removed []string) []network.Route {
	ours, there, found := map[netip.Addr]bool{}, map[string]bool{}, map[network.Route]bool{}
	for i := range inv.Hosts {
		ours[inv.Hosts[i].PrivateAddress] = true
	}
	for _, n := range nodes {
		there[n.Address] = !slices.Contains(removed, n.Name)
	}
	for _, routes := range s.routes {
		for via, to := range routes {
			if !ours[via] && (nodes == nil || there[via.String()]) {
				found[network.Route{To: to, Via: via}] = true
			}
		}
	}
	s.former = slices.SortedFunc(maps.Keys(found), func(a, b network.Route) int { return a.To.Compare(b.To) })
	return s.former
}

// Assign gives every node a pod subnet: /24, or /64 with IPv6. A host keeps the
// one that it has recorded; a host of an older hactl the one in its files; a host
// that was skipped or reinstalled the one to which the others have a route. The
// rest take the lowest free ones in the inventory's order.
func (s *SeenSubnets) Assign(inv *inventory.Inventory, all map[string]*facts.Brief) (map[string]netip.Prefix, error) {
	found := make([]netip.Prefix, len(inv.Hosts))
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if f := all[h.Name]; f != nil {
			found[i] = f.Record.PodSubnet
		}
		if !found[i].IsValid() {
			found[i] = s.own[h.Name]
		}
		for _, routes := range s.routes {
			if p := routes[h.PrivateAddress]; !found[i].IsValid() && p.IsValid() {
				found[i] = p
			}
		}
	}
	return assign(inv, found, s.former...)
}

// podSubnets is what the files of one host say.
type podSubnets struct {
	own    netip.Prefix                // invalid when there is none
	others map[netip.Addr]netip.Prefix // those to which it has routes, by the other node's address
}

var askSubnets = sys.Question[podSubnets]{
	Title: "look for pod subnets",
	Script: `! is_there ` + conflist + ` || sed -n 's/.*"subnet": "\([^"]*\)".*/\1/p' ` + conflist + ` || exit
! is_there ` + network.ConfigFile + ` || sed -n 's/.*{"to": "\([^"]*\)", "via": "\([^"]*\)"}.*/\1 \2/p' ` + network.ConfigFile + ` || exit
! is_there ` + olderRoutes + ` || sed -n 's/^ip .*route replace \([^ ]*\) via \([^ ]*\) .*/\1 \2/p' ` + olderRoutes + ` || exit
echo end`,
	Parse: parseSubnets,
}

func parseSubnets(answer string) (podSubnets, error) {
	out := podSubnets{others: map[netip.Addr]netip.Prefix{}}
	lines, err := sys.Lines(answer)
	for _, line := range lines {
		subnet, via, isRoute := strings.Cut(line, " ")
		p, err := netip.ParsePrefix(subnet)
		if !isRoute {
			out.own = p.Masked()
		} else if a, err2 := netip.ParseAddr(via); err == nil {
			out.others[a], err = p.Masked(), err2
		}
		if err != nil {
			return out, sys.Unreadable(answer)
		}
	}
	return out, err
}

func assign(inv *inventory.Inventory, found []netip.Prefix, former ...network.Route) (map[string]netip.Prefix, error) {
	pool := inv.Network.PodSubnet.Masked()
	bits := 24
	if pool.Addr().Is6() {
		bits = 64
	}
	out, used := map[string]netip.Prefix{}, map[netip.Prefix]string{}
	for i, p := range found {
		if p.IsValid() && p.Bits() == bits && pool.Contains(p.Addr()) && used[p] == "" {
			used[p] = inv.Hosts[i].Name
			out[inv.Hosts[i].Name] = p
		}
	}
	for _, r := range former {
		if used[r.To] == "" {
			used[r.To] = r.Via.String()
		}
	}
	next := netip.PrefixFrom(pool.Addr(), bits)
	for i := range inv.Hosts {
		name := inv.Hosts[i].Name
		if out[name].IsValid() {
			continue
		}
		for used[next] != "" {
			next = following(next)
		}
		if !pool.Contains(next.Addr()) {
			return nil, fmt.Errorf("network.podSubnet %s has no /%d left for %s", pool, bits, name)
		}
		used[next] = name
		out[name] = next
	}
	return out, nil
}

// following is the next prefix of the same length.
func following(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	for i := p.Bits()/8 - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			break
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// PodNetwork returns the files of the preset on one host. Those of routes, the CNI
// configuration with the node's own subnet and the routes to every other node's
// pods, need no apiserver and come before it, so that a node is Ready as soon as
// it registers.
func (c Cluster) PodNetwork(h *inventory.Host, subnets map[string]netip.Prefix) ([]plan.Step, error) {
	steps, err := c.networkFiles(h, subnets)
	if err != nil {
		return nil, err
	}
	if c.Inv.Network.Preset == "flannel" {
		flannel, err := c.flannel(h)
		return append(steps, flannel...), err
	}
	if !OwnSubnets(c.Inv) {
		return steps, nil
	}
	conf, err := templates.Render("cni-bridge.conflist.tmpl", map[string]any{"Subnet": subnets[h.Name].String(), "Default": defaultRoute(c.Inv), "MTU": c.podMTU(h)})
	cni := plan.File{ID: id(h, "cni"), Host: h.Name, Path: conflist, Content: conf, Lane: Lane}.Step()
	return append(steps, cni), err
}

// ethernet is the MTU that a pod's interface has by itself.
const ethernet = 1500

// podMTU is that of the interface to the other hosts, where pods would not have it by
// themselves: pods of a smaller one would send packets that no link on the way takes. 0:
// the usual one. Pods that run keep theirs until they are started anew.
func (c Cluster) podMTU(h *inventory.Host) int {
	f := c.Facts[h.Name]
	if f == nil {
		return 0
	}
	i := f.InterfaceOf(h.PrivateAddress)
	if i == nil || i.MTU == ethernet {
		return 0
	}
	return i.MTU
}

// ownUnit is a unit that no host has before.
func ownUnit(name string) []plan.Made {
	return []plan.Made{{Kind: "unit", Name: name, Former: plan.Former{Absent: true}}}
}

func defaultRoute(inv *inventory.Inventory) string {
	if inv.IPv6() {
		return "::/0"
	}
	return "0.0.0.0/0"
}

func ipFamily(inv *inventory.Inventory) string {
	if inv.IPv6() {
		return "-6"
	}
	return "-4"
}

func nftFamily(inv *inventory.Inventory) string {
	if inv.IPv6() {
		return "ip6"
	}
	return "ip"
}
