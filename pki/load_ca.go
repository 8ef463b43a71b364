package pki

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"hactl/internal/remote"
	"hactl/inventory"
)

// loadCA builds a CA from its two files and checks everything that would
// otherwise come out on a host: that it is a CA, that the key is its key, that
// the chain holds together and that it is valid now.
func loadCA(name string, certPEM []byte, keyPEM Secret, now time.Time) (*CA, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	var key crypto.Signer
	if keyPEM != nil { // else it signs elsewhere
		if key, err = parseKey(keyPEM); err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		if !sameKey(key, certs[0].PublicKey) {
			return nil, errors.New("the private key does not belong to the certificate")
		}
	}
	for i, c := range certs {
		if err := checkCA(c, now); err != nil {
			return nil, fmt.Errorf("certificate %d (%s): %w", i+1, c.Subject.CommonName, err)
		}
		if i+1 < len(certs) {
			if err := c.CheckSignatureFrom(certs[i+1]); err != nil {
				return nil, fmt.Errorf("certificate %d (%s) is not signed by the next one: %w", i+1, c.Subject.CommonName, err)
			}
		}
	}
	return &CA{Name: name, CertPEM: encodeCertificates(certs), KeyPEM: keyPEM, certs: certs, key: key}, nil
}

func checkCA(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("is not a CA certificate")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not sign certificates")
	case now.After(c.NotAfter):
		return fmt.Errorf("expired on %s", c.NotAfter.Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Errorf("is valid only from %s", c.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// loadExternal reads a CA that the inventory names. The files stay where they
// are.
func loadExternal(name, field string, files *inventory.CAFiles, now time.Time) (*CA, error) {
	read := func(path string, secret bool) ([]byte, error) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if secret && info.Mode().Perm()&0o077 != 0 {
			return nil, tooOpen(path, info.Mode(), 0o600)
		}
		if info.Size() > maxPEM || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no PEM file", path)
		}
		return os.ReadFile(path) //nolint:gosec // the operator names this file in the inventory
	}
	hint := fmt.Sprintf("pki.externalCA.%s in the inventory must name a valid CA certificate and its unencrypted private key, both PEM; without a key, certificates are signed elsewhere", field)
	certPEM, err := read(files.Cert, false)
	if err != nil {
		return nil, hinted(fmt.Errorf("read external %s: %w", name, err), hint)
	}
	var keyPEM Secret
	if !keyless(files) {
		if keyPEM, err = read(files.Key, true); err != nil {
			return nil, hinted(fmt.Errorf("read key of external %s: %w", name, err), hint)
		}
	}
	ca, err := loadCA(name, certPEM, keyPEM, now)
	if err != nil {
		return nil, hinted(fmt.Errorf("external %s (%s): %w", name, files.Cert, err), hint)
	}
	ca.External = true
	return ca, nil
}

// hinted adds a hint unless err brings a better one of its own.
func hinted(err error, hint string) error {
	if remote.HintOf(err) != "" {
		return err
	}
	return remote.Hint(err, "%s", hint)
}
