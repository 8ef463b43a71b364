package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"hactl/internal/wait"
)

// servedTimeout bounds the handshake with one port.
const servedTimeout = 5 * time.Second

// Served is the certificate that the process at addr, as seen from the host, shows in a
// new handshake. It is not verified here.
func Served(ctx context.Context, h Host, addr string) (*x509.Certificate, error) {
	ctx, cancel := wait.Within(ctx, "a handshake with "+addr, servedTimeout)
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
