// Package faultproxy is a TCP proxy on loopback that breaks things on purpose:
// it stands between hactl and an sshd and cuts, hangs, slows down or refuses.
package faultproxy

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections to one address. Its faults can be changed while it
// runs; the zero settings forward faithfully.
type Proxy struct {
	Addr string // address and port, the same after Refuse and Restart
	to   string
	in   Network

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	hung  chan struct{} // closed while data flows; replaced by Hang
	slow  slowness
	wg    sync.WaitGroup

	upLeft atomic.Int64 // bytes towards the server until the cut; negative: no cut
	up     atomic.Int64 // bytes forwarded towards the server
}

type slowness struct {
	rate int // bytes a second and direction; 0: as fast as it goes
	rtt  time.Duration
}

// Network is where a proxy stands: how it listens and how it reaches the
// server, over TCP.
type Network struct {
	Listen func(addr string) (net.Listener, error)
	Dial   func(addr string) (net.Conn, error)
}

// New listens on this machine's loopback and forwards to addr. On Linux each proxy
// has a loopback address of its own, and a port that the kernel does not choose
// for a listener on every address: between Refuse and Restart its port would be free for others.
func New(to string) (*Proxy, error) {
	return newIn(ownLoopback(), Network{
		Listen: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Dial:   func(addr string) (net.Conn, error) { return net.Dial("tcp", addr) },
	}, to)
}

var proxies atomic.Int64

func ownLoopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	n := proxies.Add(1)
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+os.Getpid()%250, n/250%250, 1+n%250, 10000+os.Getpid()%20000)
}

// NewIn is New in another network than this machine's.
func NewIn(in Network, to string) (*Proxy, error) { return newIn("127.0.0.1:0", in, to) }

func newIn(at string, in Network, to string) (*Proxy, error) {
	ln, err := in.Listen(at)
	if err != nil {
		return nil, err
	}
	flowing := make(chan struct{})
	close(flowing)
	p := &Proxy{Addr: ln.Addr().String(), to: to, in: in, conns: map[net.Conn]bool{}, hung: flowing}
	p.upLeft.Store(-1)
	p.listen(ln)
	return p, nil
}

func (p *Proxy) listen(ln net.Listener) {
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
}

// CutAfter cuts every connection once n more bytes went towards the server, and
// then forwards again as if nothing had been.
func (p *Proxy) CutAfter(n int64) { p.upLeft.Store(n) }

// Throttle limits each direction to rate bytes a second (0: no limit) and adds
// rtt to every round trip. It holds for connections made afterwards.
func (p *Proxy) Throttle(rate int, rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = slowness{rate: rate, rtt: rtt}
}

// Hang stops all data, in both directions, without closing anything.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hung:
		p.hung = make(chan struct{})
	default: // hangs already
	}
}

// Resume lets data flow again after Hang.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hung:
	default:
		close(p.hung)
	}
}

// Cut closes every connection now; new ones are forwarded.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // closed already is fine
	}
}

// Refuse cuts every connection and refuses new ones until Restart.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	ln := p.ln
	p.mu.Unlock()
	_ = ln.Close() // refused already is fine
	p.Cut()
}

// Restart listens again on the same address.
func (p *Proxy) Restart() error {
	ln, err := p.in.Listen(p.Addr)
	if err != nil {
		return err
	}
	p.listen(ln)
	return nil
}

// Sent returns the bytes forwarded towards the server so far.
func (p *Proxy) Sent() int64 { return p.up.Load() }

// Close ends the proxy and everything in it.
func (p *Proxy) Close() {
	p.Refuse()
	p.Resume()
	p.wg.Wait()
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := p.in.Dial(p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	slow := p.slow
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client, slow, true) })
	both.Go(func() { p.pipe(client, server, slow, false) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// parcel is data and the time at which it is due.
type parcel struct {
	data []byte
	due  time.Time
}

// pipe forwards one direction and closes both ends behind it.
func (p *Proxy) pipe(to, from net.Conn, slow slowness, up bool) {
	defer to.Close()
	defer from.Close()
	queue := make(chan parcel, 64)
	gone := make(chan struct{})
	p.wg.Go(func() {
		defer close(queue)
		size := 32 << 10
		if slow.rate > 0 {
			size = max(slow.rate/20, 64)
		}
		for {
			buf := make([]byte, size)
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case queue <- parcel{buf[:n], time.Now().Add(slow.rtt / 2)}:
				case <-gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer close(gone)
	for q := range queue {
		time.Sleep(time.Until(q.due))
		if !p.deliver(to, q.data, up) {
			return
		}
		if slow.rate > 0 {
			time.Sleep(time.Duration(len(q.data)) * time.Second / time.Duration(slow.rate))
		}
	}
}

func (p *Proxy) deliver(to net.Conn, data []byte, up bool) bool {
	p.mu.Lock()
	flowing := p.hung
	p.mu.Unlock()
	<-flowing
	cut := false
	if up {
		p.up.Add(int64(len(data)))
		if left := p.upLeft.Load(); left >= 0 {
			if cut = int64(len(data)) >= left; cut {
				data = data[:left]
				p.upLeft.Store(-1)
			} else {
				p.upLeft.Add(-int64(len(data)))
			}
		}
	}
	if _, err := to.Write(data); err != nil {
		return false
	}
	if cut {
		p.Cut()
	}
	return !cut
}
