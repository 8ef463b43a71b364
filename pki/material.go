package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"hactl/internal/remote"
)

// Material is everything the store holds, in memory.
type Material struct {
	EtcdCA, KubernetesCA, FrontProxyCA *CA
	ServiceAccount                     Key

	Identity Identity

	// Waiting are the certificates that an authority has to sign whose key is elsewhere; of
	// a Preview.
	Waiting []Request

	pairs           map[string]Pair
	unsaved         []folder // of a preview
	unsavedIdentity bool     // of a preview
	now             func() time.Time
}

// Load reads the store and makes nothing. It is an error, with a hint, when
// the store or something in it is missing; certificates may be expired, see
// [Material.Report].
func (s *Store) Load(ctx context.Context) (*Material, error) {
	var m *Material
	err := s.locked(ctx, false, func(d *disk) (err error) {
		w := &work{store: s, disk: d}
		m, err = w.loadAll()
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && m == nil {
		err = hinted(err, "run hactl up, which makes the store, or set pki.store in the inventory")
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (w *work) loadAll() (*Material, error) {
	external, err := w.external()
	if err != nil {
		return nil, err
	}
	m, err := w.load(external, func(name ...string) ([]byte, error) {
		return w.read(append([]string{authorities}, name...)...)
	}, false)
	if err != nil {
		return nil, err
	}
	if m.Identity, _, err = w.identity(false, m.EtcdCA); err != nil {
		return nil, err
	}
	reqs, err := requests(w.store.inv)
	if err != nil {
		return nil, err
	}
	for _, r := range reqs {
		cert, certErr := w.read(r.name, certFile)
		key, keyErr := w.read(r.name, keyFile)
		err := errors.Join(certErr, keyErr)
		if r.profile == profileServing && errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
			continue // a store from before there were any; only hosts need it
		}
		if err != nil {
			return nil, remote.Hint(fmt.Errorf("read %s from PKI store: %w", r.name, err), "run hactl up, which issues what is missing")
		}
		m.pairs[r.name] = Pair{Name: r.name, CertPEM: cert, KeyPEM: key}
	}
	return m, nil
}

// EtcdServer is the pair of the host's etcd for its client port.
func (m *Material) EtcdServer(host string) (Pair, error) { return m.pair(nameEtcdServer + host) }

// EtcdPeer is the pair of the host's etcd for its peer port.
func (m *Material) EtcdPeer(host string) (Pair, error) { return m.pair(nameEtcdPeer + host) }

// NodeServer is the pair, of the Kubernetes CA, with which the host's kubelet and,
// on a master, its controller manager and scheduler serve. It is no client's.
func (m *Material) NodeServer(host string) (Pair, error) { return m.pair(nameNodeServer + host) }

func (m *Material) pair(name string) (Pair, error) {
	p, ok := m.pairs[name]
	if !ok {
		return Pair{}, fmt.Errorf("no certificate %s: the inventory has no such host in that role", name)
	}
	return p, nil
}

// FrontProxyClient is the pair with which apiservers talk to extension apiservers. It is
// in the store only where the key of the front-proxy CA is elsewhere; else kubeadm makes one
// on each master.
func (m *Material) FrontProxyClient() (p Pair, inStore bool) {
	p, inStore = m.pairs[nameFrontProxy]
	return p, inStore
}

// EtcdClient is the pair with which the apiservers talk to etcd.
func (m *Material) EtcdClient() Pair { return m.pairs[nameEtcdClient] }

// Operator is the pair with which hactl itself talks to etcd.
func (m *Material) Operator() Pair { return m.pairs[nameOperator] }

// Admin is the operator's Kubernetes client pair: user hactl-admin in group
// kubeadm:cluster-admins, which kubeadm init binds to cluster-admin. It lives
// a year at most.
func (m *Material) Admin() Pair { return m.pairs[nameAdmin] }

// TLSConfig is hactl's own TLS configuration towards etcd: it trusts the etcd
// CA alone and shows the Operator certificate. ServerName is left to the
// dialler.
func (m *Material) TLSConfig() (*tls.Config, error) {
	op := m.Operator()
	cert, err := tls.X509KeyPair(op.CertPEM, op.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", op.Name, err)
	}
	pool := x509.NewCertPool()
	for _, c := range m.EtcdCA.certs {
		pool.AddCert(c)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{cert}}, nil
}

// Secrets returns every secret of the store in every form in which it could
// turn up in a text: the PEM, its base64 and the lines of its body. It is for
// redaction, and for looking whether one leaked.
func (m *Material) Secrets() [][]byte {
	keys := []Secret{m.EtcdCA.KeyPEM, m.KubernetesCA.KeyPEM, m.FrontProxyCA.KeyPEM, m.ServiceAccount.KeyPEM}
	for _, p := range m.pairs {
		keys = append(keys, p.KeyPEM)
	}
	for _, q := range m.Waiting {
		keys = append(keys, q.keyPEM)
	}
	var out [][]byte
	for _, k := range keys {
		if len(k) > 0 { // that of an authority may be elsewhere
			out = append(out, k.traces()...)
		}
	}
	// Public keys share a long prefix with their private keys' RSA headers; a
	// line that any certificate has as well is no secret.
	return withoutPublic(out, m.certificates())
}

func (m *Material) certificates() []byte {
	all := bytes.Join([][]byte{m.EtcdCA.CertPEM, m.KubernetesCA.CertPEM, m.FrontProxyCA.CertPEM, m.ServiceAccount.PubPEM}, nil)
	for _, p := range m.pairs {
		all = append(all, p.CertPEM...)
	}
	return all
}

func withoutPublic(secrets [][]byte, public []byte) [][]byte {
	var out [][]byte
	for _, s := range secrets {
		if !bytes.Contains(public, s) {
			out = append(out, s)
		}
	}
	return out
}
