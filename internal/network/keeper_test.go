package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is a kernel and its processes in memory.
// The test holds mu, except while it sleeps.
type world struct {
	mu         sync.Mutex
	routes     map[Route]bool
	masquerade bool
	down       bool // the link: no route can be set
	chains     map[string]bool
	proxy      *Process
	born       time.Time
	cleared    int
	barren     bool            // no kube-proxy writes tables
	ended      []time.Duration // when kube-proxy was ended
	start      time.Time
	config     Config
	said       []string
	state      string
	events     chan struct{}
}

func (w *world) lock() (unlock func()) {
	w.mu.Lock()
	return w.mu.Unlock
}

func (w *world) Routes() ([]Route, error) {
	defer w.lock()()
	return slices.Collect(maps.Keys(w.routes)), nil
}

func (w *world) SetRoute(r Route) error {
	defer w.lock()()
	if w.down {
		return errors.New("network is unreachable")
	}
	maps.DeleteFunc(w.routes, func(o Route, _ bool) bool { return o.To == r.To })
	w.routes[r] = true
	return nil
}

func (w *world) RemoveRoute(r Route) error {
	defer w.lock()()
	delete(w.routes, r)
	return nil
}

func (w *world) Masquerades(netip.Prefix) (bool, error) {
	defer w.lock()()
	return w.masquerade, nil
}

func (w *world) SetMasquerade(netip.Prefix) error {
	defer w.lock()()
	w.masquerade = true
	return nil
}

func (w *world) ProxyChains(string) (map[string]bool, error) {
	defer w.lock()()
	return maps.Clone(w.chains), nil
}

func (w *world) ClearProxy(string) error {
	defer w.lock()()
	w.chains = map[string]bool{}
	w.cleared++
	return nil
}

func (w *world) KubeProxy() (*Process, error) {
	defer w.lock()()
	return w.proxy, nil
}

func (w *world) Uptime() (time.Duration, error) { return time.Since(w.born), nil }

// End makes the kubelet start another kube-proxy, which writes its tables after two
// seconds.
func (w *world) End(p Process) error {
	defer w.lock()()
	if p != *w.proxy {
		return fmt.Errorf("process %v is not %v", p, *w.proxy)
	}
	w.ended = append(w.ended, time.Since(w.start))
	w.proxy = nil
	time.AfterFunc(time.Second, func() { w.startProxy(p.PID + 1) })
	return nil
}

func (w *world) startProxy(pid int) {
	defer w.lock()()
	w.proxy = &Process{pid, time.Since(w.born)}
	time.AfterFunc(time.Second, func() {
		defer w.lock()()
		w.chains = full(!w.barren)
		Wake(w.events)
	})
}

func full(is bool) map[string]bool { return map[string]bool{"nat-prerouting": is, "services": is} }

func route(n int) Route {
	return Route{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n)), netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))}
}

// keep runs a keeper in the bubble on a host where everything is in place.
func keep(t *testing.T) *world {
	t.Helper()
	w := &world{
		config: Config{Routes: []Route{route(1), route(2)}, Masquerade: netip.MustParsePrefix("10.244.0.0/16"), KubeProxy: "nftables"},
		routes: map[Route]bool{route(1): true, route(2): true}, masquerade: true, chains: full(true),
		born: time.Now().Add(-time.Hour), start: time.Now(), events: make(chan struct{}, 1),
	}
	w.proxy = &Process{100, time.Minute}
	k := Keeper{
		Kernel: w, Processes: w, Config: func() (Config, error) { defer w.lock()(); return w.config, nil }, Alive: func() {},
		Say: func(format string, args ...any) {
			defer w.lock()()
			w.said = append(w.said, fmt.Sprintf(format, args...))
		},
		Report: func(state string) { defer w.lock()(); w.state = state },
	}
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan struct{})
	go k.Run(ctx, w.events, func() { close(began) })
	<-began
	synctest.Wait()
	w.mu.Lock()
	t.Cleanup(func() { cancel(); w.sleep(time.Minute); w.mu.Unlock() })
	return w
}

// after an event and so long.
func (w *world) after(d time.Duration) { Wake(w.events); w.sleep(d) }

// sleep lets the keeper work for so long.
func (w *world) sleep(d time.Duration) {
	w.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
}

func TestWholeHostIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.after(time.Hour)
		if len(w.said) != 0 || len(w.ended) != 0 || w.state != "everything is in place" {
			t.Errorf("said %q, ended %v, state %q", w.said, w.ended, w.state)
		}
	})
}

func TestLostRoutesAndMasqueradingComeBackAfterAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		clear(w.routes)
		w.masquerade = false
		w.after(200 * time.Millisecond)
		if !w.routes[route(1)] || !w.routes[route(2)] || !w.masquerade {
			t.Errorf("routes %v, masquerading %v", w.routes, w.masquerade)
		}
	})
}

func TestLostRoutesComeBackWithoutAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		clear(w.routes)
		w.sleep(lookEvery + time.Millisecond)
		if len(w.routes) != 2 {
			t.Errorf("routes %v", w.routes)
		}
	})
}

func TestRouteThatCannotBeSetIsNamedAndSetLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		clear(w.routes)
		w.down = true
		w.after(time.Second)
		if want := "missing: route 10.244.1.0/24 via 192.0.2.1: network is unreachable; route 10.244.2.0/24 via 192.0.2.2: network is unreachable"; w.state != want {
			t.Errorf("state %q", w.state)
		}
		w.down = false
		w.after(time.Second)
		if len(w.routes) != 2 || w.state != "everything is in place" {
			t.Errorf("routes %v, state %q", w.routes, w.state)
		}
	})
}

func TestConfigurationIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		moved := Route{route(2).To, netip.MustParseAddr("192.0.2.22")}
		w.config.Routes = []Route{moved, route(3)} // 1 left, 2 has another address, 3 is new
		w.sleep(lookEvery + time.Millisecond)
		if want := map[Route]bool{moved: true, route(3): true}; !maps.Equal(w.routes, want) {
			t.Errorf("routes %v, want %v", w.routes, want)
		}
	})
}

func TestKubeProxyThatLostItsTablesIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.chains = map[string]bool{} // nft flush ruleset
		w.after(600 * time.Millisecond)
		w.after(300 * time.Millisecond)
		if want := "missing: kube-proxy's tables: kube-proxy does not run yet"; w.state != want {
			t.Errorf("state %q, want %q", w.state, want)
		}
		w.sleep(600 * time.Millisecond)
		w.after(300 * time.Millisecond)
		if want := "missing: kube-proxy's tables: kube-proxy has not written them yet"; w.state != want {
			t.Errorf("state %q, want %q", w.state, want)
		}
		w.after(5 * time.Second)
		if len(w.ended) != 1 || w.ended[0] > time.Second || w.cleared != 1 {
			t.Errorf("ended %v after the loss", w.ended)
		}
		if !w.chains["services"] || w.state != "everything is in place" {
			t.Errorf("chains %v, state %q", w.chains, w.state)
		}
	})
}

func TestOneEmptyChainOfKubeProxyIsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.chains["nat-prerouting"] = false
		w.after(5 * time.Second)
		if len(w.ended) != 1 {
			t.Errorf("ended %v", w.ended)
		}
	})
}

func TestTablesThatAreWrittenAnewAreNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.chains = full(false)
		w.after(settle + 10*time.Millisecond) // it was seen
		w.chains = full(true)
		w.after(time.Minute)
		if len(w.ended) != 0 {
			t.Errorf("ended %v", w.ended)
		}
	})
}

func TestKubeProxyIsEndedOnceAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		for range 60 { // a program removes the tables every four seconds
			w.chains = map[string]bool{}
			w.after(4 * time.Second)
		}
		if len(w.ended) < 3 || len(w.ended) > 5 {
			t.Errorf("ended at %v", w.ended)
		}
		for i := 1; i < len(w.ended); i++ {
			if w.ended[i]-w.ended[i-1] < endAgain {
				t.Errorf("ended at %v", w.ended)
			}
		}
		if !slices.ContainsFunc(w.said, func(s string) bool { return strings.Contains(s, "missing: kube-proxy's tables") }) {
			t.Errorf("said %q", w.said)
		}
	})
}

// The apiserver is away while the host boots: kube-proxy has no tables for a while.
func TestYoungKubeProxyWithoutTablesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.chains, w.proxy = map[string]bool{}, &Process{200, time.Since(w.born)}
		w.after(firstTables - 5*time.Second)
		if len(w.ended) != 0 {
			t.Errorf("ended %v", w.ended)
		}
	})
}

func TestOldKubeProxyWithoutTablesIsEndedOnce(t *testing.T) {
	for mode, want := range map[string]int{"nftables": 1, "iptables": 0} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := keep(t)
				w.config.KubeProxy = mode
				w.chains, w.proxy, w.barren = map[string]bool{}, &Process{200, time.Minute}, true
				w.after(10 * time.Minute) // the next one writes none either
				if len(w.ended) != want {
					t.Errorf("ended %v, want %d", w.ended, want)
				}
			})
		})
	}
}

func TestHostWithoutKubeProxyHasNothingToHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keep(t)
		w.proxy, w.chains = nil, map[string]bool{}
		w.after(10 * time.Minute)
		if w.state != "everything is in place" {
			t.Errorf("state %q", w.state)
		}
	})
}
