package faultproxy

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return ln.Addr().String()
}

func start(t *testing.T) *Proxy {
	t.Helper()
	p, err := New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func roundTrip(t *testing.T, c net.Conn, n int) time.Duration {
	t.Helper()
	began := time.Now()
	go func() { _, _ = c.Write(make([]byte, n)) }()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

func TestForwardsThenCutsAfterNBytes(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	roundTrip(t, c, 1<<20)
	p.CutAfter(1000)
	_, _ = c.Write(make([]byte, 5000))
	if n, err := io.Copy(io.Discard, c); n > 1000 {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	roundTrip(t, dial(t, p), 5000) // the cut happens once
}

func TestHangsAndResumes(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	roundTrip(t, c, 1)
	p.Hang()
	p.Hang()
	_, _ = c.Write([]byte("x"))
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("data flowed")
	}
	p.Resume()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestSlowsDown(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.Throttle(100_000, 100*time.Millisecond)
	c := dial(t, p)
	if took := roundTrip(t, c, 1); took < 100*time.Millisecond {
		t.Errorf("round trip took %s", took)
	}
	if took := roundTrip(t, c, 50_000); took < 500*time.Millisecond {
		t.Errorf("50 kB took %s", took)
	}
}

func TestRefusesAndRestarts(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := dial(t, p)
	roundTrip(t, c, 1)
	p.Refuse()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the old connection lives")
	}
	if _, err := net.Dial("tcp", p.Addr); err == nil {
		t.Error("not refused")
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, p), 1)
}
