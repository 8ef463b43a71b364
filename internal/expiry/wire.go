package expiry

import (
	"context"
	"fmt"
	"sync"

	"hactl/internal/remote"
)

// Port is where a process of a host serves a certificate.
type Port struct {
	Addr string // as seen from the host
	File string // what it is to serve
}

// LookAtWire asks each port for the certificate that it serves now. A new handshake
// alone proves that: a connection that is there outlives its certificate.
func LookAtWire(ctx context.Context, h remote.Host, ports []Port) Evidence {
	seen := make([]Sighting, len(ports))
	lost := make([]error, len(ports))
	var wg sync.WaitGroup
	for i, p := range ports {
		wg.Go(func() {
			s := Sighting{Place: Wire, Host: h.Name(), What: p.Addr}
			cert, err := remote.Served(ctx, h, p.Addr)
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
