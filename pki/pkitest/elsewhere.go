package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Elsewhere is an authority whose key hactl does not have.
type Elsewhere struct {
	File string // its certificate, PEM
	cert *x509.Certificate
	key  crypto.Signer
}

// NewElsewhere makes an authority, and writes its certificate, but not its key, into a folder.
func NewElsewhere(t testing.TB, folder string) *Elsewhere {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "company"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20000 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	e := &Elsewhere{File: filepath.Join(folder, "company.crt"), key: key}
	e.cert, err = x509.ParseCertificate(der)
	check(t, err)
	check(t, os.WriteFile(e.File, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return e
}

// Sign signs every request of a folder for a year, as it is, into another folder, and says how
// many there were.
func (e *Elsewhere) Sign(t testing.TB, from, to string) int {
	t.Helper()
	requests, err := filepath.Glob(filepath.Join(from, "*.csr"))
	check(t, err)
	check(t, os.MkdirAll(to, 0o755))
	for i, file := range requests {
		text, err := os.ReadFile(file)
		check(t, err)
		block, _ := pem.Decode(text)
		r, err := x509.ParseCertificateRequest(block.Bytes)
		check(t, err)
		check(t, r.CheckSignature())
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano() + int64(i)), Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		}
		for _, x := range r.Extensions {
			if s := x.Id.String(); s == "2.5.29.15" || s == "2.5.29.37" { // the usages
				c.ExtraExtensions = append(c.ExtraExtensions, x)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, e.cert, r.PublicKey, e.key)
		check(t, err)
		name := strings.TrimSuffix(filepath.Base(file), ".csr") + ".crt"
		check(t, os.WriteFile(filepath.Join(to, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	}
	return len(requests)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
