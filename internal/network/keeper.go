package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kernel is the network of this host, as far as a [Keeper] needs it.
type Kernel interface {
	// Routes are those that carry the protocol number of hactl, and no others.
	Routes() ([]Route, error)
	SetRoute(r Route) error
	RemoveRoute(r Route) error
	// Masquerades reports whether the rule for the pod network is there, whole.
	Masquerades(pods netip.Prefix) (bool, error)
	SetMasquerade(pods netip.Prefix) error
	// ProxyChains tells of kube-proxy's chains, by name, whether they hold rules.
	ProxyChains(mode string) (map[string]bool, error)
	// ClearProxy removes what is left of kube-proxy's tables, for the next kube-proxy.
	// In mode nftables one that finds its table takes the chains of services in it for
	// full (seen with v1.36.3), so that `nft flush table` would last.
	ClearProxy(mode string) error
}

// Processes are those of this host.
type Processes interface {
	// KubeProxy is the kube-proxy of this host; nil when none runs.
	KubeProxy() (*Process, error)
	// Uptime is the time since the kernel started.
	Uptime() (time.Duration, error)
	// End kills a process. The kubelet starts its container again.
	End(p Process) error
}

// Times of a Keeper.
const (
	lookEvery = 2 * time.Second        // without an event; a change of the configuration is seen by this
	settle    = 100 * time.Millisecond // after an event: others follow, such as those of one transaction
	apart     = 400 * time.Millisecond // between two looks, while kube-proxy writes its tables without a pause
)

// Keeper puts back what is lost.
type Keeper struct {
	Kernel    Kernel
	Processes Processes
	Config    func() (Config, error)
	Say       func(format string, args ...any) // what was done; for the journal
	Report    func(state string)               // what is missing now, or that nothing is; for systemd
	Alive     func()                           // called after each look; for systemd's watchdog

	proxy    proxyWatch
	reported string
}

// Wake makes a [Keeper] look. The channel has room for one event: those that were not
// taken yet are one.
func Wake(events chan<- struct{}) {
	select {
	case events <- struct{}{}:
	default:
	}
}

// Run looks at once, after every event and every two seconds, until ctx ends. began
// is called after the first look.
func (k *Keeper) Run(ctx context.Context, events <-chan struct{}, began func()) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	k.Look()
	began()
	for {
		pause := apart
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			pause = 0
		case <-events:
			time.Sleep(settle)
			select {
			case <-events:
			default:
			}
		}
		if again := k.Look(); again > 0 {
			time.Sleep(again)
			k.Look()
		}
		k.Alive()
		time.Sleep(pause)
	}
}

// Look compares the kernel with the configuration and puts back what is missing. It
// returns when it has to look again without waiting for an event; 0: it need not.
func (k *Keeper) Look() (again time.Duration) {
	c, err := k.Config()
	if err != nil {
		k.report([]string{err.Error()})
		return 0
	}
	missing := k.routes(c.Routes)
	missing = append(missing, k.masquerade(c.Masquerade)...)
	lost, again := k.kubeProxy(c.KubeProxy)
	k.report(append(missing, lost...))
	return again
}

// routes sets those that are missing and removes those of hosts that are gone; it
// returns what could not be done.
func (k *Keeper) routes(want []Route) (missing []string) {
	have, err := k.Kernel.Routes()
	if err != nil {
		return []string{fmt.Sprintf("read routes: %v", err)}
	}
	for _, r := range want {
		if slices.Contains(have, r) {
			continue
		}
		if err := k.Kernel.SetRoute(r); err != nil {
			missing = append(missing, fmt.Sprintf("route %s: %v", r, err))
			continue
		}
		k.Say("set the route %s", r)
	}
	for _, r := range have {
		if slices.ContainsFunc(want, func(w Route) bool { return w.To == r.To }) {
			continue // it was replaced, or will be
		}
		if err := k.Kernel.RemoveRoute(r); err != nil {
			missing = append(missing, fmt.Sprintf("remove the route %s: %v", r, err))
			continue
		}
		k.Say("removed the route %s: no host of the inventory has these pods", r)
	}
	return missing
}

func (k *Keeper) masquerade(pods netip.Prefix) (missing []string) {
	if !pods.IsValid() {
		return nil
	}
	there, err := k.Kernel.Masquerades(pods)
	if err == nil && !there {
		if err = k.Kernel.SetMasquerade(pods); err == nil {
			k.Say("set masquerading of %s", pods)
		}
	}
	if err != nil {
		return []string{fmt.Sprintf("masquerading of %s: %v", pods, err)}
	}
	return nil
}

// kubeProxy ends kube-proxy when its tables are lost.
func (k *Keeper) kubeProxy(mode string) (lost []string, again time.Duration) {
	if mode == "" {
		return nil, 0
	}
	p, err := k.Processes.KubeProxy()
	if err != nil {
		return []string{fmt.Sprintf("look for kube-proxy: %v", err)}, 0
	}
	if p == nil {
		if what := k.proxy.missed(); what != "" {
			lost = []string{"kube-proxy's tables: " + what}
		}
		return lost, 0 // its start is the kubelet's matter
	}
	chains, err := k.Kernel.ProxyChains(mode)
	if err != nil {
		return []string{fmt.Sprintf("read kube-proxy's tables: %v", err)}, 0
	}
	up, err := k.Processes.Uptime()
	if err != nil {
		return []string{fmt.Sprintf("read the uptime: %v", err)}, 0
	}
	v := k.proxy.judge(time.Now(), *p, up-p.Started, chains, mode == "nftables")
	if v.end {
		if err := errors.Join(k.Processes.End(*p), k.Kernel.ClearProxy(mode)); err != nil {
			return []string{fmt.Sprintf("start kube-proxy anew: %v", err)}, 0
		}
		k.Say("kube-proxy has lost its tables (%s): ended its process %d; the kubelet starts it again", v.what, p.PID)
	}
	if v.what != "" {
		lost = []string{"kube-proxy's tables: " + v.what}
	}
	return lost, v.again
}

func (k *Keeper) report(missing []string) {
	state := "everything is in place"
	if len(missing) > 0 {
		state = "missing: " + strings.Join(missing, "; ")
	}
	if state == k.reported {
		return
	}
	if k.reported != "" || len(missing) > 0 {
		k.Say("%s", state)
	}
	k.reported = state
	k.Report(state)
}
