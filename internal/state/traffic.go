package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"hactl/internal/traffic"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/kubeadm"
)

// probesWithin bounds the question for the probes' pods: the hosts are asked without
// their addresses then.
const probesWithin = 3 * time.Second

// probes are the pods that try the ways, by node.
type probes struct {
	pods map[string]kubeadm.ProbePod
	err  error
}

func lookForProbes(ctx context.Context, c Cluster) probes {
	ctx, cancel := wait.Within(ctx, "where the probes are", probesWithin)
	defer cancel()
	control := c.Control
	if control == nil {
		control = &kubeadm.Control{Inv: c.Inv, Hosts: c.Hosts, PKI: c.PKI}
		defer control.Close()
	}
	var p probes
	p.err = control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) (err error) {
		p.pods, err = api.ProbePods(ctx)
		return err
	})
	return p
}

// peersOf leaves out hosts that do not count.
func (p probes) peersOf(c Cluster, hosts []*inventory.Host, i int) []traffic.Peer {
	peers := kubeadm.PeersOf(hosts, i, p.pods, rand.IntN)
	return slices.DeleteFunc(peers, func(p traffic.Peer) bool { return slices.Contains(c.Skip, p.Node) })
}

// checks judge what the probes tried. A host whose pods no other host reaches, or whose
// pods reach no other host, is named alone; any other failure is a pair.
func (p probes) checks(c Cluster, seen []hostLook) []Check {
	if p.err != nil {
		return []Check{failed("traffic", "pods", Unknown, fmt.Errorf("no apiserver says where the probes are: %w", p.err))}
	}
	if len(p.pods) == 0 {
		k := Check{Area: "traffic", What: "pods", State: Unknown, Detail: "not tried: the cluster has no probe yet; hint: hactl up makes it"}
		if c.WithoutProbe {
			k.State = Skipped
		}
		return []Check{k}
	}
	w := waysOf(seen)
	var out []Check
	for _, s := range seen {
		out = append(out, p.hostCheck(c, s, w))
	}
	return append(out, w.pairs(c)...)
}

// hostCheck is what is known of the pods of one host.
func (p probes) hostCheck(c Cluster, s hostLook, w *ways) Check {
	name, pod := s.host.Name, p.pods[s.host.Name]
	k := Check{Area: "traffic", What: name, State: OK, Detail: "pods of other hosts, the API's service and DNS are reached"}
	bad := func(detail, hint string) Check {
		k.State, k.Detail = Bad, detail+"; hint: "+hint
		return k
	}
	switch {
	case s.HostSeen == nil:
		return failed("traffic", name, Unknown, s.err)
	case pod.Node == "":
		return bad("no probe runs there", "see hactl status for its node; hactl up makes the probe anew")
	case !pod.Running:
		return bad("its probe does not run: "+pod.Reason, "kubectl -n "+kubeadm.ProbeNamespace+" describe pods")
	case s.TrafficErr != nil:
		k.State, k.Detail = Unknown, s.TrafficErr.Error()
		return k
	case w.deaf[name] != "" && w.mute[name] != "":
		return bad("its pods reach no other host's, and are not reached: "+w.deaf[name], wayHint(c))
	case w.deaf[name] != "":
		return bad("no other host reaches its pods: "+w.deaf[name], wayHint(c))
	case w.mute[name] != "":
		return bad("its pods reach no other host's: "+w.mute[name], wayHint(c))
	}
	var lacks []string
	if s.Traffic.API != "" {
		lacks = append(lacks, "the API by its service address ("+s.Traffic.API+")")
	}
	if s.Traffic.DNS != "" {
		lacks = append(lacks, "the cluster's DNS ("+s.Traffic.DNS+")")
	}
	if len(lacks) > 0 {
		return bad("its pods do not reach "+strings.Join(lacks, " and "), "kube-proxy there: kubectl -n kube-system get pods -o wide; journalctl -u hactl-network on the host")
	}
	return k
}

// wayHint is what to look at where pods of two hosts do not reach one another.
func wayHint(c Cluster) string {
	between := "what is forwarded between the hosts, and rules on them that drop " + c.Inv.Network.PodSubnet.String()
	if c.Inv.Network.Preset == "flannel" {
		between = "UDP 8472 between the hosts, and kubectl -n kube-flannel get pods -o wide"
	}
	return "systemctl status hactl-network on these hosts; " + between
}

// ways are the connections from pod to pod that were tried.
type ways struct {
	failed map[[2]string]string // from, to: the error
	order  [][2]string
	deaf   map[string]string // hosts that none of those reached who tried, two at least
	mute   map[string]string // hosts that reached none of those that they tried, two at least
}

func waysOf(seen []hostLook) *ways {
	w := &ways{failed: map[[2]string]string{}, deaf: map[string]string{}, mute: map[string]string{}}
	into, intoBad, from, fromBad := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	last := map[string]string{}
	for _, s := range seen {
		if s.HostSeen == nil || s.Traffic == nil {
			continue
		}
		for _, peer := range s.asked {
			text := s.Traffic.Peers[peer.Node]
			into[peer.Node]++
			from[s.host.Name]++
			if text == "" {
				continue
			}
			pair := [2]string{s.host.Name, peer.Node}
			w.failed[pair] = text
			w.order = append(w.order, pair)
			intoBad[peer.Node]++
			fromBad[s.host.Name]++
			last["to "+peer.Node], last["from "+s.host.Name] = text, text
		}
	}
	for name, n := range into {
		if n > 1 && intoBad[name] == n {
			w.deaf[name] = last["to "+name]
		}
	}
	for name, n := range from {
		if n > 1 && fromBad[name] == n {
			w.mute[name] = last["from "+name]
		}
	}
	return w
}

// pairs are the failures that no host alone explains.
func (w *ways) pairs(c Cluster) (out []Check) {
	for _, pair := range w.order {
		if w.mute[pair[0]] != "" || w.deaf[pair[1]] != "" {
			continue
		}
		out = append(out, Check{Area: "traffic", What: pair[0] + " to " + pair[1], State: Bad,
			Detail: "pods do not reach pods: " + w.failed[pair] + "; hint: " + wayHint(c)})
	}
	return out
}
