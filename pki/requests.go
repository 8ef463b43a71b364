package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/inventory"
)

// requestPrefix begins the name of a folder of the store that holds the key of a pair
// whose first certificate waits for a signature.
const requestPrefix = "request-"

// Request asks for a certificate of an authority whose key is not here.
type Request struct {
	Name   string // of the pair, and of the files: NAME.csr, NAME.crt
	CA     string // "etcd-ca"
	Reason string // "new", "expires in 12 days"
	// Needed says that there is no pair that serves until the certificate is signed.
	Needed bool
	CSRPEM []byte

	keyPEM Secret // of a pair that has none yet
}

// SignedIn names the folder of certificates that were signed elsewhere: the next Preview
// takes NAME.crt or NAME.pem from it for each request that waits.
func (s *Store) SignedIn(folder string) { s.signed = folder }

// elsewhere gives the pair that was signed elsewhere. As long as there is none, the request
// waits, and the pair that is there stays.
func (w *work) elsewhere(ca *CA, r request, have Pair, reason string) (Pair, error) {
	key, isNew, err := w.keyFor(ca, r, have)
	if err != nil {
		return Pair{}, err
	}
	certPEM, file, err := w.signedFile(r.name)
	if err != nil {
		return Pair{}, err
	}
	taken := certPEM != nil && have.CertPEM != nil && Fingerprint(certPEM) == Fingerprint(have.CertPEM)
	if taken && reason == toBeRenewed {
		return have, nil // by an earlier run of the same command
	}
	if certPEM != nil && !taken {
		pair, err := ca.accept(r, key, certPEM, have)
		if err != nil {
			w.refused = append(w.refused, fmt.Errorf("%s: %w", file, err))
			return have, nil
		}
		if err := w.publish(r.name, map[string][]byte{certFile: pair.CertPEM, keyFile: pair.KeyPEM}); err != nil {
			return Pair{}, fmt.Errorf("publish %s in PKI store: %w", r.name, err)
		}
		w.created = append(w.created, r.name+": "+reason+", signed elsewhere")
		return pair, nil
	}
	q, err := newRequest(ca, r, key)
	if err != nil {
		return Pair{}, err
	}
	q.Reason, q.Needed = reason, reason != toBeRenewed && !strings.HasPrefix(reason, expiresIn)
	if isNew {
		q.keyPEM = key
	}
	w.waiting = append(w.waiting, q)
	return have, nil
}

// keyFor is the key of a pair: the one that it has, if that is in order, the one of a
// request that waits, or a new one.
func (w *work) keyFor(ca *CA, r request, have Pair) (key Secret, isNew bool, err error) {
	if k, err := parseKey(have.KeyPEM); err == nil && k != nil {
		return have.KeyPEM, false, nil
	}
	stored, err := w.read(requestPrefix+r.name, keyFile)
	if err == nil {
		if _, err := parseKey(stored); err == nil {
			return stored, false, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	key, err = newKey(ca.algorithm)
	return key, true, err
}

// signedFile reads what was signed for a pair; nil when there is nothing.
func (w *work) signedFile(name string) (certPEM []byte, file string, err error) {
	if w.store.signed == "" {
		return nil, "", nil
	}
	for _, end := range []string{".crt", ".pem"} {
		file = filepath.Join(w.store.signed, name+end)
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPEM) {
			err = errors.New("it is no PEM file")
		}
		if err == nil {
			certPEM, err = os.ReadFile(file) //nolint:gosec // the operator names this folder
		}
		if err != nil {
			return nil, "", remote.Hint(fmt.Errorf("read signed certificate %s: %w", file, err), "--certs names a folder with NAME.crt for each request")
		}
		return certPEM, file, nil
	}
	return nil, "", nil
}

var (
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServerAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// extUsages are the extended usages that a profile asks for.
func (r request) extUsages() (out []x509.ExtKeyUsage, ids []asn1.ObjectIdentifier) {
	for _, u := range usages[r.profile] {
		switch u {
		case "server auth":
			out, ids = append(out, x509.ExtKeyUsageServerAuth), append(ids, oidServerAuth)
		case "client auth":
			out, ids = append(out, x509.ExtKeyUsageClientAuth), append(ids, oidClientAuth)
		}
	}
	return out, ids
}

// newRequest makes the signing request. It names the usages, too: an authority may copy
// them.
func newRequest(ca *CA, r request, keyPEM Secret) (Request, error) {
	fail := func(err error) (Request, error) {
		return Request{}, fmt.Errorf("request a certificate for %s: %w", r.name, err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return fail(err)
	}
	_, ids := r.extUsages()
	extended, err := asn1.Marshal(ids)
	if err != nil {
		return fail(err)
	}
	// Digital signature and key encipherment: the first and the third bit.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0xa0}, BitLength: 3})
	if err != nil {
		return fail(err)
	}
	tmpl := &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: r.cn, Organization: r.orgs},
		ExtraExtensions: []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: usage}, {Id: oidExtKeyUsage, Value: extended}},
	}
	for _, s := range r.sans {
		if ip := net.ParseIP(s); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, s)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		return fail(err)
	}
	return Request{Name: r.name, CA: ca.Name, CSRPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}, nil
}

// accept checks everything about a certificate that would otherwise come out on a host.
func (ca *CA) accept(r request, keyPEM Secret, certPEM []byte, have Pair) (Pair, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return Pair{}, fmt.Errorf("unreadable: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return Pair{}, err
	}
	if err := ca.suits(r, key, certs); err != nil {
		return Pair{}, err
	}
	if end, err := Expiry(have.CertPEM); err == nil && certs[0].NotAfter.Before(end) && end.After(ca.now()) {
		return Pair{}, fmt.Errorf("older: it ends on %s, and the one in the store on %s", certs[0].NotAfter.Format(time.DateOnly), end.Format(time.DateOnly))
	}
	chain := certs[:1:1]
	for _, c := range slices.Concat(certs[1:], ca.certs) {
		if c.CheckSignatureFrom(c) != nil && !slices.ContainsFunc(chain, c.Equal) { // not self-signed
			chain = append(chain, c)
		}
	}
	return Pair{Name: r.name, CertPEM: encodeCertificates(chain), KeyPEM: keyPEM}, nil
}

// suits is the first thing that is wrong with a certificate, by name.
func (ca *CA) suits(r request, key crypto.Signer, certs []*x509.Certificate) error {
	cert := certs[0]
	wants, _ := r.extUsages()
	now := ca.now()
	switch {
	case !sameKey(key, cert.PublicKey):
		return errors.New("wrong-key: it is for another key than the request")
	case cert.IsCA:
		return errors.New("wrong-usage: it is a CA's")
	case cert.Subject.CommonName != r.cn || !sameSet(cert.Subject.Organization, r.orgs):
		return fmt.Errorf("wrong-subject: it is for %s, and has to be for %s", remote.Clean(cert.Subject.String()), pkix.Name{CommonName: r.cn, Organization: r.orgs})
	case !sameSet(sans(cert), r.sans):
		return fmt.Errorf("wrong-names: it is for %s, and has to be for %s", remote.Clean(strings.Join(sans(cert), " ")), strings.Join(r.sans, " "))
	case now.After(cert.NotAfter):
		return fmt.Errorf("expired: it ended on %s", cert.NotAfter.Format(time.DateOnly))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("not-yet-valid: it begins at %s; it is %s here", cert.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !ca.signs(certs):
		return fmt.Errorf("wrong-issuer: it is of %s, and no chain leads to %s (%s)", remote.Clean(cert.Issuer.String()), ca.Name, ca.certs[0].Subject)
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("wrong-usage: it may not sign, which TLS needs")
	}
	for _, u := range wants {
		if !slices.Contains(cert.ExtKeyUsage, u) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return fmt.Errorf("wrong-usage: it has to be good for %s", strings.Join(authOf(wants), " and "))
		}
	}
	if r.profile == profileClient && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return errors.New("wrong-usage: it is good for a server, and has to be a client's alone")
	}
	if soon := ca.ending(cert, r.lifetime); soon != "" {
		return fmt.Errorf("ends-too-soon: it %s, so that it would be due again at once", soon)
	}
	return nil
}

func authOf(usage []x509.ExtKeyUsage) (out []string) {
	for _, u := range usage {
		out = append(out, map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "server authentication", x509.ExtKeyUsageClientAuth: "client authentication"}[u])
	}
	return out
}

// signs reports whether a chain leads from a certificate, through those that come with it, to
// the authority.
func (ca *CA) signs(certs []*x509.Certificate) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range ca.certs {
		roots.AddCert(c)
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	// Its time is judged by itself.
	at := certs[0].NotBefore.Add(time.Second)
	if now := ca.now(); now.After(certs[0].NotBefore) && now.Before(certs[0].NotAfter) {
		at = now
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err == nil
}

// signedBy reports whether the authority issued the certificate. One whose key is elsewhere may
// have done so through an intermediate authority.
func (ca *CA) signedBy(certs []*x509.Certificate) bool {
	if ca.key == nil {
		return ca.signs(certs)
	}
	return certs[0].CheckSignatureFrom(ca.certs[0]) == nil
}

// WriteRequests writes the requests of a Preview that wait into a folder, as NAME.csr, and keeps
// the new keys behind them in the store. A key never leaves the store.
func (s *Store) WriteRequests(ctx context.Context, m *Material, folder string) error {
	err := s.locked(ctx, true, func(d *disk) error {
		for _, q := range m.Waiting {
			if q.keyPEM == nil {
				continue
			}
			if err := d.publish(requestPrefix+q.Name, map[string][]byte{keyFile: q.keyPEM}); err != nil {
				return fmt.Errorf("keep the key of %s in PKI store: %w", q.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // requests are not secret
		return fmt.Errorf("make folder of requests: %w", err)
	}
	for _, q := range m.Waiting {
		if err := os.WriteFile(filepath.Join(folder, q.Name+".csr"), q.CSRPEM, 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("write request: %w", err)
		}
	}
	return nil
}

// forgetRequests removes the keys of requests that have become pairs.
func (d *disk) forgetRequests(published []folder) error {
	for _, f := range published {
		if _, err := d.root.Lstat(requestPrefix + f.name); err == nil {
			if err := d.remove(requestPrefix + f.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyless reports whether files name an authority that signs elsewhere.
func keyless(files *inventory.CAFiles) bool { return files != nil && files.Key == "" }
