package expiry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"hactl/internal/remote"
)

// Port is where a process of a host serves a certificate.
type Port struct {
	Addr string // as seen from the host
	File string // what it is to serve
}

// wireTimeout bounds the handshake with one port.
const wireTimeout = 5 * time.Second

// LookAtWire asks each port for the certificate that it serves now. A new handshake
// alone proves that: a connection that is there outlives its certificate.
func LookAtWire(ctx context.Context, h remote.Host, ports []Port) Evidence {
	seen := make([]Sighting, len(ports))
	lost := make([]error, len(ports))
	var wg sync.WaitGroup
	for i, p := range ports {
		wg.Go(func() {
			s := Sighting{Place: Wire, Host: h.Name(), What: p.Addr}
			cert, err := Served(ctx, h, p.Addr)
			switch {
			case remote.Unreachable(err):
				lost[i] = err
			case err != nil:
				s.Problem = "serves nothing: " + err.Error()
			}
			s.Cert = cert
			seen[i] = s
		})
	}
	wg.Wait()
	var e Evidence
	for i := range ports {
		if lost[i] == nil {
			e.Seen = append(e.Seen, seen[i])
			continue
		}
		e.Unseen = map[string]error{h.Name(): fmt.Errorf("port %s: %w", ports[i].Addr, lost[i])}
	}
	return e
}

// Served is the certificate that the process at addr, as seen from the host, shows in a
// new handshake. It is not verified here.
func Served(ctx context.Context, h remote.Host, addr string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var cert *x509.Certificate
	t := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // it is looked at, and trusted with nothing
		VerifyConnection: func(s tls.ConnectionState) error {
			cert = s.PeerCertificates[0]
			return nil
		},
	})
	err = t.HandshakeContext(ctx)
	if cert != nil { // a server that wants a client's certificate ends it after this
		return cert, nil
	}
	if err == nil {
		err = errors.New("the handshake showed no certificate")
	}
	return nil, err
}
