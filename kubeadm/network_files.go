package kubeadm

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/templates"
)

const (
	conflist   = "/etc/cni/net.d/10-hactl.conflist"
	routesPath = "/usr/local/libexec/hactl/pod-routes"
	routesUnit = "hactl-pod-routes.service"
)

// OwnSubnets reports whether hactl hands out the nodes' pod subnets. With any
// other pod network the controller manager does.
func OwnSubnets(inv *inventory.Inventory) bool { return inv.Network.Preset == "routes" }

// SeenSubnets is what the hosts' own files say about pod subnets.
type SeenSubnets struct {
	own    map[string]netip.Prefix                // by host, of the host itself
	routes map[string]map[netip.Addr]netip.Prefix // by host, of the others by their addresses
}

// LookForSubnets reads the hosts' pod network, one round trip each, all at once.
func LookForSubnets(ctx context.Context, inv *inventory.Inventory, hosts plan.Hosts) (*SeenSubnets, error) {
	found := make([]netip.Prefix, len(inv.Hosts))
	told := make([]map[netip.Addr]netip.Prefix, len(inv.Hosts))
	g, gctx := errgroup.WithContext(ctx)
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if hosts[h.Name] == nil {
			continue // skipped on request
		}
		g.Go(func() error {
			var err error
			if found[i], told[i], err = seenSubnets(gctx, hosts[h.Name]); err != nil {
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
		seen.own[inv.Hosts[i].Name], seen.routes[inv.Hosts[i].Name] = found[i], told[i]
	}
	return seen, nil
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
	return assign(inv, found)
}

// seenSubnets is the host's own pod subnet, invalid when it has none or one that
// is not ours (the file step shows the difference), and those to which it has
// routes, by the other node's address.
func seenSubnets(ctx context.Context, h remote.Host) (own netip.Prefix, others map[netip.Addr]netip.Prefix, err error) {
	res, err := h.Run(ctx, remote.Cmd{Title: "look for pod subnets", Script: `sed -n 's/.*"subnet": "\([^"]*\)".*/\1/p' ` + conflist + ` 2>/dev/null
sed -n 's/^ip .*route replace \([^ ]*\) via \([^ ]*\) .*/\1 \2/p' ` + routesPath + ` 2>/dev/null || :`})
	if err != nil {
		return own, nil, err
	}
	others = map[netip.Addr]netip.Prefix{}
	for line := range strings.Lines(string(res.Stdout)) {
		subnet, via, isRoute := strings.Cut(strings.TrimSpace(line), " ")
		p, err := netip.ParsePrefix(subnet)
		if err != nil {
			continue
		}
		if !isRoute {
			own = p.Masked()
		} else if a, err := netip.ParseAddr(via); err == nil {
			others[a] = p.Masked()
		}
	}
	return own, others, nil
}

func assign(inv *inventory.Inventory, found []netip.Prefix) (map[string]netip.Prefix, error) {
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

// PodNetwork returns the steps of the preset on one host. Those of routes, the
// CNI configuration with the node's own subnet and a route to every other node's
// pods, need no apiserver and come before it, so that a node is Ready as soon as
// it registers.
func (c Cluster) PodNetwork(h *inventory.Host, subnets map[string]netip.Prefix) ([]plan.Step, error) {
	if c.Inv.Network.Preset == "flannel" {
		return c.flannel(h)
	}
	if !OwnSubnets(c.Inv) {
		return nil, nil
	}
	conf, err := templates.Render("cni-bridge.conflist.tmpl", map[string]any{"Subnet": subnets[h.Name].String(), "Default": defaultRoute(c.Inv)})
	if err != nil {
		return nil, err
	}
	routes, err := c.routes(h, subnets)
	cni := plan.File{ID: id(h, "cni"), Host: h.Name, Path: conflist, Content: conf, Lane: Lane}.Step()
	return append([]plan.Step{cni}, routes...), err
}

// route is the way to another node's pods.
type route struct{ Subnet, Via string }

func (c Cluster) routes(h *inventory.Host, subnets map[string]netip.Prefix) ([]plan.Step, error) {
	var rs []route
	look := "m=\n"
	for i := range c.Inv.Hosts {
		o := &c.Inv.Hosts[i]
		if o.Name == h.Name {
			continue
		}
		r := route{subnets[o.Name].String(), o.PrivateAddress.String()}
		rs = append(rs, r)
		look += fmt.Sprintf("case \"$(ip %s route show %s)\" in *'via %s '*) ;; *) m=\"$m %s\";; esac\n", ipFamily(c.Inv), r.Subnet, r.Via, r.Subnet)
	}
	data := map[string]any{"Routes": rs, "Family": ipFamily(c.Inv), "Pods": c.Inv.Network.PodSubnet.String(), "IP": nftFamily(c.Inv), "Protocol": facts.PodRoutes}
	script, err := templates.Render("pod-routes.sh.tmpl", data)
	if err != nil {
		return nil, err
	}
	unit, err := templates.Render("pod-routes.service.tmpl", data)
	if err != nil {
		return nil, err
	}
	return []plan.Step{
		plan.File{ID: id(h, "routes-script"), Host: h.Name, Path: routesPath, Content: script, Mode: 0o755, Lane: Lane}.Step(),
		plan.File{ID: id(h, "routes-unit"), Host: h.Name, Path: "/etc/systemd/system/" + routesUnit, Content: unit, Lane: Lane}.Step(),
		plan.Script{
			ID: id(h, "routes"), Host: h.Name, Title: "routes to pods", Lane: Lane, Op: plan.Start, Timeout: 2 * time.Minute, Acts: plan.EachOf,
			Look: look + `systemctl is-enabled --quiet ` + routesUnit + ` || m="$m, unit not enabled"
nft list table ` + nftFamily(c.Inv) + ` hactl_pods >/dev/null || m="$m, no masquerading"
[ -z "$m" ] && echo ok || echo "missing:$m"`,
			Summary: "set routes to the other nodes' pods",
			Run: `[ "$(systemctl show -p LoadState -p NeedDaemonReload --value ` + routesUnit + ` | tr '\n' ' ')" = "loaded no " ] || systemctl daemon-reload || exit
` + plan.EnableUnit + ` ` + routesUnit + ` && systemctl restart ` + routesUnit,
		}.Step(),
	}, nil
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
