package prober

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// An apiserver that stops gracefully says so and serves on for a few seconds, in
// which the VIP moves. Requests that are on their way at that instant would be cut
// off: their answers can no longer be sent from an address that is gone, and what
// their clients send next reaches a host that knows nothing of them. So while the
// owner's apiserver is leaving, its host keeps a route that lets open connections
// go on without the address, and the other hosts pass on to it what belongs to no
// connection of their own.

// Handover is what a prober needs of its host for that. See [Host].
type Handover interface {
	// Keep lets connections to the VIP go on here after the address has left;
	// with false it no longer does.
	Keep(ctx context.Context, on bool) error
	// PassTo sends to a peer what arrives for the VIP and belongs to no
	// connection here; the zero address ends it.
	PassTo(ctx context.Context, peer netip.Addr) error
}

const (
	// announce is how long an owner whose apiserver is leaving keeps the VIP at
	// least: its peers have to be ready to pass connections on. An apiserver serves
	// on for five seconds (kubeadm's shutdown-delay-duration here).
	announce = time.Second
	// Once an apiserver takes no connection, it may still be sending its last
	// answers for two seconds (GenericAPIServer.RunWithContext). The peers stop
	// before the host does: what they sent to one that no longer keeps the route would
	// come back.
	passLonger = 2 * time.Second
	keepLonger = 3 * time.Second
	// passedFor bounds what is passed on to an apiserver that never ends, as far as
	// anybody can see.
	passedFor = 30 * time.Second
	// handAgain is the time between two tries of what has failed.
	handAgain = time.Second
)

// announced reports whether the local apiserver has been leaving for long enough
// that the peers, who ask every three intervals, know.
func (p *Prober) announced(now time.Time) bool {
	s := p.local.leaving.get()
	return !s.IsZero() && now.Sub(s) >= max(announce, 9*p.cfg.Interval)
}

// handover is what a host does at the moment, and what it has seen that for.
type handover struct {
	keeps     bool
	passes    netip.Addr
	keepUntil time.Time
	passUntil time.Time
	to        netip.Addr            // whom passUntil is about
	seen      map[*target]time.Time // by peer: the latest leaving that was looked at
	mine      time.Time             // the local one
	again     time.Time             // when what has failed is tried again
}

// handOver keeps the host's part in handovers as the probes say until ctx ends.
// What an earlier prober has left behind goes first.
func (p *Prober) handOver(ctx context.Context) {
	h := &handover{seen: map[*target]time.Time{}, keeps: true, passes: netip.IPv6Unspecified()} // as if: both are ended first
	defer func() {
		h.keepUntil, h.passUntil, h.again = time.Time{}, time.Time{}, time.Time{}
		p.hand(ctx, h, time.Now())
	}()
	tick := time.NewTicker(p.cfg.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		p.seeLeaving(h, now)
		p.hand(ctx, h, now)
		select {
		case <-ctx.Done():
		case <-p.parts:
		case <-tick.C:
		}
	}
}

// seeLeaving notes who is leaving. Only the owner's connections are handed over:
// a host that does not hold the VIP when its own apiserver begins to leave keeps
// no route, which would take its own clients from the owner, and an owner passes
// nothing to a peer that leaves, whose connections are not those of the VIP.
func (p *Prober) seeLeaving(h *handover, now time.Time) {
	if s := p.local.leaving.get(); !s.IsZero() {
		if !s.Equal(h.mine) {
			h.mine, h.keepUntil = s, time.Time{}
			if p.owns() {
				h.keepUntil = now.Add(keepLonger)
			}
		} else if !h.keepUntil.IsZero() {
			h.keepUntil = now.Add(keepLonger)
		}
	} else if h.keepUntil.Before(now) {
		h.keepUntil = time.Time{}
	}
	for _, t := range p.peers {
		s := t.leaving.get()
		switch {
		case s.IsZero():
		case !s.Equal(h.seen[t]):
			h.seen[t] = s
			if !p.owns() {
				h.to, h.passUntil = t.addr, now.Add(passLonger)
			}
		case h.to == t.addr && h.passUntil.After(now) && now.Sub(s) < passedFor:
			h.passUntil = now.Add(passLonger)
		}
	}
}

// hand has the host do what h says. What fails is tried again a little later.
func (p *Prober) hand(ctx context.Context, h *handover, now time.Time) {
	if now.Before(h.again) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	failed := func(what string, err error) bool {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
			h.again = time.Now().Add(handAgain)
		}
		return err != nil
	}
	if keep := h.keepUntil.After(now); keep != h.keeps && !failed("keep connections to the VIP going", p.cfg.Handover.Keep(ctx, keep)) {
		h.keeps = keep
	}
	var to netip.Addr
	if h.passUntil.After(now) {
		to = h.to
	}
	if to != h.passes && !failed("pass connections to the VIP on", p.cfg.Handover.PassTo(ctx, to)) {
		h.passes = to
	}
}

// leaves is true from the answer that says so until the apiserver takes no
// connection.
func (t *target) leaves() bool { return !t.leaving.get().IsZero() }

// notReadyError is an answer that is no 200.
type notReadyError struct {
	status string
	failed []string // names of the checks that have failed, the first ones
	stops  bool     // it has been told to stop
}

func (e *notReadyError) Error() string {
	names := make([]string, len(e.failed))
	for i, name := range e.failed {
		names[i] = strconv.QuoteToASCII(name)
	}
	return fmt.Sprintf("not ready: %s: %s", e.status, strings.Join(names, ", "))
}

// stopping is in every answer of an apiserver from the signal to stop on, and in
// none before (k8s.io/apiserver, the readyz check "shutdown").
const stopping = "[-]shutdown "

// noteLeaving notes what a probe says about the apiserver's end. Silence may be a
// busy one's, and says nothing.
func (t *target) noteLeaving(err error, now time.Time) {
	var answer *notReadyError
	before := t.leaves()
	switch {
	case errors.As(err, &answer) && answer.stops:
		if !before {
			t.leaving.set(now)
		}
	case err == nil || answer != nil || !noAnswer(err):
		t.leaving.set(time.Time{})
	}
	if t.leaves() != before {
		select {
		case t.parts <- struct{}{}:
		default: // poked already, or nobody listens
		}
	}
}

// Host hands connections over by the kernel's means. It is not safe for concurrent
// use.
type Host struct {
	VIP       netip.Addr
	Port      uint16
	Interface string // that carries the VIP

	settings string // folder of the interfaces' settings; /proc's when empty
	saved    string // file that keeps those that were changed; see savedFile when empty
}

// savedFile outlives the prober, not the host.
const savedFile = "/run/hactl/interface-settings"

// keepMetric tells the route from the one that the address itself brings.
const keepMetric = "77"

// Keep adds a local route to the VIP, without the address: nobody who asks who
// holds it is misled. As long as it is there, the interface answers no neighbour's
// question for the VIP nor names it in its own.
func (h *Host) Keep(ctx context.Context, on bool) error {
	if on {
		if err := h.hush(); err != nil {
			return errors.Join(err, h.restore())
		}
		return run(ctx, "", "ip", h.route("replace")...)
	}
	if err := run(ctx, "", "ip", h.route("delete")...); err != nil && !strings.Contains(err.Error(), "No such process") {
		return err // there is one
	}
	return h.restore()
}

func (h *Host) route(verb string) []string {
	family := "-4"
	if h.VIP.Is6() {
		family = "-6"
	}
	return []string{family, "route", verb, "local", h.VIP.String(), "dev", "lo", "table", "local", "metric", keepMetric}
}

// quiet are the settings with which an interface speaks only of its own addresses
// (the kernel's ip-sysctl.rst). IPv6 does so anyway.
var quiet = map[string]string{"arp_ignore": "1", "arp_announce": "2"}

func (h *Host) setting(name string) string {
	return filepath.Join(cmp.Or(h.settings, "/proc/sys/net/ipv4/conf"), h.Interface, name)
}

func (h *Host) savedFile() string { return cmp.Or(h.saved, savedFile) }

// hush saves the settings before it changes them, unless they are saved already:
// then they are those of a prober that was killed.
func (h *Host) hush() error {
	if h.VIP.Is6() {
		return nil
	}
	if _, err := os.Stat(h.savedFile()); errors.Is(err, fs.ErrNotExist) {
		var was strings.Builder
		for name := range quiet {
			b, err := os.ReadFile(h.setting(name))
			if err != nil {
				return err
			}
			fmt.Fprintf(&was, "%s %s\n", name, bytes.TrimSpace(b))
		}
		if err := os.WriteFile(h.savedFile(), []byte(was.String()), 0o600); err != nil {
			return err
		}
	}
	for name, value := range quiet {
		if err := os.WriteFile(h.setting(name), []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// restore gives the settings back, if any were saved.
func (h *Host) restore() error {
	b, err := os.ReadFile(h.savedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if _, ours := quiet[name]; !ok || !ours {
			continue // the file was not written to its end
		}
		if err := os.WriteFile(h.setting(name), []byte(value), 0); err != nil {
			return err
		}
	}
	return os.Remove(h.savedFile())
}

// PassTo installs or removes the table of nftables that does it.
func (h *Host) PassTo(ctx context.Context, peer netip.Addr) error {
	return run(ctx, h.rules(peer), "nft", "-f", "-")
}

// rules is the table: a packet of a connection (no SYN) that comes in from outside,
// for which the kernel knows no socket but the one that listens. A copy of it goes
// to the peer as it is, past the firewall's forwarding and conntrack (nftables'
// dup, which takes one from its time to live); here it ends, without the RST that
// would end the connection. Two that pass to one another do not do so for ever. A
// table that nobody removes has no effect after passedFor and a bit.
func (h *Host) rules(peer netip.Addr) string {
	family, kind, hops := "ip", "ipv4_addr", "ttl"
	if h.VIP.Is6() {
		family, kind, hops = "ip6", "ipv6_addr", "hoplimit"
	}
	// A table is deleted safely by declaring it first.
	clear := fmt.Sprintf("table %[1]s hactl_handover {}\ndelete table %[1]s hactl_handover\n", family)
	if !peer.IsValid() {
		return clear
	}
	return clear + fmt.Sprintf(`table %[1]s hactl_handover {
 set vip { type %[2]s; flags timeout; elements = { %[3]s timeout %[4]ds }; }
 chain strays {
  type filter hook prerouting priority raw;
  iifname "%[7]s" %[1]s daddr @vip %[1]s %[8]s > 1 tcp dport %[5]d tcp flags & syn == 0 socket wildcard 1 dup to %[6]s drop
 }
}
`, family, kind, h.VIP, int((passedFor+passLonger)/time.Second), h.Port, peer, h.Interface, hops)
}

func run(ctx context.Context, in, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hostOf is the address in an apiserver's base URL; zero when there is none.
func hostOf(base string) netip.Addr {
	_, hostPort, _ := strings.Cut(base, "://")
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host)
	return addr
}
