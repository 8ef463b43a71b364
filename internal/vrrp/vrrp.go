// Package vrrp tries VRRP (IP protocol 112) between masters and listens for the adverts
// of others. It runs on each master for a second or two, while a preflight looks.
//
// The probes are no adverts: version 0, type 0, virtual router id 0 (there is no such
// router) and the ordinary TTL. keepalived looks for the id first and drops an unknown
// one without a word; RFC 9568 has the rest dropped as well.
package vrrp

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Protocol is the number of VRRP in IP headers.
const Protocol = 112

// Question is what one master tries.
type Question struct {
	Interface   string        // on which adverts count
	Own         netip.Addr    // of this host, as keepalived uses it
	Peers       []netip.Addr  // the other masters, on whatever interface they are
	Least, Most time.Duration // it ends after Least if all peers hear one another, or else after Most
}

// answers prints lines, each once.
type answers struct {
	mu      sync.Mutex
	out     io.Writer
	said    map[string]bool
	heard   map[netip.Addr]bool // whose probes the firewall let in
	hearsUs map[netip.Addr]bool // who says that it hears this host
}

// mostLines bounds what a host prints of what others send.
const mostLines = 200

func (a *answers) say(words ...any) {
	line := fmt.Sprintln(words...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) >= mostLines || a.said[line] {
		return
	}
	a.said[line] = true
	_, _ = io.WriteString(a.out, line) // without a reader the answer is lost
}

var probe = append(make([]byte, 8), "hactl preflight"...)

// probeOf is a probe that names whom its sender has heard.
func (a *answers) probeOf() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := bytes.Clone(probe)
	for h := range a.heard {
		p = append(p, " "+h.String()...)
	}
	return p
}

// letIn notes what came past the firewall of this host.
func (a *answers) letIn(own, from netip.Addr, packet []byte) {
	names, ours := bytes.CutPrefix(packet, probe)
	if !ours {
		return
	}
	a.mu.Lock()
	a.heard[from] = true
	for name := range strings.FieldsSeq(string(names)) {
		if name == own.String() {
			a.hearsUs[from] = true
		}
	}
	a.mu.Unlock()
	a.say("vrrp-probe", from)
}

// onWire notes a packet that came to an interface, from its IP header on, before any
// firewall. Adverts count where ours would be.
func (a *answers) onWire(packet []byte, ours bool) {
	from, vrrp, ok := parse(packet)
	switch {
	case !ok:
	case bytes.HasPrefix(vrrp, probe):
		a.say("vrrp-wire", from)
	case ours:
		if words := advert(from, vrrp); words != nil {
			a.say(words...)
		}
	}
}

// parse returns the source and the content of an IP packet.
func parse(p []byte) (from netip.Addr, content []byte, ok bool) {
	switch {
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), p[40:], true
	case len(p) >= 20 && p[0]>>4 == 4:
		if header := 4 * int(p[0]&15); header >= 20 && len(p) >= header {
			return netip.AddrFrom4([4]byte(p[12:16])), p[header:], true
		}
	}
	return netip.Addr{}, nil, false
}

// mostAddresses bounds how many addresses of an advert are named.
const mostAddresses = 20

// advert is the line of an advert of version 2 or 3; nil for anything else.
func advert(from netip.Addr, p []byte) []any {
	if len(p) < 8 || p[0] != 0x21 && p[0] != 0x31 {
		return nil
	}
	words := []any{"vrrp-advert", from, p[0] >> 4, p[1]}
	size := from.BitLen() / 8
	rest := p[8:]
	for range min(int(p[3]), mostAddresses) {
		if len(rest) < size {
			break
		}
		addr, _ := netip.AddrFromSlice(rest[:size])
		words, rest = append(words, addr), rest[size:]
	}
	return words
}

// complete reports whether this host hears all peers and they hear it.
func (a *answers) complete(peers []netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range peers {
		if !a.heard[p] || !a.hearsUs[p] {
			return false
		}
	}
	return true
}
