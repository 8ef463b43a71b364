package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// look gathers everything that the checks judge, all hosts at once: the facts
// that are not there yet, then side by side the probe and the dials.
func (c *Cluster) look(ctx context.Context) {
	if c.Facts == nil {
		c.Facts = map[string]*facts.Facts{}
	}
	c.failed, c.probes = map[string]error{}, map[string]*probe{}
	var mu sync.Mutex
	c.everyHost(func(h *inventory.Host, r remote.Host) {
		mu.Lock()
		f := c.Facts[h.Name]
		mu.Unlock()
		if f != nil && (h.Role != inventory.ControlPlane || f.Disk(c.Inv.Etcd.DataDir) != nil) {
			return
		}
		f, err := facts.Gather(ctx, r, c.Inv.Etcd.DataDir)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			c.failed[h.Name] = err
			delete(c.Facts, h.Name)
			return
		}
		c.Facts[h.Name] = f
	}, &mu)
	dialled := make(chan []dial, 1)
	go func() { dialled <- c.dialAll(ctx) }()
	c.everyHost(func(h *inventory.Host, r remote.Host) {
		mu.Lock()
		prelude := c.prelude(h)
		mu.Unlock()
		p, err := takeProbe(ctx, r, prelude)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			c.failed[h.Name] = err
			return
		}
		c.probes[h.Name] = p
	}, &mu)
	c.dials = <-dialled
}

// everyHost runs f for every connected host that has not failed, at most
// plan.Parallel at a time, the masters first: they listen to one another. mu
// guards what f writes.
func (c *Cluster) everyHost(f func(*inventory.Host, remote.Host), mu *sync.Mutex) {
	var wg sync.WaitGroup
	free := make(chan struct{}, plan.Parallel)
	for _, h := range slices.Concat(c.Inv.Masters(), c.Inv.Workers()) {
		mu.Lock()
		skip := c.Hosts[h.Name] == nil || c.failed[h.Name] != nil
		mu.Unlock()
		if skip {
			continue
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			f(h, c.Hosts[h.Name])
		})
	}
	wg.Wait()
}

// prelude sets the variables of the probe for a host. Workers have no etcd and
// no VIP; whoever holds the VIP need not ask who answers for it.
func (c *Cluster) prelude(h *inventory.Host) string {
	var dir, vip, iface, peers, vrrp string
	if h.Role == inventory.ControlPlane {
		dir = c.Inv.Etcd.DataDir
		f := c.Facts[h.Name]
		if len(c.holders()) == 0 {
			vip = c.Inv.VIP.Address.String()
		}
		if i := c.vipInterface(host{Host: h, Facts: f}); i != nil && h.PrivateAddress.IsValid() {
			iface, peers, vrrp = i.Name, c.vrrpPeers(h), vrrpProgram
		}
	}
	vars := []string{"DIR", dir, "VIP", vip, "IFACE", iface, "OWN", h.PrivateAddress.String(), "PEERS", peers, "LISTEN", listenFor, "MOST", listenMost, "VRRP", vrrp}
	var b strings.Builder
	for v := range slices.Chunk(vars, 2) {
		fmt.Fprintf(&b, "%s=%s\n", v[0], remote.Quote(v[1]))
	}
	return b.String()
}

// vipInterface is the interface of a master that is to carry the VIP, or nil.
func (c *Cluster) vipInterface(h host) *facts.Interface {
	name := h.Interface
	if name == "" {
		name = c.Inv.VIP.Interface
	}
	if name == "" {
		return h.Facts.InterfaceOf(h.PrivateAddress)
	}
	for i := range h.Facts.Interfaces {
		if h.Facts.Interfaces[i].Name == name {
			return &h.Facts.Interfaces[i]
		}
	}
	return nil
}

// holders are the hosts that have the VIP on an interface.
func (c *Cluster) holders() []host {
	var out []host
	for _, h := range c.looked() {
		if h.Facts.InterfaceOf(c.Inv.VIP.Address) != nil {
			out = append(out, h)
		}
	}
	return out
}
