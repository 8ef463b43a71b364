// Package network keeps what a node's pods need in the host's kernel: the routes to
// other nodes' pods, masquerading, and the tables of kube-proxy. It runs on every
// host as hactl-network.service. A link that was down, a restart of systemd-networkd,
// `nft flush ruleset` or `iptables -F` remove these without a word, and nothing else
// on the host writes them again: the cluster looks healthy and its pods reach nothing.
//
// It never sets an address. The virtual IP is keepalived's alone.
package network

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
)

// ConfigFile is where hactl writes a host's [Config].
const ConfigFile = "/etc/hactl/network.json"

// Config is what has to be in the kernel of one host.
type Config struct {
	Routes []Route `json:"routes"` // to the pods of other nodes; none when the pod network makes its own
	// Masquerade is the pod network: what leaves it gets the host's address. Invalid
	// when the pod network does that itself.
	Masquerade netip.Prefix `json:"masquerade"`
	KubeProxy  string       `json:"kubeProxy"` // its mode: "nftables", "iptables"; "" when there is none
}

// Route is the way to the pods of another node.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// String is the route as ip(8) writes it.
func (r Route) String() string { return fmt.Sprintf("%s via %s", r.To, r.Via) }

// ReadConfig reads a host's configuration.
func ReadConfig(path string) (Config, error) {
	var c Config
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	return c, c.check()
}

func (c Config) check() error {
	for _, r := range c.Routes {
		if !r.To.IsValid() || !r.Via.IsValid() || r.To.Addr().Is4() != r.Via.Is4() || r.To != r.To.Masked() {
			return fmt.Errorf("route %q is none", r)
		}
	}
	switch c.KubeProxy {
	case "", "nftables", "iptables":
		return nil
	}
	return fmt.Errorf("kubeProxy %q: want nftables, iptables or nothing", c.KubeProxy)
}
