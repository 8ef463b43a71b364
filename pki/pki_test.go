package pki

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hactl/inventory"
)

// testInventory is a cluster of three masters with its store in a fresh folder.
func testInventory(t *testing.T) *inventory.Inventory {
	t.Helper()
	inv := &inventory.Inventory{
		Cluster: "blue",
		PKI:     inventory.PKI{Algorithm: "ecdsa-p256", CAExpiry: 87600 * time.Hour, Expiry: 43800 * time.Hour},
		Path:    filepath.Join(t.TempDir(), "inventory.yaml"),
	}
	for i := 1; i <= 3; i++ {
		inv.Hosts = append(inv.Hosts, inventory.Host{
			Name: fmt.Sprintf("m%d", i), Role: inventory.ControlPlane,
			Address: "ignored.example", PrivateAddress: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)),
		})
	}
	return inv
}

func open(t *testing.T, inv *inventory.Inventory) *Store {
	t.Helper()
	s, err := Open(inv)
	if err != nil {
		t.Fatal(err)
	}
	s.fsync = func(*os.File) error { return nil }
	return s
}

// keep does what up does with a store.
func keep(s *Store) (*Material, []string, error) {
	m, created, err := s.Preview(context.Background())
	if err == nil && len(created) > 0 {
		err = s.Keep(context.Background(), m)
	}
	return m, created, err
}

func kept(t *testing.T, s *Store) (*Material, []string) {
	t.Helper()
	m, created, err := keep(s)
	if err != nil {
		t.Fatal(err)
	}
	return m, created
}

// fingerprints identify everything that must never change once published.
func fingerprints(m *Material) [4]string {
	return [4]string{m.EtcdCA.Fingerprint(), m.KubernetesCA.Fingerprint(), m.FrontProxyCA.Fingerprint(), keyFingerprint(m.ServiceAccount.PubPEM)}
}

func leaf(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	certs, err := ParseCertificates(p.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM); err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	return certs[0]
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// keyFingerprint tells public keys apart.
func keyFingerprint(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// What a loaded inventory names is relative to its file already.
func TestStoreOfAnInventoryInAnotherFolderIsBesideIt(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	text := "cluster: demo\nvip: {address: 192.0.2.10}\nhosts:\n  - {name: m1, address: 192.0.2.11, role: control-plane}\n"
	inv, err := inventory.Parse("sub/p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(inv)
	if err != nil || s.Dir() != "sub/pki-demo" {
		t.Errorf("%v, %v", s.Dir(), err)
	}
}
