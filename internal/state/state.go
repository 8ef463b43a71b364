// Package state is the read model of a running cluster. It looks at a cluster from outside and says what it sees: etcd
// members and a write, who owns the VIP, every apiserver, every node, the
// system workloads, certificates, and what pods of each host reach. It changes nothing but one etcd key of its
// own, which it removes.
package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/keepalived"
	"hactl/kubeadm"
	"hactl/pki"
)

// State is the outcome of one check.
type State string

// The outcomes. Unknown is "could not look" and never counts as healthy; Skipped
// is a host that was left out on purpose, and Note something that a person should know
// of and that the cluster works with: neither counts.
const (
	OK      State = "ok"
	Bad     State = "bad"
	Unknown State = "unknown"
	Skipped State = "skipped"
	Note    State = "note"
)

// Check is one line of a report.
type Check struct {
	Area   string `json:"area"` // "etcd", "vip", "apiserver", "node", "pressure", "workload", "certificate", "network", "traffic"
	What   string `json:"what"` // a host, a workload, a certificate
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// Report is what was seen, in a fixed order.
type Report struct {
	Cluster string  `json:"cluster"`
	VIP     string  `json:"vip"`
	Healthy bool    `json:"healthy"`
	Checks  []Check `json:"checks"`
	// SlowHosts is the factor of every wait, left out when it is 1.
	SlowHosts int  `json:"slow_hosts,omitempty"`
	Seen      Seen `json:"-"`
}

// Seen is what the checks of a report are judged from; empty where the area was not
// looked at, or could not be.
type Seen struct {
	Etcd   *etcd.Status            // nil: no client could be made
	Owners []string                // hosts that hold the VIP
	Nodes  map[string]kubeadm.Node // by name; nil: no apiserver answered
}

// Area is a side of a cluster that can be looked at by itself.
type Area int

// The areas, in the order of a report.
const (
	Etcd Area = iota
	VIP
	APIServers
	Nodes  // and the workloads of the system
	Inside // certificates, and what the pods of each host reach
)

// Cluster is what is looked at. Hosts that could not be connected to are
// missing in Hosts and named in Down.
type Cluster struct {
	Inv   *inventory.Inventory
	Hosts plan.Hosts
	Down  map[string]error
	// Skip are hosts that the operator goes on without.
	Skip []string
	PKI  *pki.Material
	// Control is who is asked for nodes and workloads; a client of its own when nil.
	Control *kubeadm.Control
	// Write also asks for one acknowledged etcd write.
	Write bool
	// WithoutProbe lets a cluster be healthy that has no probe of traffic yet.
	WithoutProbe bool
}

// lookTimeout bounds one look, so that a hung component cannot hold it up.
const lookTimeout = 10 * time.Second

// part looks at one area and keeps in its own fields of Seen what it found.
type part func(context.Context, Cluster, *Seen) []Check

// parts are in the order of the areas.
var parts = []part{etcdChecks, vipChecks, apiChecks, clusterChecks, hostChecks}

// view is what was seen of a cluster, part by part.
type view struct {
	c     Cluster
	parts []part
	seen  [][]Check
	found Seen
}

func (c Cluster) view(parts []part) *view {
	return &view{c: c, parts: parts, seen: make([][]Check, len(parts))}
}

// Look looks once, at the named areas, or at all of them, at the same time.
func Look(ctx context.Context, c Cluster, areas ...Area) *Report {
	chosen := parts
	if len(areas) > 0 {
		chosen = nil
		for _, a := range areas {
			chosen = append(chosen, parts[a])
		}
	}
	v := c.view(chosen)
	v.look(ctx, func([]Check) bool { return true })
	return v.report()
}

// look looks again at the parts that were not in order, all at the
// same time.
func (v *view) look(ctx context.Context, anew func([]Check) bool) {
	ctx, cancel := wait.Within(ctx, "one look at the cluster", lookTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, look := range v.parts {
		if anew(v.seen[i]) {
			wg.Go(func() { v.seen[i] = v.c.skipped(look(ctx, v.c, &v.found)) })
		}
	}
	wg.Wait()
}

// skipped marks those of checks that do not count.
func (c Cluster) skipped(checks []Check) []Check {
	for i, k := range checks {
		if k.State != OK && slices.Contains(c.Skip, k.What) {
			checks[i].State = Skipped
		}
	}
	return checks
}

func (v *view) report() *Report {
	r := &Report{Cluster: v.c.Inv.Cluster, VIP: v.c.Inv.VIP.Address.String(), Checks: slices.Concat(v.seen...), Seen: v.found}
	r.Healthy = well(r.Checks)
	if v.c.Inv.SlowHosts > wait.Usual {
		r.SlowHosts = v.c.Inv.SlowHosts
	}
	return r
}

// Add adds checks of something else.
func (r *Report) Add(checks []Check) {
	r.Checks = append(r.Checks, checks...)
	r.Healthy = well(r.Checks)
}

func (k Check) fine() bool { return k.State == OK || k.State == Skipped || k.State == Note }

func well(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(k Check) bool { return !k.fine() })
}

// pollEvery is how long a part that was not well is left alone.
const pollEvery = 250 * time.Millisecond

// Wait looks until everything is healthy or the timeout, stretched for slow hosts, has passed. say names what
// is still missing, whenever that changes. Only that is looked at meanwhile: hosts
// on which much starts at once have better things to do. What Wait returns is one
// look at everything, unless ctx ended.
func Wait(ctx context.Context, c Cluster, timeout time.Duration, say func(string)) *Report {
	return c.view(parts).wait(ctx, timeout, say)
}

func (v *view) wait(ctx context.Context, timeout time.Duration, say func(string)) *Report {
	end := time.Now().Add(wait.Bound(ctx, timeout))
	all := func([]Check) bool { return true }
	last := ""
	for {
		over := !time.Now().Before(end)
		v.look(ctx, all)
		r := v.report()
		if r.Healthy || over || ctx.Err() != nil {
			return r
		}
		for !r.Healthy && time.Now().Before(end) && ctx.Err() == nil {
			if m := r.missing(); m != last {
				last = m
				say(fmt.Sprintf("waiting up to %s for %s", time.Until(end).Round(time.Second), m))
			}
			select {
			case <-ctx.Done():
			case <-time.After(pollEvery):
			}
			v.look(ctx, func(seen []Check) bool { return !well(seen) })
			r = v.report()
		}
		if ctx.Err() != nil {
			return r
		}
	}
}

// missing names the first checks that are not ok.
func (r *Report) missing() string {
	var out []string
	for _, k := range r.Checks {
		if !k.fine() {
			out = append(out, strings.TrimSuffix(k.Area+" "+k.What+": "+k.Detail, ": "))
		}
	}
	if len(out) > 3 {
		out = append(out[:3], fmt.Sprintf("%d more", len(out)-3))
	}
	return strings.Join(out, "; ")
}

// failed turns an error into a check: could not look, or looked and it is bad.
// What never reached the host is always the former.
func failed(area, what string, state State, err error) Check {
	var u *remote.UnreachableError
	if err == nil {
		err = errors.New("not connected")
	} else if errors.As(err, &u) {
		state = Unknown
	}
	return Check{Area: area, What: what, State: state, Detail: firstLine(err.Error())}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// vipChecks judges who holds the VIP, and each master that could take it.
func vipChecks(ctx context.Context, c Cluster, seen *Seen) []Check {
	var owners []string
	var members []Check
	unknown := 0
	for _, m := range keepalived.Look(ctx, c.Inv, c.Hosts) {
		k := Check{Area: "vip", What: m.Host, State: OK, Detail: "stands by"}
		switch {
		case m.Err != nil:
			unknown++
			k = failed("vip", m.Host, Unknown, cmp.Or(c.Down[m.Host], m.Err))
		case m.Down != nil:
			k.State, k.Detail = Bad, strings.Join(m.Down, ", ")
		case m.Holds:
			k.Detail = "holds it"
		}
		if m.Holds {
			owners = append(owners, m.Host)
		}
		members = append(members, k)
	}
	seen.Owners = owners
	k := Check{Area: "vip", What: c.Inv.VIP.Address.String(), State: OK}
	switch {
	case len(owners) > 1:
		k.State, k.Detail = Bad, "held by "+strings.Join(owners, " and ")
	case len(owners) == 1:
		k.Detail = "held by " + owners[0]
	case unknown > 0:
		k.State, k.Detail = Unknown, fmt.Sprintf("%d of %d masters could not be asked", unknown, len(members))
	default:
		k.State, k.Detail = Bad, "held by no master"
	}
	return append([]Check{k}, members...)
}

// apiChecks asks every apiserver on its own host, and one through the VIP.
func apiChecks(ctx context.Context, c Cluster, _ *Seen) []Check {
	masters := c.Inv.Masters()
	out := make([]Check, len(masters)+1)
	var wg sync.WaitGroup
	for i, m := range masters {
		wg.Go(func() { out[i] = apiCheck(ctx, c, m, m.PrivateAddress, m.Name) })
	}
	wg.Go(func() { out[len(masters)] = throughVIP(ctx, c) })
	wg.Wait()
	return out
}

func apiCheck(ctx context.Context, c Cluster, via *inventory.Host, addr netip.Addr, what string) Check {
	h := c.Hosts[via.Name]
	if h == nil {
		return failed("apiserver", what, Unknown, c.Down[via.Name])
	}
	api, err := kubeadm.NewAPI(h, c.Inv, c.PKI, addr)
	if err != nil {
		return failed("apiserver", what, Unknown, err)
	}
	defer api.Close()
	start := time.Now()
	if err := api.Ready(ctx); err != nil {
		return failed("apiserver", what, Bad, err)
	}
	if err := api.HealthWithoutLogin(ctx); err != nil {
		return failed("apiserver", what, Bad, err)
	}
	return Check{Area: "apiserver", What: what, State: OK, Detail: fmt.Sprintf("ready in %d ms", time.Since(start).Milliseconds())}
}

// throughVIP asks from the last host that is connected: the way a worker goes.
func throughVIP(ctx context.Context, c Cluster) Check {
	for i := len(c.Inv.Hosts) - 1; i >= 0; i-- {
		h := &c.Inv.Hosts[i]
		if c.Hosts[h.Name] != nil {
			k := apiCheck(ctx, c, h, c.Inv.VIP.Address, "through the VIP")
			k.Detail += ", asked from " + h.Name
			return k
		}
	}
	return Check{Area: "apiserver", What: "through the VIP", State: Unknown, Detail: "no host to ask from"}
}
