package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/inventory"
)

// authority makes a CA by the standard library alone, signed by parent or, with
// none, by itself.
func testAuthority(t *testing.T, cn string, end time.Time, parent *x509.Certificate, parentKey crypto.Signer, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end, BasicConstraintsValid: true, IsCA: isCA,
		KeyUsage: x509.KeyUsageCertSign,
	}
	if !isCA {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if parent == nil {
		parent, parentKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// place writes CA files beside the inventory and names them.
func place(t *testing.T, inv *inventory.Inventory, key crypto.Signer, certs ...*x509.Certificate) *inventory.CAFiles {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(inv.Path)
	for name, text := range map[string][]byte{
		"ext.crt": encodeCertificates(certs),
		"ext.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &inventory.CAFiles{Cert: filepath.Join(dir, "ext.crt"), Key: filepath.Join(dir, "ext.key")}
}

var later = time.Now().Add(5000 * time.Hour)

func TestExternalIntermediateCASignsAndItsChainGoesAlong(t *testing.T) {
	inv := testInventory(t)
	root, rootKey := testAuthority(t, "root", later, nil, nil, true)
	inter, interKey := testAuthority(t, "intermediate", later, root, rootKey, true)
	inv.PKI.ExternalCA.Etcd = place(t, inv, interKey, inter, root)
	m, created := kept(t, open(t, inv))
	for _, c := range created {
		if strings.HasPrefix(c, "etcd-ca") {
			t.Errorf("made %q beside the external CA", c)
		}
	}
	if !m.EtcdCA.External || m.EtcdCA.New || m.EtcdCA.Fingerprint() != fingerprint(inter) {
		t.Error("the external CA is not in use")
	}
	if _, err := os.Stat(filepath.Join(open(t, inv).Dir(), authorities, nameEtcdCA)); !os.IsNotExist(err) {
		t.Errorf("the external key was copied: %v", err)
	}
	// A client that trusts the root alone must be able to build the chain.
	client, err := m.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	client.RootCAs, client.ServerName = pool(root), "m1"
	server := etcdLike(t, m)
	server.ClientCAs = pool(root)
	if s, c := handshake(t, server, client); s != nil || c != nil {
		t.Errorf("trusting the root: server %v, client %v", s, c)
	}
	if s, c := handshake(t, etcdLike(t, m), func() *tls.Config { client.RootCAs = pool(inter); return client }()); s != nil || c != nil {
		t.Errorf("trusting the intermediate: server %v, client %v", s, c)
	}
	if _, created := kept(t, open(t, inv)); len(created) != 0 {
		t.Errorf("second run made %q", created)
	}
}

func TestUnusableExternalCAIsRefused(t *testing.T) {
	root, rootKey := testAuthority(t, "root", later, nil, nil, true)
	other, otherKey := testAuthority(t, "other", later, nil, nil, true)
	for name, c := range map[string]struct {
		files func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles
		want  string
	}{
		"no CA": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			cert, key := testAuthority(t, "leaf", later, root, rootKey, false)
			return place(t, inv, key, cert)
		}, "is not a CA certificate"},
		"expired": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			cert, key := testAuthority(t, "old", time.Now().Add(-time.Minute), nil, nil, true)
			return place(t, inv, key, cert)
		}, "expired on"},
		"key of another": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			return place(t, inv, otherKey, root)
		}, "does not belong"},
		"broken chain": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			return place(t, inv, rootKey, root, other)
		}, "not signed by the next one"},
		"readable key": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			f := place(t, inv, rootKey, root)
			chmod(t, f.Key, 0o644)
			return f
		}, "mode 0644, want 0600"},
		"no key in the key file": {func(t *testing.T, inv *inventory.Inventory) *inventory.CAFiles {
			f := place(t, inv, rootKey, root)
			f.Key = f.Cert
			return f
		}, "no PEM private key"},
		"missing": {func(*testing.T, *inventory.Inventory) *inventory.CAFiles {
			return &inventory.CAFiles{Cert: "nowhere.crt", Key: "nowhere.key"}
		}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := testInventory(t)
			inv.PKI.ExternalCA.Kubernetes = c.files(t, inv)
			_, _, err := keep(open(t, inv))
			if err == nil || !strings.Contains(err.Error(), c.want) || remote.HintOf(err) == "" {
				t.Errorf("got %v with hint %q", err, remote.HintOf(err))
			}
		})
	}
}

func TestExternalCADoesNotSilentlyReplaceOurOwn(t *testing.T) {
	inv := testInventory(t)
	kept(t, open(t, inv))
	root, key := testAuthority(t, "root", later, nil, nil, true)
	inv.PKI.ExternalCA.Etcd = place(t, inv, key, root)
	if _, _, err := keep(open(t, inv)); err == nil || !strings.Contains(err.Error(), "already has another etcd-ca") {
		t.Errorf("got %v", err)
	}
}

func TestRemovedExternalCAIsNotReplacedByANewOne(t *testing.T) {
	inv := testInventory(t)
	root, key := testAuthority(t, "root", later, nil, nil, true)
	inv.PKI.ExternalCA.Etcd = place(t, inv, key, root)
	kept(t, open(t, inv))
	inv.PKI.ExternalCA.Etcd = nil
	if _, _, err := keep(open(t, inv)); err == nil || !strings.Contains(remote.HintOf(err), "pki.externalCA") {
		t.Errorf("got %v with hint %q", err, remote.HintOf(err))
	}
}
