package pki

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/cloudflare/cfssl/config"
	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/initca"
	"github.com/cloudflare/cfssl/signer"
	"github.com/cloudflare/cfssl/signer/local"
)

// backdate is how far a certificate's start lies in the past: a host whose
// clock is a little behind must accept a certificate made just now.
const backdate = 5 * time.Minute

// The signing profiles, by the names the procedure gives them. etcd's server
// certificate needs client authentication too: etcd's own gateway dials its
// client port with it. What the Kubernetes CA signs for a server must not be good
// for a client as well: its name would be a user's.
const (
	profileServer  = "server"
	profileClient  = "client"
	profilePeer    = "peer"
	profileServing = "serving"
)

var usages = map[string][]string{
	profileServer:  {"digital signature", "key encipherment", "server auth", "client auth"},
	profileClient:  {"digital signature", "key encipherment", "client auth"},
	profilePeer:    {"digital signature", "key encipherment", "server auth", "client auth"},
	profileServing: {"digital signature", "key encipherment", "server auth"},
}

// policy is cfssl's CA configuration with our profiles.
func policy(lifetime time.Duration) *config.Signing {
	signing := &config.Signing{Profiles: map[string]*config.SigningProfile{}}
	for name, usage := range usages {
		signing.Profiles[name] = &config.SigningProfile{
			Usage: usage, Expiry: lifetime, ExpiryString: lifetime.String(), Backdate: backdate,
		}
	}
	signing.Default = signing.Profiles[profileClient]
	return signing
}

// keyRequest translates the inventory's pki.algorithm for cfssl.
func keyRequest(algorithm string) (*csr.KeyRequest, error) {
	switch algorithm {
	case "ecdsa-p256":
		return &csr.KeyRequest{A: "ecdsa", S: 256}, nil
	case "rsa-2048":
		return &csr.KeyRequest{A: "rsa", S: 2048}, nil
	case "rsa-3072":
		return &csr.KeyRequest{A: "rsa", S: 3072}, nil
	case "rsa-4096":
		return &csr.KeyRequest{A: "rsa", S: 4096}, nil
	}
	return nil, fmt.Errorf("unknown key algorithm %q", algorithm)
}

// newCA makes a self-signed CA. The cluster's name in O tells the CAs of two
// clusters apart.
func newCA(name, cn, cluster, algorithm string, lifetime time.Duration) (certPEM []byte, keyPEM Secret, err error) {
	kr, err := keyRequest(algorithm)
	if err != nil {
		return nil, nil, err
	}
	certPEM, _, keyPEM, err = initca.New(&csr.CertificateRequest{
		CN:         cn,
		Names:      []csr.Name{{O: cluster}},
		KeyRequest: kr,
		CA:         &csr.CAConfig{Expiry: lifetime.String(), Backdate: backdate.String()},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make CA %s: %w", name, err)
	}
	return certPEM, keyPEM, nil
}

// newKey makes a bare private key, PEM.
func newKey(algorithm string) (Secret, error) {
	kr, err := keyRequest(algorithm)
	if err != nil {
		return nil, err
	}
	key, err := kr.Generate()
	if err != nil {
		return nil, fmt.Errorf("make %s key: %w", algorithm, err)
	}
	var block *pem.Block
	switch k := key.(type) {
	case *rsa.PrivateKey:
		block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		block = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	default:
		return nil, fmt.Errorf("make %s key: unexpected type %T", algorithm, key)
	}
	return pem.EncodeToMemory(block), nil
}

// request is what a certificate is to say.
type request struct {
	name     string // of the pair in the store
	cn       string
	orgs     []string
	sans     []string // names and addresses
	profile  string
	lifetime time.Duration
}

// issue makes a key and has the CA sign a certificate for it, which never
// outlives the CA.
func (ca *CA) issue(r request) (Pair, error) {
	kr, err := keyRequest(ca.algorithm)
	if err != nil {
		return Pair{}, err
	}
	req := r.forCFSSL()
	req.KeyRequest = kr
	csrPEM, keyPEM, err := csr.ParseRequest(req)
	if err != nil {
		return Pair{}, fmt.Errorf("make key of %s: %w", r.name, err)
	}
	return ca.sign(r, csrPEM, keyPEM)
}

// reissue has the CA sign another certificate for a key that is there. A process that
// reads certificate and key at different moments then never has two that differ.
func (ca *CA) reissue(r request, keyPEM Secret) (Pair, error) {
	key, err := parseKey(keyPEM)
	if err != nil {
		return Pair{}, err
	}
	csrPEM, err := csr.Generate(key, r.forCFSSL())
	if err != nil {
		return Pair{}, fmt.Errorf("request a certificate for %s: %w", r.name, err)
	}
	return ca.sign(r, csrPEM, keyPEM)
}

func (r request) forCFSSL() *csr.CertificateRequest {
	req := &csr.CertificateRequest{CN: r.cn, Hosts: r.sans}
	for _, o := range r.orgs {
		req.Names = append(req.Names, csr.Name{O: o})
	}
	return req
}

func (ca *CA) sign(r request, csrPEM []byte, keyPEM Secret) (Pair, error) {
	s, err := local.NewSigner(ca.key, ca.certs[0], signer.DefaultSigAlgo(ca.key), policy(r.lifetime))
	if err != nil {
		return Pair{}, fmt.Errorf("sign with %s: %w", ca.Name, err)
	}
	certPEM, err := s.Sign(signer.SignRequest{
		Request: string(csrPEM), Profile: r.profile,
		NotBefore: ca.now().Add(-backdate), NotAfter: ca.until(r.lifetime),
	})
	if err != nil {
		return Pair{}, fmt.Errorf("sign %s with %s: %w", r.name, ca.Name, err)
	}
	return Pair{Name: r.name, CertPEM: append(certPEM, ca.intermediates()...), KeyPEM: keyPEM}, nil
}

// Like signs a certificate with a new key that says what an earlier one says: subject,
// names and usage. It is for certificates that hosts have and the store does not. It
// lives for the time given, a year at most, and never longer than the CA.
func (ca *CA) Like(name string, old *x509.Certificate, life time.Duration) (Pair, error) {
	profile := profileClient
	if slices.Contains(old.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		profile = profileServing
	}
	return ca.issue(request{
		name: name, cn: old.Subject.CommonName, orgs: old.Subject.Organization, sans: sans(old),
		profile: profile, lifetime: min(life, adminLifetime),
	})
}

// ForNode signs the client certificate by which a kubelet is the node of that name.
func (ca *CA) ForNode(name string, life time.Duration) (Pair, error) {
	return ca.issue(request{
		name: "kubelet-client-" + name, cn: "system:node:" + name, orgs: []string{"system:nodes"},
		profile: profileClient, lifetime: min(life, adminLifetime),
	})
}

// until is when a certificate issued now with that lifetime ends.
func (ca *CA) until(lifetime time.Duration) time.Time {
	end := ca.now().Add(lifetime).Truncate(time.Second)
	if limit := ca.certs[0].NotAfter; end.After(limit) {
		return limit
	}
	return end
}

// intermediates is what a certificate of this CA carries along, so that a peer
// that trusts only the root can build the chain.
func (ca *CA) intermediates() []byte {
	var chain []*x509.Certificate
	for _, c := range ca.certs {
		if c.CheckSignatureFrom(c) != nil { // not self-signed
			chain = append(chain, c)
		}
	}
	return encodeCertificates(chain)
}
