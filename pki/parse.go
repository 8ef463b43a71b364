package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cloudflare/cfssl/helpers"
)

// Bounds on what is parsed: certificates also come from hosts, which are not
// trusted to send something reasonable.
const (
	maxPEM   = 1 << 20 // bytes
	maxCerts = 32
)

// ParseCertificates parses every CERTIFICATE block of a PEM text, ignoring
// other blocks and text between them. It is an error when there is none, when
// one does not parse, or when the text is larger than 1 MiB or holds more than
// 32 certificates.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("certificate file has %d bytes, more than %d", len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(certs) == maxCerts {
			return nil, fmt.Errorf("more than %d certificates in one file", maxCerts)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return certs, nil
}

// parseKey parses a private key: PKCS#1, SEC 1 or PKCS#8. Its errors never
// quote the text.
func parseKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("key file has %d bytes, more than %d", len(text), maxPEM)
	}
	if bytes.Contains(text, []byte("ENCRYPTED")) {
		return nil, errors.New("private key is encrypted; hactl needs it without a passphrase")
	}
	key, err := helpers.ParsePrivateKeyPEM(text)
	if err != nil || key == nil {
		return nil, errors.New("no PEM private key in it")
	}
	return key, nil
}

func encodeCertificates(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func encodePublicKey(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// sameKey reports whether pub belongs to key.
func sameKey(key crypto.Signer, pub crypto.PublicKey) bool {
	own, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(pub)
}
