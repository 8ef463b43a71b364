// Package pki makes and keeps the keys and certificates of a cluster: three
// certificate authorities (etcd, Kubernetes, front proxy), the service-account
// key pair, and what the etcd CA issues. Everything lives in one folder of the
// operator's machine, the [Store]; the etcd CA's key never leaves it.
//
// Signing is done by cfssl with the profiles server, client and peer.
package pki

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cloudflare/cfssl/log"
)

// cfssl logs each key and request it makes to stderr, through a package
// global; what matters comes back to us as an error.
func init() { log.Level = log.LevelFatal }

// Secret is the PEM text of a private key. It prints as [secret] with every
// format verb and encoder, so that a stray %v cannot leak it; use it as the
// []byte that it is.
type Secret []byte

// Format prints a placeholder whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// MarshalText encodes a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Pair is a certificate with its private key.
type Pair struct {
	Name string // of the pair in the store: "etcd-server-master-1"
	// CertPEM is the certificate, followed by the intermediate certificates up
	// to, but without, the root when an intermediate CA issued it.
	CertPEM []byte
	KeyPEM  Secret
}

// Key is the service-account key pair: the private key signs tokens, the
// public key checks them.
type Key struct {
	KeyPEM Secret
	PubPEM []byte
	// New says that this very call made the key; no host can know it yet.
	New bool
}

// CA is a certificate authority with its key.
type CA struct {
	Name     string // of the authority: "etcd-ca"
	CertPEM  []byte // the issuing certificate, then its chain if it has one
	KeyPEM   Secret
	External bool // named by the inventory's pki.externalCA
	New      bool // made by this very call; no host can know it yet

	certs     []*x509.Certificate
	key       crypto.Signer
	algorithm string
	now       func() time.Time
}

// Fingerprint is the SHA-256 of the CA's certificate, see [Fingerprint].
func (ca *CA) Fingerprint() string { return fingerprint(ca.certs[0]) }

// IssuerPEM is the issuing certificate alone, without its chain.
func (ca *CA) IssuerPEM() []byte { return encodeCertificates(ca.certs[:1]) }

// Hash is the CA's kubeadm discovery hash, see caHash.
func (ca *CA) Hash() string { return caHash(ca.certs[0]) }

// NotAfter is when the CA expires.
func (ca *CA) NotAfter() time.Time { return ca.certs[0].NotAfter }

// Fingerprint returns the SHA-256 of the first certificate in certPEM as
// openssl prints it: upper-case hex pairs joined by colons. It returns "" when
// there is no certificate.
func Fingerprint(certPEM []byte) string {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return ""
	}
	return fingerprint(certs[0])
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

// caHash returns what kubeadm join takes as --discovery-token-ca-cert-hash:
// "sha256:" and the lower-case hex SHA-256 of the certificate's public key (its
// SubjectPublicKeyInfo).
func caHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Expiry returns when the first certificate in certPEM expires.
func Expiry(certPEM []byte) (time.Time, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return time.Time{}, err
	}
	return certs[0].NotAfter, nil
}

// traces returns every form in which a key can turn up in a text: the PEM, its
// base64 (as in a kubeconfig), and each line of its body.
func (s Secret) traces() [][]byte {
	out := [][]byte{[]byte(strings.TrimSpace(string(s))), []byte(base64.StdEncoding.EncodeToString(s))}
	for line := range strings.Lines(string(s)) {
		line = strings.TrimSpace(line)
		// Shorter lines are the tail of a body and could match by chance.
		if len(line) >= 16 && !strings.HasPrefix(line, "-----") {
			out = append(out, []byte(line))
		}
	}
	return out
}
