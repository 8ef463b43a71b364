package prober

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
)

// lan is a network in memory, by address. Nothing on it waits for the kernel, so
// that a test can run in a bubble of testing/synctest: there time is exact,
// whatever else the machine does.
type lan map[string]*listener

// newAPIServer starts a fake apiserver, the n-th at 192.0.2.n.
func (n lan) newAPIServer(t *testing.T, status int) *apiserver {
	t.Helper()
	l := &listener{
		addr:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(len(n) + 1)}), 6443),
		conns: make(chan net.Conn), closed: make(chan struct{}),
	}
	n[l.addr.String()] = l
	return serve(t, l, status)
}

func (n lan) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l := n[addr]
	if l == nil {
		return nil, syscall.EHOSTUNREACH
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n lan) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.dial}}
}

type listener struct {
	addr   netip.AddrPort
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
