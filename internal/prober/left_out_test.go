package prober

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/testneeds"
)

func certFor(addrs ...string) *x509.Certificate {
	c := &x509.Certificate{}
	for _, a := range addrs {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(a))
	}
	return c
}

// A host is left out only where certificates name other masters and none names it.
func TestLeftOutIsConcludedFromTheNamesInCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		self   string
		certs  []*x509.Certificate // of 192.0.2.12 and 192.0.2.13
		asked  bool                // both were
		first  bool
		reason string // part of it
	}{
		"a master":                           {"192.0.2.11", []*x509.Certificate{certFor("192.0.2.11", "192.0.2.12", "192.0.2.13"), certFor("192.0.2.11", "192.0.2.12", "192.0.2.13")}, true, false, ""},
		"taken out":                          {"192.0.2.11", []*x509.Certificate{certFor("192.0.2.12", "192.0.2.13"), certFor("192.0.2.12", "192.0.2.13")}, true, false, "taken out"},
		"taken out, one peer is off":         {"192.0.2.11", []*x509.Certificate{nil, certFor("192.0.2.12", "192.0.2.13", "192.0.2.14")}, true, false, "taken out"},
		"joining, one peer knows it already": {"192.0.2.11", []*x509.Certificate{certFor("192.0.2.12", "192.0.2.13"), certFor("192.0.2.11", "192.0.2.12", "192.0.2.13")}, true, false, ""},
		"certificates of their own":          {"192.0.2.11", []*x509.Certificate{certFor("192.0.2.12"), certFor("192.0.2.13")}, true, false, ""},
		"certificates for names only":        {"192.0.2.11", []*x509.Certificate{certFor(), certFor()}, true, false, ""},
		"no peer answers":                    {"192.0.2.11", []*x509.Certificate{nil, nil}, true, false, ""},
		"just booted, nothing is known":      {"192.0.2.11", []*x509.Certificate{nil, nil}, false, true, "just booted"},
		"just booted, no peer answers":       {"192.0.2.11", []*x509.Certificate{nil, nil}, true, true, ""},
		"a prober that was started anew":     {"192.0.2.11", []*x509.Certificate{nil, nil}, false, false, ""},
		"a prober that was told no address":  {"", []*x509.Certificate{certFor("192.0.2.12", "192.0.2.13"), nil}, true, true, ""},
		"IPv6, taken out":                    {"2001:db8::11", []*x509.Certificate{certFor("192.0.2.12", "192.0.2.13"), nil}, true, false, "2001:db8::11"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Local: "https://127.0.0.1:6443", Peers: []string{"https://192.0.2.12:6443", "https://192.0.2.13:6443"}, File: filepath.Join(t.TempDir(), "track")}
			if !c.first {
				must(t, os.WriteFile(cfg.File, []byte("0\n"), 0o600))
			}
			if c.self != "" {
				cfg.Self = netip.MustParseAddr(c.self)
			}
			p := New(cfg)
			for i, cert := range c.certs {
				p.peers[i].cert.Store(cert)
				p.peers[i].asked.Store(c.asked)
			}
			p.local.ok.Store(c.asked) // taken out although its apiserver is well
			unfit, why := p.verdict(time.Now())
			if (unfit == 1) != (c.reason != "") || !strings.Contains(why, c.reason) {
				t.Errorf("unfit %d: %q", unfit, why)
			}
		})
	}
}

// The certificates come with the answers of the peers, and a new one is seen.
func TestMasterIsFitOnceAPeersCertificateNamesIt(t *testing.T) {
	var connections atomic.Int32
	old := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	old.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	old.StartTLS() // its certificate names 127.0.0.1 and ::1
	defer old.Close()
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		testneeds.Missing(t, "no IPv6 here: %v", err)
	}
	other := httptest.NewUnstartedServer(old.Config.Handler)
	other.Listener = six
	other.StartTLS()
	defer other.Close()
	self := netip.MustParseAddr("192.0.2.11")
	p := New(Config{Local: old.URL, Peers: []string{old.URL, other.URL}, Self: self, File: filepath.Join(t.TempDir(), "track"), Slow: time.Minute, Rise: 1, Client: old.Client()})
	for _, peer := range p.peers {
		must(t, peer.probe(context.Background()))
	}
	p.local.ok.Store(true)
	if unfit, why := p.verdict(time.Now()); unfit != 1 || !strings.Contains(why, "taken out") {
		t.Fatalf("unfit %d: %q", unfit, why)
	}
	must(t, p.peers[0].probe(context.Background())) // this one still goes by the first connection, and ends it
	must(t, p.peers[0].probe(context.Background()))
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections: a certificate that was renewed is not seen on an old one", n)
	}
	must(t, p.peers[0].probe(context.Background()))
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections after another probe: it is looked at all the time", n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
