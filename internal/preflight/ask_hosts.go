package preflight

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// probed is what the probes of all connected hosts found.
type probed struct {
	probes map[string]*probe
	failed map[string]error
}

// Begin starts the part of the look that takes longest, the probes, which need
// only Inv and Hosts; Run waits for them. Without it Run begins them itself.
func (c *Cluster) Begin(ctx context.Context) {
	found := make(chan probed, 1)
	c.begun = found
	take := c.takes(c.connected())
	ctx, cancel := wait.Within(ctx, "the preflight", Timeout)
	go func() {
		defer cancel()
		found <- take(ctx)
	}()
}

// takes returns what takes the probes of hosts, all at once.
func (c *Cluster) takes(hosts []*inventory.Host) func(context.Context) probed {
	var preludes []string
	for _, h := range hosts {
		preludes = append(preludes, c.prelude(h))
	}
	return func(ctx context.Context) probed {
		var mu sync.Mutex
		p := probed{map[string]*probe{}, map[string]error{}}
		everyHost(hosts, func(i int, h *inventory.Host) {
			got, err := c.Helper.probe(ctx, c.Hosts[h.Name], preludes[i])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				p.failed[h.Name] = err
				return
			}
			p.probes[h.Name] = got
		})
		return p
	}
}

// probesAgain is how often the masters' probes are taken again at most, when some did
// not listen while others sent.
const probesAgain = 2

// listenTogether takes the probes of the masters again where hosts that were busy
// began too far apart to hear one another. A probe that fails then leaves the one
// before.
func (c *Cluster) listenTogether(ctx context.Context) {
	masters := slices.DeleteFunc(c.connected(), func(h *inventory.Host) bool { return h.Role != inventory.ControlPlane })
	for again := 0; again < probesAgain && c.apart(); again++ {
		maps.Copy(c.probes, c.takes(masters)(ctx).probes)
	}
}

// look gathers everything that the checks judge, all hosts at once: the probes,
// beside them the facts that are not there yet, and then the dials.
func (c *Cluster) look(ctx context.Context) {
	if c.begun == nil {
		c.Begin(ctx)
	}
	if c.Facts == nil {
		c.Facts = map[string]*facts.Facts{}
	}
	c.failed = map[string]error{}
	var mu sync.Mutex
	everyHost(c.connected(), func(_ int, h *inventory.Host) {
		mu.Lock()
		f := c.Facts[h.Name]
		mu.Unlock()
		if f != nil && (h.Role != inventory.ControlPlane || f.Disk(c.Inv.Etcd.DataDir) != nil) {
			return
		}
		f, err := facts.Gather(ctx, c.Hosts[h.Name], c.Inv.Etcd.DataDir)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			c.failed[h.Name] = err
			delete(c.Facts, h.Name)
			return
		}
		c.Facts[h.Name] = f
	})
	c.dials = c.dialAll(ctx)
	found := <-c.begun
	c.probes = found.probes
	for name, err := range found.failed {
		c.failed[name] = cmp.Or(c.failed[name], err)
	}
	c.listenTogether(ctx)
	everyHost(c.connected(), func(_ int, h *inventory.Host) {
		if p, f := c.probes[h.Name], c.Facts[h.Name]; p != nil && f != nil {
			askTime(ctx, host{Host: h, Facts: f, Probe: p}, c.Hosts[h.Name])
		}
	})
}

// connected are the hosts that are looked at, the masters first: they listen to
// one another.
func (c *Cluster) connected() []*inventory.Host {
	return slices.DeleteFunc(slices.Concat(c.Inv.Masters(), c.Inv.Workers()), func(h *inventory.Host) bool { return c.Hosts[h.Name] == nil })
}

// everyHost runs f for every host, at most plan.Parallel at a time.
func everyHost(hosts []*inventory.Host, f func(int, *inventory.Host)) {
	var wg sync.WaitGroup
	free := make(chan struct{}, plan.Parallel)
	for i, h := range hosts {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			f(i, h)
		})
	}
	wg.Wait()
}

// prelude sets the variables of the probe for a host. Workers have no etcd and
// no VIP.
func (c *Cluster) prelude(h *inventory.Host) string {
	var dir, vip, iface, own, peers string
	if h.Role == inventory.ControlPlane {
		dir, vip = c.Inv.Etcd.DataDir, c.Inv.VIP.Address.String()
		if h.PrivateAddress.IsValid() {
			iface, own, peers = cmp.Or(h.Interface, c.Inv.VIP.Interface), h.PrivateAddress.String(), c.vrrpPeers(h)
		}
	}
	foreign := ""
	if c.Ask != nil {
		foreign = c.Ask(h).Script()
	}
	vars := []string{"DIR", dir, "VIP", vip, "IFACE", iface, "OWN", own, "PEERS", peers, "LISTEN", listenFor, "MOST", listenMost, "PODS", c.Inv.Network.PodSubnet.String(), "OTHERS", foreign}
	vars = append(vars, c.Helper.vars()...)
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
