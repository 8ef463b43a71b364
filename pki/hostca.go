package pki

import (
	"bytes"
	"fmt"

	"hactl/internal/remote"
)

// ForeignCAError says that a host holds a CA, or a service-account key, which
// the store does not know. Going on would cut the host's cluster off.
type ForeignCAError struct {
	Host, Path string
	Found      string // fingerprint of what the host has
	Known      string // fingerprint of the store's own, or "none" when there is none yet
}

// Error names both fingerprints.
func (e *ForeignCAError) Error() string {
	return fmt.Sprintf("%s: %s is of a CA that the PKI store does not know: found %s, store has %s", e.Host, e.Path, e.Found, e.Known)
}

// CheckHostCA decides about a CA certificate that lies on a host: nil when
// there is none (found is blank) or when it is the store's, a hinted
// [*ForeignCAError] when it is another one. found comes from the host and is not
// trusted.
func CheckHostCA(host, path string, found []byte, known *CA) error {
	if len(bytes.TrimSpace(found)) == 0 {
		return nil
	}
	certs, err := ParseCertificates(found)
	if err != nil {
		return remote.Hint(fmt.Errorf("%s: %s is no CA certificate: %w", host, path, err),
			"look at the file; remove it only if no cluster runs on this host")
	}
	foreign := &ForeignCAError{Host: host, Path: path, Found: fingerprint(certs[0]), Known: "none"}
	if !known.New {
		foreign.Known = known.Fingerprint()
		if foreign.Known == foreign.Found {
			return nil
		}
	}
	return remote.Hint(foreign, "restore the PKI store that made this cluster from its backup (pki.store in the inventory), "+
		"or name the CA's certificate and key under pki.externalCA in the inventory")
}

// CheckHostServiceAccount decides in the same way about the service-account
// public key (sa.pub) on a host: with another key every token in the cluster
// would become invalid.
func CheckHostServiceAccount(host, path string, found []byte, known Key) error {
	found = bytes.TrimSpace(found)
	if len(found) == 0 || (!known.New && bytes.Equal(found, bytes.TrimSpace(known.PubPEM))) {
		return nil
	}
	e := &ForeignCAError{Host: host, Path: path, Found: keyFingerprint(found), Known: "none"}
	if !known.New {
		e.Known = keyFingerprint(known.PubPEM)
	}
	return remote.Hint(e, "restore the PKI store that made this cluster from its backup (pki.store in the inventory), "+
		"or copy the host's sa.key and sa.pub over %s/key.pem and pub.pem in %s of the store", nameServiceAccount, authorities)
}
