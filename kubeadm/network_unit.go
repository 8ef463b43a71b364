package kubeadm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hactl/internal/facts"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/templates"
)

// Paths of what keeps a host's pod network.
const (
	networkUnit     = "hactl-network.service"
	networkUnitFile = "/etc/systemd/system/" + networkUnit
	// An older hactl set the routes once, at the boot of the host.
	olderRoutes   = "/usr/local/libexec/hactl/pod-routes"
	olderUnit     = "hactl-pod-routes.service"
	olderUnitFile = "/etc/systemd/system/" + olderUnit
)

// NetworkLink is the name by which people call hactl-network on a host.
const NetworkLink = "/usr/local/bin/hactl-network"

// NetworkProgram is the hactl-network of this machine.
type NetworkProgram struct{ Path, SHA256 string }

// On is where it lies on a host.
func (p NetworkProgram) On() string { return plan.ProgramPath("hactl-network", "build", p.SHA256) }

// networkConfig is what has to be in the kernel of a host.
func (c Cluster) networkConfig(h *inventory.Host, subnets SubnetsOf) network.Config {
	conf := network.Config{KubeProxy: c.Inv.Network.ProxyMode}
	if !OwnSubnets(c.Inv) {
		return conf
	}
	conf.Masquerade = c.Inv.Network.PodSubnet
	for i := range c.Inv.Hosts {
		if o := &c.Inv.Hosts[i]; o.Name != h.Name {
			conf.Routes = append(conf.Routes, network.Route{To: subnets[o.Name], Via: o.PrivateAddress})
		}
	}
	for _, r := range c.FormerRoutes {
		if !slices.ContainsFunc(slices.Collect(maps.Values(subnets)), func(p netip.Prefix) bool { return p == r.To }) {
			conf.Routes = append(conf.Routes, r)
		}
	}
	return conf
}

// networkFiles are the files that hactl-network and other programs read by themselves
// when they change or start: no process has to be started anew for them.
func (c Cluster) networkFiles(h *inventory.Host, subnets SubnetsOf) ([]plan.Step, error) {
	conf := c.networkConfig(h, subnets)
	pods := ""
	if conf.Masquerade.IsValid() {
		pods = conf.Masquerade.String()
	}
	files := []struct {
		what, template, path string
		there                bool
	}{
		{"network-config", "network.json.tmpl", network.ConfigFile, true},
		{"networkd-foreign", "networkd-foreign.conf.tmpl", "/etc/systemd/networkd.conf.d/90-hactl.conf", c.manages(h, "networkd")},
		{"networkd-pods", "networkd-pods.network.tmpl", "/etc/systemd/network/05-hactl-pods.network", c.manages(h, "networkd")},
		{"networkmanager", "networkmanager.conf.tmpl", "/etc/NetworkManager/conf.d/90-hactl.conf", c.manages(h, "NetworkManager")},
	}
	var steps []plan.Step
	for _, f := range files {
		if !f.there {
			continue
		}
		content, err := templates.Render(f.template, map[string]any{"Routes": conf.Routes, "Masquerade": pods, "KubeProxy": conf.KubeProxy})
		if err != nil {
			return nil, err
		}
		steps = append(steps, plan.File{ID: id(h, f.what), Host: h.Name, Path: f.path, Content: content, Lane: Lane}.Step())
	}
	return steps, nil
}

// manages reports whether the host has that program, which sets up interfaces.
func (c Cluster) manages(h *inventory.Host, program string) bool {
	f := c.Facts[h.Name]
	return f != nil && slices.Contains(f.NetworkManagers, program)
}

// Network returns the steps of hactl-network on a host, which puts back what is lost
// in the kernel, and the proof that everything is in place. See internal/network.
// They come after those of [Cluster.PodNetwork].
func (c Cluster) Network(h *inventory.Host, subnets SubnetsOf) ([]plan.Step, error) {
	data := map[string]any{"Config": "", "Program": c.NetworkProgram.On(), "Reads": []string{networkUnitFile}}
	bare, err := templates.Render("hactl-network.service.tmpl", data)
	if err != nil {
		return nil, err
	}
	sum := plan.Digest(bare)
	data["Config"] = sum
	unit, err := templates.Render("hactl-network.service.tmpl", data)
	return []plan.Step{
		plan.Executable{ID: id(h, "network-program"), Host: h.Name, Path: c.NetworkProgram.On(), Local: c.NetworkProgram.Path, SHA256: c.NetworkProgram.SHA256, Lane: Lane}.Step(),
		plan.File{ID: id(h, "network-unit"), Host: h.Name, Path: networkUnitFile, Content: unit, Lane: Lane}.Step(),
		plan.Service{ID: id(h, "network"), Host: h.Name, Unit: networkUnit, Config: sum, Lane: Lane, Reads: map[string][]byte{networkUnitFile: unit}}.Step(),
		c.routes(h, c.networkConfig(h, subnets)),
		// Its end takes nothing away: the routes stay.
		plan.Service{ID: id(h, "older-network"), Host: h.Name, Unit: olderUnit, Absent: true, Lane: Lane}.Step(),
		plan.File{ID: id(h, "older-network-unit"), Host: h.Name, Path: olderUnitFile, Absent: true, Lane: Lane}.Step(),
		plan.File{ID: id(h, "older-network-script"), Host: h.Name, Path: olderRoutes, Absent: true, Lane: Lane}.Step(),
	}, err
}

// routes is the step that waits until everything is in the kernel. What is missing
// longer cannot be set by hactl-network, which says why.
func (c Cluster) routes(h *inventory.Host, conf network.Config) plan.Step {
	var look strings.Builder
	look.WriteString("m=\n")
	if len(conf.Routes) > 0 {
		look.WriteString("N='\n'\nr=\n! command -v ip >/dev/null || r=\"$N$(ip " + ipFamily(c.Inv) + " route show proto " + facts.PodRoutes + ")\" || exit 1\n")
	}
	for _, r := range conf.Routes {
		fmt.Fprintf(&look, "case $r in *\"$N%s via %s \"*) ;; *) m=\"$m %s\";; esac\n", r.To, r.Via, r.To)
	}
	if conf.Masquerade.IsValid() {
		look.WriteString("case $(nft list table " + nftFamily(c.Inv) + " hactl_pods) in *" + conf.Masquerade.String() + "*) ;; *) m=\"$m, no masquerading\";; esac\n")
	}
	look.WriteString(`[ -z "$m" ] && echo ok || echo "missing:$m"`)
	return plan.Script{
		ID: id(h, "routes"), Host: h.Name, Title: "routes to pods", Lane: Lane, Op: plan.Start, Timeout: time.Minute, Acts: plan.EachOf,
		Look:    look.String(),
		Summary: "set routes to the other nodes' pods",
		Run: `look() {
` + look.String() + `
}
are_set() { s=$(look) && [ "$s" = ok ]; }
systemctl reload ` + networkUnit + ` || exit
wait_until 20 "not all set" are_set || { echo "$s: $(property_of StatusText ` + networkUnit + `); see journalctl -u ` + networkUnit + `" >&2; exit 1; }`,
	}.Step()
}
