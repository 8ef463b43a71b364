package remote

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote/sshdtest"
)

func TestDialStartsOnTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	c := w.connect(t)
	big := strings.Repeat("x", 3<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(rw, big[:len(body)])
	}))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: c.Dial}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Post(srv.URL, "text/plain", strings.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); len(body) != len(big) || err != nil {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if w.srv.Connections() != 1 {
		t.Error("a tunnel made a connection of its own")
	}
}

func TestTunnelHasDeadlinesAndKeepsLastBytes(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		got <- string(b)
	}()
	conn, err := c.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := io.WriteString(conn, "last words"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-got:
		if s != "last words" {
			t.Errorf("arrived %q", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("the other end did not see the close")
	}
}

func TestDialFailuresAreToldApart(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	// The host answered: nobody listens. That is a finding, not "could not look".
	if _, err := c.Dial(t.Context(), "tcp", ln.Addr().String()); err == nil || Unreachable(err) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
	c = newWorld(t, sshdtest.Config{NoForwarding: true}).connect(t)
	_, err = c.Dial(t.Context(), "tcp", "127.0.0.1:1")
	if !Unreachable(err) || !strings.Contains(HintOf(err), "AllowTcpForwarding") {
		t.Errorf("forwarding forbidden: %v, hint %q", err, HintOf(err))
	}
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	c = w.connect(t)
	p.Refuse()
	_, err = c.Dial(t.Context(), "tcp", "127.0.0.1:1")
	if !Unreachable(err) {
		t.Errorf("host gone: %v", err)
	}
}
