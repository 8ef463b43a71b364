package kubeadm

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

const maxPodsField = "kubernetes.maxPods"

// ImmutableError is a setting of the inventory that a running cluster does not
// follow: kubeadm writes it into kubeconfigs, kubelets' configuration and the
// cluster's own objects once, and only half of that would follow.
type ImmutableError struct {
	Field    string // of the inventory
	Was, Now string // what the cluster was made with, what the inventory says
	Hosts    []string
}

// Error names the field, both values and the hosts.
func (e *ImmutableError) Error() string {
	return fmt.Sprintf("%s is %s in the inventory, the cluster was made with %s (%s)", e.Field, e.Now, e.Was, strings.Join(e.Hosts, ", "))
}

// ExitCode is the code for "refused: not safe".
func (e *ImmutableError) ExitCode() int { return 7 }

const (
	putBack = "nothing was changed; put the old values back: hactl cannot change them on a cluster that is there, other ones take a new cluster"
	// Nodes are looked at, so that the inventory may follow them.
	byHand = "maxPods can be changed by hand, then in the inventory: in /var/lib/kubelet/config.yaml of every host (systemctl restart kubelet), and for nodes to come in the ConfigMap kubelet-config of kube-system"
)

// The names of fields by which a host is known in the cluster.
const (
	nameField    = "hosts[].name"
	addressField = "hosts[].privateAddress"
)

// RenameCommands are those by which a host gets another name.
func RenameCommands(was, now string) string {
	return fmt.Sprintf("a host gets another name by leaving and coming in again: name it %[1]s again; hactl remove %[1]s; hactl reset %[1]s; name it %[2]s; hactl up", was, now)
}

// MoveCommands are those by which a host gets another address.
func MoveCommands(host, was, now string) string {
	return fmt.Sprintf("a host gets another address by leaving and coming in again: put %[1]s back; hactl remove %[2]s, with --dead if it no longer has that address; write %[3]s; hactl reset %[2]s; hactl up --bring-back %[2]s",
		was, host, now)
}

// moves are the commands by which a host gets another name or address, or "" for another
// field. Certificates, the Node and the member of etcd carry both, so that the host is
// taken out and brought in again.
func (e *ImmutableError) moves() string {
	switch e.Field {
	case nameField:
		return RenameCommands(e.Was, e.Now)
	case addressField:
		return MoveCommands(strings.Join(e.Hosts, " "), e.Was, e.Now)
	}
	return ""
}

// refusal joins the errors, with what to do; of none it is nil.
func refusal(found []*ImmutableError) error {
	var out []error
	var moves []string
	for _, e := range found {
		if m := e.moves(); m != "" {
			moves = append(moves, m)
		}
		var err error = e
		if e.Field == maxPodsField {
			err = remote.Hint(err, byHand)
		}
		out = append(out, err)
	}
	if len(moves) == len(found) {
		return remote.Hint(errors.Join(out...), "nothing was changed; %s", strings.Join(moves, ". "))
	}
	return remote.Hint(errors.Join(out...), putBack)
}

// Refused is an error when hosts were made with other settings than the
// inventory's: all settings at once, each with the hosts that say so. Otherwise
// it is nil, whatever else the plan could not look at.
func Refused(p *plan.Plan) error {
	var found []*ImmutableError
	for _, it := range p.Unknown() {
		for _, e := range immutableIn(it.Err) {
			i := slices.IndexFunc(found, func(f *ImmutableError) bool { return f.Field == e.Field && f.Was == e.Was && f.Now == e.Now })
			if i < 0 {
				found = append(found, &ImmutableError{e.Field, e.Was, e.Now, slices.Clone(e.Hosts)})
			} else {
				found[i].Hosts = append(found[i].Hosts, e.Hosts...)
			}
		}
	}
	return refusal(found)
}

func immutableIn(err error) (out []*ImmutableError) {
	var join interface{ Unwrap() []error }
	var one *ImmutableError
	switch {
	case errors.As(err, &join):
		for _, e := range join.Unwrap() {
			out = append(out, immutableIn(e)...)
		}
	case errors.As(err, &one):
		out = append(out, one)
	}
	return out
}

// madeWith prints what a node that is there was made with. A word and a value a
// line; of those with the same word the first counts, so the files that the
// node works with come before the configuration that kubeadm was last given,
// which in a cluster of an earlier hactl may be the younger one. The certificate
// is that of the kubelet: it has the node's name.
const madeWith = `cd ` + kubeDir + ` || { echo nothing; exit 0; }
if [ -e ` + markerFile + ` ]; then
echo master; set -- admin.conf /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env ` + initFile + ` ` + kubeletPair + `
elif [ -s kubelet.conf ] && [ ! -e ` + joinFile + ` ]; then
echo node; set -- kubelet.conf /var/lib/kubelet/kubeadm-flags.env ` + kubeletPair + `
else echo nothing; exit 0; fi
n=$#; for f; do [ ! -e "$f" ] || set -- "$@" "$f"; done; shift $n
[ $# != 0 ] || exit 0
routes=; { [ -e ` + olderRoutes + ` ] || grep -q '"masquerade": "[^"]' ` + network.ConfigFile + ` 2>/dev/null; } && { routes=y; echo 'preset routes'; }
[ ! -e ` + flannelScript + ` ] || echo 'preset flannel'
[ -n "$routes" ] || [ -e ` + flannelScript + ` ] || for f in /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist; do [ ! -e "$f" ] || echo 'preset none'; done
exec sed -n \
-e 's/^ *server: */server /p' \
-e 's/^ *user: default-auth$/joined yes/p' \
-e 's/^maxPods: */maxPods /p' \
-e 's/^clusterDomain: */domain /p' \
-e '/^clusterDNS:/{n;s/^ *- */dns /p;}' \
-e 's/.*--node-ip=\([^ "]*\).*/address \1/p' \
-e 's/^ *advertiseAddress: */address /p' \
-e '/^nodeRegistration:/{n;s/^ *name: */name /p;}' \
-e 's/^controlPlaneEndpoint: */endpoint /p' \
-e 's/^ *dnsDomain: */domain /p' \
-e 's/^ *serviceSubnet: */services /p' \
-e 's/^mode: */proxy /p' \
-e 's/^clusterCIDR: */pods /p' \
-e '/^-----BEGIN CERT/,/^-----END CERT/p' "$@"`

// Fixed returns the step that finds where the inventory differs from what the
// node was made with. There is nothing that it could change.
func (c Cluster) Fixed(h *inventory.Host) plan.Step {
	return plan.Step{
		ID: id(h, "made-with"), Host: h.Name, Title: "what the node was made with", Lane: Lane,
		Look: []plan.Look{plan.LookFor(howMade)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			made, err := plan.Answered(env, howMade)
			if err != nil {
				return nil, err
			}
			return nil, refusal(c.fixed(h, made))
		},
		Apply: func(context.Context, plan.Env, *plan.Change) error { return nil },
	}
}

var howMade = sys.Question[node]{Title: "look at what the node was made with", Script: madeWith, Parse: func(answer string) (node, error) {
	if answer == "" {
		return node{}, errors.New("the host's answer is empty")
	}
	return readNode(answer), nil
}}

// node is what a host says of how its node was made; values may be missing.
type node struct {
	role    inventory.Role // empty: none is there, or its making was cut off
	values  map[string]string
	presets []string
	name    string
}

func readNode(out string) node {
	n := node{values: map[string]string{}}
	kind, _, _ := strings.Cut(out, "\n")
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = remote.Clean(strings.Trim(value, `"' `))
		if key == "preset" {
			n.presets = append(n.presets, value)
		} else if _, ok := n.values[key]; !ok {
			n.values[key] = value
		}
	}
	switch {
	case kind == "master":
		n.role = inventory.ControlPlane
	case kind == "node" && n.values["joined"] != "":
		n.role = inventory.Worker
	}
	n.name = n.values["name"]
	if at := strings.Index(out, "-----BEGIN"); at >= 0 {
		if b, _ := pem.Decode([]byte(out[at:])); b != nil {
			if cert, err := x509.ParseCertificate(b.Bytes); err == nil {
				if name, ok := strings.CutPrefix(cert.Subject.CommonName, "system:node:"); ok {
					n.name = remote.Clean(name)
				}
			}
		}
	}
	return n
}

// fixed compares. What the cluster has once is asked of masters: a worker's
// maxPods may be set by hand, by the size of the machine.
func (c Cluster) fixed(h *inventory.Host, n node) (out []*ImmutableError) {
	differs := func(field, was, now string) {
		if was != "" && was != now {
			out = append(out, &ImmutableError{Field: field, Was: was, Now: now, Hosts: []string{h.Name}})
		}
	}
	if n.role == "" {
		return nil
	}
	differs("hosts[].role", string(n.role), string(h.Role))
	differs(nameField, n.name, h.Name)
	differs(addressField, n.values["address"], h.PrivateAddress.String())
	if vip, ok := c.vipOf(n); ok {
		differs("vip.address", vip.Addr().String(), c.Inv.VIP.Address.String())
		differs("vip.port", strconv.Itoa(int(vip.Port())), strconv.Itoa(c.Inv.VIP.Port))
	}
	if n.role != inventory.ControlPlane {
		return out
	}
	net := c.Inv.Network
	differs("network.serviceSubnet", servicesOf(n, net.ServiceSubnet), net.ServiceSubnet.String())
	differs("network.podSubnet", n.values["pods"], net.PodSubnet.String())
	differs("network.dnsDomain", n.values["domain"], net.DNSDomain)
	if !slices.Contains(n.presets, net.Preset) && len(n.presets) > 0 {
		differs("network.preset", n.presets[0], net.Preset)
	}
	differs("network.proxyMode", n.values["proxy"], net.ProxyMode)
	differs(maxPodsField, n.values["maxPods"], strconv.Itoa(maxPods(c.Inv)))
	return out
}

// vipOf is the endpoint in the node's kubeconfig. One that was set by hand to
// the host itself or to a name says nothing of the VIP.
func (c Cluster) vipOf(n node) (netip.AddrPort, bool) {
	for _, s := range []string{strings.TrimPrefix(n.values["server"], "https://"), n.values["endpoint"]} {
		a, err := netip.ParseAddrPort(s)
		own := slices.ContainsFunc(c.Inv.Masters(), func(m *inventory.Host) bool { return m.PrivateAddress == a.Addr() })
		if err == nil && !own && !a.Addr().IsLoopback() && a.Addr().String() != n.values["address"] {
			return a, true
		}
	}
	return netip.AddrPort{}, false
}

// servicesOf is the service subnet that kubeadm was last given. An earlier hactl
// gave it another one and left the nodes as they were: going back to the one
// that they have is no difference. The kubelets know its tenth address.
func servicesOf(n node, want netip.Prefix) string {
	was, err := netip.ParsePrefix(n.values["services"])
	dns := n.values["dns"]
	if err == nil && dns == tenth(want) && dns != tenth(was) {
		return want.String()
	}
	return n.values["services"]
}

// tenth is where kubeadm puts the cluster's DNS.
func tenth(p netip.Prefix) string {
	a := p.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a.String()
}
