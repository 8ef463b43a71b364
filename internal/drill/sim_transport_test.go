package drill

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"time"
)

// connect opens a connection to an address: one in memory, or, where handlers are
// called directly, one that only knows whether it was closed.
func (s *sim) connect(ctx context.Context, addr string) (net.Conn, error) {
	if s.cluster.transport == nil {
		return s.servers[addr].DialContext(ctx)
	}
	c := &calledConn{handler: s.handler, cut: make(chan struct{})}
	if addr == simService+":80" {
		c.handler = demoHandler
		return c, s.loses(&s.lossyService)
	}
	for _, m := range s.cluster.Members {
		if m.API == addr {
			c.host = m.Name
		}
	}
	if err := s.await(ctx, c.host); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.dead[c.host]) {
		return nil, syscall.ECONNREFUSED
	}
	return c, nil
}

// loses is an error for one request of four where that is what is wrong.
func (s *sim) loses(of **rand.Rand) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := *of; r != nil && r.IntN(4) == 0 {
		return syscall.ECONNRESET
	}
	return nil
}

// calledConn is a connection over which no bytes go.
type calledConn struct {
	net.Conn
	handler http.Handler
	host    string
	once    sync.Once
	cut     chan struct{}
}

// Close cuts the connection.
func (c *calledConn) Close() error {
	c.once.Do(func() { close(c.cut) })
	return nil
}

// direct is a transport with the dials of the real one.
func (s *sim) direct(dial dialFunc, kept bool) http.RoundTripper {
	return &directTransport{sim: s, dial: dial, kept: kept}
}

type directTransport struct {
	sim  *sim
	dial dialFunc
	kept bool

	mu   sync.Mutex
	conn *calledConn // the kept one
}

func (t *directTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := t.connected(req)
	if err != nil {
		return nil, err
	}
	if t.sim.slow > 0 {
		late := time.NewTimer(t.sim.slow)
		defer late.Stop()
		select {
		case <-req.Context().Done():
			return nil, req.Context().Err()
		case <-conn.cut:
			return nil, io.EOF
		case <-late.C:
		}
	}
	if err := t.sim.await(req.Context(), conn.host); err != nil {
		return nil, err
	}
	select {
	case <-conn.cut:
		return nil, io.EOF
	default:
	}
	w := httptest.NewRecorder()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	conn.handler.ServeHTTP(w, req)
	if !t.kept {
		t.sim.forgetConn(conn)
	}
	return w.Result(), nil
}

// connected is the kept connection, or a new one where that was cut.
func (t *directTransport) connected(req *http.Request) (*calledConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept && t.conn != nil {
		select {
		case <-t.conn.cut:
		default:
			return t.conn, nil
		}
	}
	bound := requestDeadline
	if t.kept {
		bound = keptDial
	}
	ctx, cancel := context.WithTimeout(req.Context(), bound)
	defer cancel()
	addr := req.URL.Host
	if !t.kept { // only a kept connection has others wait for its dial
		t.mu.Unlock()
		defer t.mu.Lock()
	}
	conn, err := t.dial(ctx, "tcp", addr)
	if err == nil && addr == t.sim.cluster.API {
		err = t.sim.loses(&t.sim.lossy)
	}
	if err != nil {
		return nil, err
	}
	called := conn.(*calledConn)
	if t.kept {
		t.conn = called
	}
	return called, nil
}

// forgetConn drops a connection that has ended.
func (s *sim) forgetConn(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
