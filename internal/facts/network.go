package facts

import (
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An interface's name is at most 15 bytes (IFNAMSIZ) without / and white space.
var interfaceForm = regexp.MustCompile(`^[^/\s\x00-\x1f\x7f]{1,15}$`)

func (a *answer) interfaces(f *Brief) {
	if strings.Contains(a.raw("links"), "no ip\n") {
		a.fail("links", "the host has no ip command; install iproute2 on it")
		return
	}
	for _, l := range a.lines("links") {
		a.link(f, l)
	}
	for _, l := range a.lines("addresses") {
		a.address(f, l)
	}
	if len(f.Interfaces) == 0 {
		a.fail("links", "the host names no interface")
	}
}

// link reads "2: eth0@if5: <BROADCAST,UP> mtu 1500 ... \    link/ether MAC ...".
func (a *answer) link(f *Brief, l string) {
	w := strings.Fields(l)
	if len(w) < 3 {
		a.fail("links", "%.80q makes no sense", l)
		return
	}
	name, _, _ := strings.Cut(strings.TrimSuffix(w[1], ":"), "@")
	if !interfaceForm.MatchString(name) {
		a.fail("links", "%.80q is no name of an interface", name)
		return
	}
	i := Interface{Name: name, Up: slices.Contains(strings.Split(strings.Trim(w[2], "<>"), ","), "UP")}
	for n, word := range w[:len(w)-1] {
		switch word {
		case "mtu":
			i.MTU = int(a.number("links", w[n+1], 0, 1<<31))
		case "link/ether":
			mac, err := net.ParseMAC(w[n+1])
			if err != nil {
				a.fail("links", "%.80q is no MAC address", w[n+1])
				return
			}
			i.MAC = mac.String()
		}
	}
	f.Interfaces = append(f.Interfaces, i)
}

// address reads "2: eth0    inet 10.0.0.1/24 brd ... scope global eth0\ ...".
func (a *answer) address(f *Brief, l string) {
	w := strings.Fields(l)
	if len(w) < 4 || w[2] != "inet" && w[2] != "inet6" {
		return // other families
	}
	text := w[3]
	if !strings.Contains(text, "/") { // point to point: "inet 10.0.0.1 peer 10.0.0.2/32"
		bits := "/128"
		if w[2] == "inet" {
			bits = "/32"
		}
		text += bits
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a.fail("addresses", "%.80q is no address", w[3])
		return
	}
	for i := range f.Interfaces {
		if f.Interfaces[i].Name == w[1] {
			f.Interfaces[i].Prefixes = append(f.Interfaces[i].Prefixes, p)
			return
		}
	}
	a.fail("addresses", "%.80q is no interface of the host", w[1])
}

// route reads "default via 10.0.0.1 dev eth0" and "10.0.0.0/24 dev eth0 proto
// kernel ...". Kinds without a destination of that form do not count.
func (a *answer) route(f *Facts, l string) {
	w := strings.Fields(l)
	r := Route{Kernel: strings.Contains(l, " proto kernel "), RA: strings.Contains(l+" ", " proto ra "), Pods: strings.Contains(l+" ", " proto "+PodRoutes+" ")}
	for n, word := range w[:max(len(w)-1, 0)] {
		if word == "dev" && interfaceForm.MatchString(w[n+1]) {
			r.Interface = w[n+1]
			break
		}
	}
	dest := w[0]
	if dest == "default" {
		dest = "0.0.0.0/0"
		if strings.Contains(l, ":") {
			dest = "::/0"
		}
	}
	if addr, err := netip.ParseAddr(dest); err == nil {
		r.Dest = netip.PrefixFrom(addr, addr.BitLen())
	} else if r.Dest, err = netip.ParsePrefix(dest); err != nil {
		return // "unreachable 10.0.0.0/8", "blackhole ..."
	}
	f.Routes = append(f.Routes, r)
}

// sockets reads lines "ADDR:PORT INODE PID NAME" with the address as
// /proc/net/tcp prints it.
func (a *answer) sockets(f *Facts) {
	for _, l := range a.lines("listening") {
		w := strings.SplitN(l, " ", 4)
		if len(w) != 4 {
			a.fail("listening", "%.80q makes no sense", l)
			return
		}
		addr, ok := procAddr(w[0])
		if !ok {
			a.fail("listening", "%.80q is no address", w[0])
			return
		}
		s := Listener{Addr: addr, PID: int(a.number("listening", w[2], 0, 1<<31)), Process: a.value("listening", w[3])}
		if s.PID == 0 {
			s.Process = ""
		}
		f.Listening = append(f.Listening, s)
	}
}

// procAddr reads "0100007F:1F90": 32-bit words of the address in the host's byte
// order, which is little-endian on every architecture that hactl supports.
func procAddr(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	b, err2 := hex.DecodeString(host)
	if err != nil || err2 != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}
