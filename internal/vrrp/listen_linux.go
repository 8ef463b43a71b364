package vrrp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sendEvery = 100 * time.Millisecond
	lookEvery = 20 * time.Millisecond
)

// Listen puts a question and prints what it sees as lines for the preflight that
// started it, the last of them "vrrp heard". An error says why it could not be tried.
// It joins the groups of VRRP, so that network cards and switches hand on the adverts,
// and leaves nothing behind.
func Listen(q Question, out io.Writer) error {
	a := &answers{out: out, said: map[string]bool{}, heard: map[netip.Addr]bool{}, hearsUs: map[netip.Addr]bool{}}
	raw, err := rawSocket(q.Own)
	if err != nil {
		return err
	}
	defer raw.Close()
	ifi, err := net.InterfaceByName(q.Interface)
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", q.Interface, err)
	}
	var readers sync.WaitGroup
	stop := make(chan struct{})
	defer readers.Wait()
	defer raw.Close() // ends its reader
	defer close(stop)
	for _, w := range []struct {
		etherType uint16
		protocol  uint32 // where the IP header has it
	}{{unix.ETH_P_IP, 9}, {unix.ETH_P_IPV6, 6}} {
		fd, err := wire(w.etherType, w.protocol)
		if err != nil {
			return err
		}
		readers.Go(func() { a.readWire(fd, ifi.Index, stop) })
	}
	defer joinGroups(ifi.Index)()
	readers.Go(func() { a.readRaw(raw, q.Own) })
	a.exchange(q, raw)
	return nil
}

// exchange sends probes until the question is answered or its time is over.
func (a *answers) exchange(q Question, raw *net.IPConn) {
	s := &sender{raw: raw, sent: map[netip.Addr]bool{}, why: map[netip.Addr]string{}}
	began := time.Now()
	s.all(q.Peers, a.probeOf())
	// Between these two moments probes were sent and heard for sure.
	a.say("vrrp-from", time.Now().UnixNano())
	for last := began; !a.done(q, time.Since(began)); time.Sleep(lookEvery) {
		if time.Since(last) >= sendEvery {
			last = time.Now()
			s.all(q.Peers, a.probeOf())
		}
	}
	a.say("vrrp-until", time.Now().UnixNano())
	for range 3 { // who is heard last is told as well
		s.all(q.Peers, a.probeOf())
		time.Sleep(lookEvery)
	}
	for _, p := range q.Peers {
		if !s.sent[p] {
			a.say("vrrp-unsent", p, s.why[p])
		}
	}
	a.say("vrrp heard")
}

func (a *answers) done(q Question, took time.Duration) bool {
	return took >= q.Most || took >= q.Least && a.complete(q.Peers)
}

// sender remembers to whom a probe could be sent.
type sender struct {
	raw  *net.IPConn
	sent map[netip.Addr]bool
	why  map[netip.Addr]string
}

func (s *sender) all(peers []netip.Addr, probe []byte) {
	for _, p := range peers {
		_, err := s.raw.WriteToIP(probe, &net.IPAddr{IP: p.AsSlice()})
		var errno syscall.Errno
		switch {
		case err == nil:
			s.sent[p] = true
		case errors.As(err, &errno):
			s.why[p] = errno.Error()
		default:
			s.why[p] = err.Error()
		}
	}
}

// rawSocket gets what the firewall of this host lets in. keepalived binds its sockets
// for unicast to the address, not to an interface.
func rawSocket(own netip.Addr) (*net.IPConn, error) {
	family := "ip4"
	if own.Is6() {
		family = "ip6"
	}
	c, err := net.ListenIP(fmt.Sprintf("%s:%d", family, Protocol), &net.IPAddr{IP: own.AsSlice()})
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	return c, nil
}

func (a *answers) readRaw(raw *net.IPConn, own netip.Addr) {
	buf := make([]byte, 2048)
	for {
		n, from, err := raw.ReadFromIP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if addr, ok := fromIP(from); err == nil && ok {
			a.letIn(own, addr, buf[:n])
		}
	}
}

func fromIP(a *net.IPAddr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(a.IP)
	return addr.Unmap(), ok
}

// wire is a socket that gets what comes to any interface, before any firewall. The
// kernel passes on protocol 112 alone.
func wire(etherType uint16, protocol uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a packet socket: %w", err)
	}
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: protocol},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: Protocol},
		{Code: unix.BPF_RET, K: 0xffff},
		{Code: unix.BPF_RET, K: 0},
	}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(etherType)}))
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("listen on all interfaces: %w", err)
	}
	return fd, nil
}

func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// readWire reads a socket of wire until stop is closed, and closes it.
func (a *answers) readWire(fd, index int, stop <-chan struct{}) {
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if on, ok := from.(*unix.SockaddrLinklayer); err == nil && ok {
			a.onWire(buf[:n], on.Ifindex == index)
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// joinGroups joins 224.0.0.18 and ff02::12 where that is possible, until the function
// it returns is called.
func joinGroups(index int) (leave func()) {
	var joined []int
	for _, g := range []struct {
		family int
		join   func(fd int) error
	}{
		{unix.AF_INET, func(fd int) error {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 18}, Ifindex: int32(index)})
		}},
		{unix.AF_INET6, func(fd int) error {
			return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: [16]byte{0: 0xff, 1: 2, 15: 0x12}, Interface: uint32(index)})
		}},
	} {
		fd, err := unix.Socket(g.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		joined = append(joined, fd)
		_ = g.join(fd) // on a wire without switches adverts come all the same
	}
	return func() {
		for _, fd := range joined {
			_ = unix.Close(fd)
		}
	}
}
