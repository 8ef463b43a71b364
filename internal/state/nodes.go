package state

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"hactl/inventory"
	"hactl/kubeadm"
)

// clusterChecks asks whichever apiserver answers for nodes and workloads.
func clusterChecks(ctx context.Context, c Cluster, seen *Seen) []Check {
	control := c.Control
	if control == nil {
		control = &kubeadm.Control{Inv: c.Inv, Hosts: c.Hosts, PKI: c.PKI}
		defer control.Close()
	}
	var out []Check
	err := control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) error {
		nodes, err := api.Nodes(ctx)
		if err != nil {
			return err
		}
		seen.Nodes = nodes
		out = c.removed(nodeChecks(c.Inv, nodes), nodes)
		loads, err := api.SystemWorkloads(ctx)
		if err != nil {
			out = append(out, failed("workload", "kube-system", Bad, err))
			return nil
		}
		out = append(out, workloadChecks(loads)...)
		return nil
	})
	if err != nil {
		return []Check{failed("node", "all", Unknown, fmt.Errorf("no apiserver answers: %w", err))}
	}
	return out
}

func nodeChecks(inv *inventory.Inventory, nodes map[string]kubeadm.Node) []Check {
	var out []Check
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		n, ok := nodes[h.Name]
		k := Check{Area: "node", What: h.Name, State: OK, Detail: n.Version + " " + string(h.Role)}
		switch {
		case !ok:
			k.State, k.Detail = Bad, "not registered"
		case !n.Ready:
			k.State, k.Detail = Bad, "not Ready: "+n.Reason
		case n.Address != h.PrivateAddress.String():
			k.State, k.Detail = Bad, fmt.Sprintf("registered with address %s, expected %s", n.Address, h.PrivateAddress)
		}
		out = append(out, k)
	}
	for i := range inv.Hosts {
		if n := nodes[inv.Hosts[i].Name]; n.Pressure != "" {
			out = append(out, Check{Area: "pressure", What: inv.Hosts[i].Name, State: Bad, Detail: n.Pressure + "; hint: make room on the host: the kubelet ends pods there and takes no new ones"})
		}
	}
	return append(out, strangers(inv, nodes)...)
}

// removed says of hosts that were removed from the cluster, and are still in the inventory,
// that they are not missing.
func (c Cluster) removed(checks []Check, nodes map[string]kubeadm.Node) []Check {
	for i, k := range checks {
		if _, is := nodes[k.What]; k.Area == "node" && !is && slices.Contains(c.PKI.Identity.Removed, k.What) {
			checks[i].State, checks[i].Detail = Skipped, "was removed from the cluster: delete it from the inventory, or hactl up --bring-back "+k.What
		}
	}
	return checks
}

// strangers are the nodes of no host of the inventory. The cluster works with them.
func strangers(inv *inventory.Inventory, nodes map[string]kubeadm.Node) (out []Check) {
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if inv.Host(name) != nil {
			continue
		}
		out = append(out, Check{Area: "node", What: name, State: Note, Detail: Stranger(inv, nodes[name])})
	}
	return out
}

// Stranger says of a node that is in no inventory what to do.
func Stranger(inv *inventory.Inventory, n kubeadm.Node) string {
	ready := "not Ready"
	if n.Ready {
		ready = "Ready"
	}
	return fmt.Sprintf("in the cluster (%s) and not in %s; hint: put the host back into the inventory and run hactl remove %s, or, when it is off for good, kubectl --kubeconfig %s.kubeconfig delete node %s",
		ready, filepath.Base(inv.Path), n.Name, inv.Cluster, n.Name)
}

func workloadChecks(loads []kubeadm.Workload) []Check {
	var out []Check
	for _, w := range loads {
		k := Check{Area: "workload", What: w.Name, State: OK, Detail: fmt.Sprintf("%d of %d ready", w.Ready, w.Want)}
		if w.Ready < w.Want || w.Want == 0 {
			k.State = Bad
		}
		out = append(out, k)
	}
	return out
}
