package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/inventory"
)

// elsewhere is an authority whose key the store does not have.
type elsewhere struct {
	cert *x509.Certificate
	key  crypto.Signer
	then []*x509.Certificate // put behind each certificate
}

// sign signs a request as it is, but for what change does to the certificate.
func (e *elsewhere) sign(t *testing.T, csr []byte, change func(*x509.Certificate)) []byte {
	t.Helper()
	block, _ := pem.Decode(csr)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(365 * 24 * time.Hour), PublicKey: r.PublicKey,
	}
	for _, x := range r.Extensions { // what the request asks for
		if x.Id.Equal(oidKeyUsage) || x.Id.Equal(oidExtKeyUsage) {
			c.ExtraExtensions = append(c.ExtraExtensions, x)
		}
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, e.cert, c.PublicKey, e.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return encodeCertificates(append([]*x509.Certificate{cert}, e.then...))
}

// withElsewhere is an inventory whose etcd CA and front-proxy CA sign elsewhere.
func withElsewhere(t *testing.T) (*inventory.Inventory, *elsewhere) {
	t.Helper()
	inv := testInventory(t)
	root, key := testAuthority(t, "company", later.Add(40000*time.Hour), nil, nil, true)
	files := place(t, inv, key, root)
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	files.Key = ""
	inv.PKI.ExternalCA.Etcd, inv.PKI.ExternalCA.FrontProxy = files, files
	return inv, &elsewhere{cert: root, key: key}
}

// preview is what every operation begins with.
func preview(t *testing.T, s *Store) (*Material, []string) {
	t.Helper()
	m, created, err := s.Preview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m, created
}

// request has a run write its requests, and reads them from the folder.
func requestsOf(t *testing.T, inv *inventory.Inventory, s *Store) map[string][]byte {
	t.Helper()
	m, _ := preview(t, s)
	dir := filepath.Join(filepath.Dir(inv.Path), "requests")
	if err := s.WriteRequests(t.Context(), m, dir); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, q := range m.Waiting {
		text, err := os.ReadFile(filepath.Join(dir, q.Name+".csr"))
		if err != nil {
			t.Fatal(err)
		}
		out[q.Name] = text
	}
	return out
}

func (e *elsewhere) signAll(t *testing.T, requests map[string][]byte) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, csr := range requests {
		if err := os.WriteFile(filepath.Join(folder, name+".crt"), e.sign(t, csr, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// All pairs of an authority whose key is elsewhere wait first; once they are signed, the store has
// them, and a second run finds nothing to do. A renewal keeps the keys.
func TestPairsOfAnAuthorityWithoutKeyAreSignedElsewhere(t *testing.T) {
	inv, e := withElsewhere(t)
	requests := requestsOf(t, inv, open(t, inv))
	want := []string{"etcd-client-apiserver", "etcd-client-hactl", "etcd-peer-m1", "etcd-peer-m2", "etcd-peer-m3", "etcd-server-m1", "etcd-server-m2", "etcd-server-m3", "front-proxy-client"}
	var names []string
	for name := range requests {
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Fatalf("these wait: %v", names)
	}
	// Another run asks for the same keys.
	folder := e.signAll(t, requests)
	requestsOf(t, inv, open(t, inv))
	s := open(t, inv)
	s.SignedIn(folder)
	m, created := kept(t, s)
	if len(m.Waiting) != 0 || len(m.EtcdCA.KeyPEM) != 0 {
		t.Errorf("%d wait still; made %v", len(m.Waiting), created)
	}
	client, err := m.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = "m1"
	if s, c := handshake(t, etcdLike(t, m), client); s != nil || c != nil {
		t.Errorf("server %v, client %v", s, c)
	}
	if entries, err := filepath.Glob(filepath.Join(s.Dir(), requestPrefix+"*")); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if slices.ContainsFunc(m.Secrets(), func(s []byte) bool { return len(s) == 0 }) {
		t.Error("an empty text is a secret")
	}
	if m, created := kept(t, open(t, inv)); len(created) != 0 || len(m.Waiting) != 0 {
		t.Errorf("the second run made %v, and %d wait", created, len(m.Waiting))
	}
	if _, err := open(t, inv).Load(t.Context()); err != nil {
		t.Error(err)
	}
	renew := open(t, inv)
	renew.RenewAlso(func(name string) bool { return name == "etcd-peer-m2" })
	again := requestsOf(t, inv, renew)
	if len(again) != 1 {
		t.Fatalf("%d wait", len(again))
	}
	renew.SignedIn(e.signAll(t, again))
	n, created := kept(t, renew)
	before, _ := m.EtcdPeer("m2")
	after, _ := n.EtcdPeer("m2")
	if string(before.CertPEM) == string(after.CertPEM) || string(before.KeyPEM) != string(after.KeyPEM) || len(created) != 1 {
		t.Errorf("made %v; the key is another one: %v", created, string(before.KeyPEM) != string(after.KeyPEM))
	}
	// The same command again, with the same folder: what was asked for is there.
	if m, created := kept(t, renew); len(created) != 0 || len(m.Waiting) != 0 {
		t.Errorf("it would make %v again", created)
	}
}

// What is about to end waits too, and the pair that is there serves until then.
func TestPairThatEndsSoonServesWhileTheNextOneWaits(t *testing.T) {
	inv, e := withElsewhere(t)
	s := open(t, inv)
	requests := requestsOf(t, inv, s)
	s.SignedIn(e.signAll(t, requests))
	kept(t, s)
	for _, c := range []struct {
		after  time.Duration
		needed bool
	}{{340 * 24 * time.Hour, false}, {366 * 24 * time.Hour, true}} {
		late := open(t, inv)
		late.now = func() time.Time { return time.Now().Add(c.after) }
		// The Kubernetes CA's own pairs last longer.
		m, _, err := late.Preview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.EtcdServer("m1")
		i := slices.IndexFunc(m.Waiting, func(q Request) bool { return q.Name == "etcd-server-m1" })
		if err != nil || i < 0 || m.Waiting[i].Needed != c.needed || len(p.CertPEM) == 0 {
			t.Errorf("after %s: %v, %+v", c.after, err, m.Waiting)
		}
	}
}

// A certificate that does not serve is refused by name, with its file; nothing is taken, not
// even the others.
func TestSignedCertificateThatDoesNotServeIsRefusedByName(t *testing.T) {
	inv, e := withElsewhere(t)
	requests := requestsOf(t, inv, open(t, inv))
	good := e.signAll(t, requests)
	other, otherKey := testAuthority(t, "other", later, nil, nil, true)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*x509.Certificate)) func(t *testing.T, csr []byte) []byte {
		return func(t *testing.T, csr []byte) []byte { return e.sign(t, csr, change) }
	}
	for name, c := range map[string]struct {
		pair string
		make func(t *testing.T, csr []byte) []byte
		want string
	}{
		"no certificate":        {"etcd-server-m1", func(*testing.T, []byte) []byte { return []byte("hello") }, "unreadable: "},
		"another key":           {"etcd-server-m1", changed(func(c *x509.Certificate) { c.PublicKey = stranger.Public() }), "wrong-key: "},
		"another name":          {"etcd-server-m1", changed(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "m9") }), "wrong-names: "},
		"an address less":       {"etcd-server-m1", changed(func(c *x509.Certificate) { c.IPAddresses = c.IPAddresses[:1] }), "wrong-names: "},
		"another subject":       {"front-proxy-client", changed(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "proxy"} }), "wrong-subject: "},
		"an organisation":       {"etcd-client-hactl", changed(func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} }), "wrong-subject: "},
		"another authority":     {"etcd-server-m1", (&elsewhere{cert: other, key: otherKey}).signed, "wrong-issuer: "},
		"a CA":                  {"etcd-server-m1", changed(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "wrong-usage: "},
		"no client usage":       {"etcd-server-m1", changed(only(x509.ExtKeyUsageServerAuth)), "wrong-usage: it has to be good for server authentication and client authentication"},
		"no usage":              {"etcd-client-hactl", changed(only()), "wrong-usage: "},
		"a server for a client": {"front-proxy-client", changed(only(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)), "wrong-usage: "},
		"it may only encrypt": {"etcd-client-hactl", changed(func(c *x509.Certificate) {
			only(x509.ExtKeyUsageClientAuth)(c)
			c.KeyUsage = x509.KeyUsageKeyEncipherment
		}), "wrong-usage: "},
		"its time is over": {"etcd-server-m1", changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), "expired: "},
		"a clock that jumped": {"etcd-server-m1", changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "not-yet-valid: "},
		"for a week":          {"etcd-server-m1", changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(7 * 24 * time.Hour) }), "ends-too-soon: "},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(folder, c.pair+".crt")
			if err := os.WriteFile(file, c.make(t, requests[c.pair]), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, inv)
			s.SignedIn(folder)
			_, _, err := s.Preview(t.Context())
			var refused *RefusedError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), file+": "+c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	s := open(t, inv)
	s.SignedIn(good)
	kept(t, s)
}

func (e *elsewhere) signed(t *testing.T, csr []byte) []byte { return e.sign(t, csr, nil) }

// only gives a certificate these usages, whatever the request asks for.
func only(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtraExtensions, c.ExtKeyUsage = nil, usages }
}

// A folder that is not there, as by a word that was mistyped, is not one without certificates.
func TestFolderOfSignedCertificatesHasToBeThere(t *testing.T) {
	inv, _ := withElsewhere(t)
	s := open(t, inv)
	s.SignedIn(filepath.Join(t.TempDir(), "none"))
	if _, _, err := keep(s); err == nil || !strings.Contains(err.Error(), "no such file") || remote.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

// A copy of the certificate that was taken before does not replace a newer one.
func TestOlderCertificateIsNotTakenAgain(t *testing.T) {
	inv, e := withElsewhere(t)
	s := open(t, inv)
	requests := requestsOf(t, inv, s)
	folder := e.signAll(t, requests)
	s.SignedIn(folder)
	kept(t, s)
	const name = "etcd-peer-m1"
	old := e.sign(t, requests[name], func(c *x509.Certificate) { c.NotAfter = time.Now().Add(200 * 24 * time.Hour) })
	if err := os.WriteFile(filepath.Join(folder, name+".crt"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.RenewAlso(func(n string) bool { return n == name })
	if _, _, err := keep(s); err == nil || !strings.Contains(err.Error(), "older: ") {
		t.Errorf("got %v", err)
	}
}

// An intermediate authority may sign; its certificate lies in the same file and goes along.
func TestIntermediateAuthorityElsewhere(t *testing.T) {
	inv, root := withElsewhere(t)
	cert, key := testAuthority(t, "issuing", later, root.cert, root.key, true)
	e := &elsewhere{cert: cert, key: key, then: []*x509.Certificate{cert}}
	s := open(t, inv)
	s.SignedIn(e.signAll(t, requestsOf(t, inv, s)))
	m, _ := kept(t, s)
	client, err := m.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	client.ServerName = "m1"
	p, err := m.EtcdServer("m2")
	if between := m.Intermediates(); len(between) != 1 || !between[0].Equal(cert) {
		t.Errorf("%d intermediate authorities", len(between))
	}
	if n, _ := ParseCertificates(p.CertPEM); err != nil || len(n) != 2 {
		t.Errorf("%d certificates in the pair: %v", len(n), err)
	}
	server := etcdLike(t, m)
	if s, c := handshake(t, server, client); s != nil || c != nil {
		t.Errorf("server %v, client %v", s, c)
	}
	if m, created := kept(t, open(t, inv)); len(created) != 0 || len(m.Waiting) != 0 {
		t.Errorf("the second run made %v", created)
	}
	// Without the certificate between, no chain leads to the root.
	e.then = nil
	s = open(t, inv)
	s.RenewAlso(func(n string) bool { return n == "etcd-peer-m1" })
	s.SignedIn(e.signAll(t, requestsOf(t, inv, s)))
	if _, _, err := keep(s); err == nil || !strings.Contains(err.Error(), "wrong-issuer: ") || remote.HintOf(err) != "" {
		t.Errorf("got %v", err)
	}
}
