// Package kubeapitest plays an apiserver with nodes for tests.
package kubeapitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"sync"
	"testing"
	"time"
)

// Serve starts an apiserver with a certificate for that address, signed by the
// CA. It wants client certificates of the same CA; without one it tells its health only.
func Serve(t testing.TB, caCert, caKey []byte, ip net.IP, handler http.Handler) *httptest.Server {
	t.Helper()
	return ServeFor(t, caCert, caKey, []net.IP{ip}, handler)
}

// ServeFor is Serve with a certificate for several addresses.
func ServeFor(t testing.TB, caCert, caKey []byte, ips []net.IP, handler http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 && !slices.Contains([]string{"/readyz", "/livez", "/healthz"}, r.URL.Path) {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caCert)
	srv.TLS = Fast(&tls.Config{
		Certificates: []tls.Certificate{Certificate(t, caCert, caKey, ips...)},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	})
	srv.StartTLS()
	return srv
}

// Fast makes a server's handshakes take less of the processor, most of all with the race
// detector: of the curves only P-256 is made of machine code. Tests make thousands of
// connections.
func Fast(c *tls.Config) *tls.Config {
	c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, []tls.CurveID{tls.CurveP256}
	return c
}

// Certificate makes a server certificate for these addresses.
func Certificate(t testing.TB, caCert, caKey []byte, ips ...net.IP) tls.Certificate {
	t.Helper()
	cert, err := certificate(caCert, caKey, ips)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func certificate(caCert, caKey []byte, ips []net.IP) (tls.Certificate, error) {
	ca, err := tls.X509KeyPair(caCert, caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	parent, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: ips, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, ca.PrivateKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Store keeps nodes as JSON texts by name. Load gives nil for a node that is
// not there. Nodes makes one call of it at a time.
type Store interface {
	Names() []string
	Load(name string) []byte
	Save(name string, node []byte)
}

// Map is a Store of its own.
type Map map[string][]byte

// Names implements Store.
func (m Map) Names() []string { return slices.Sorted(maps.Keys(m)) }

// Load implements Store.
func (m Map) Load(name string) []byte { return m[name] }

// Save implements Store.
func (m Map) Save(name string, node []byte) { m[name] = node }

// Nodes are the nodes of a cluster. It answers a GET of all of them, a merge
// PATCH of one, and that it is ready.
type Nodes struct {
	Store Store

	mu       sync.Mutex
	requests []string
}

// Requests are the methods and paths asked for so far.
func (n *Nodes) Requests() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requests)
}

// Register adds a node, unless there is one of that name.
func (n *Nodes) Register(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.Store.Load(name) != nil {
		return nil
	}
	return n.write(name, map[string]any{"metadata": map[string]any{"name": name}})
}

// Merge changes a node as kubectl would; patch is JSON.
func (n *Nodes) Merge(name, patch string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.merge(name, []byte(patch))
	return err
}

// Node is a node as it is now.
func (n *Nodes) Node(name string) (map[string]any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.read(name)
}

func (n *Nodes) write(name string, node map[string]any) error {
	b, err := json.MarshalIndent(node, "", " ")
	if err == nil {
		n.Store.Save(name, b)
	}
	return err
}

// read gives a node with a resource version that is as good as a counter here:
// it changes with the content.
func (n *Nodes) read(name string) (map[string]any, error) {
	b := n.Store.Load(name)
	if b == nil {
		return nil, fmt.Errorf("there is no node %s", name)
	}
	var node map[string]any
	if err := json.Unmarshal(b, &node); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	node["metadata"].(map[string]any)["resourceVersion"] = hex.EncodeToString(sum[:8])
	return node, nil
}

func (n *Nodes) merge(name string, patch []byte) (int, error) {
	node, err := n.read(name)
	if err != nil {
		return http.StatusNotFound, err
	}
	var p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		return http.StatusBadRequest, err
	}
	meta := node["metadata"].(map[string]any)
	if m, _ := p["metadata"].(map[string]any); m["resourceVersion"] != nil && m["resourceVersion"] != meta["resourceVersion"] {
		return http.StatusConflict, fmt.Errorf("the object has been modified")
	}
	node = merge(node, p)
	delete(node["metadata"].(map[string]any), "resourceVersion")
	return http.StatusOK, n.write(name, node)
}

func merge(into, patch map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(into, k)
		case map[string]any:
			below, _ := into[k].(map[string]any)
			into[k] = merge(below, v)
		default:
			into[k] = v
		}
	}
	return into
}

// ServeHTTP implements http.Handler.
func (n *Nodes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests = append(n.requests, r.Method+" "+r.URL.Path)
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/readyz":
		_, _ = io.WriteString(w, "ok")
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes":
		items := []any{}
		for _, name := range n.Store.Names() {
			if node, err := n.read(name); err == nil {
				items = append(items, node)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
	case r.Method == http.MethodGet && path.Dir(r.URL.Path) == "/api/v1/nodes":
		node, err := n.read(path.Base(r.URL.Path))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(node)
	case r.Method == http.MethodPatch && path.Dir(r.URL.Path) == "/api/v1/nodes" && r.Header.Get("Content-Type") == "application/merge-patch+json":
		body, _ := io.ReadAll(r.Body)
		if code, err := n.merge(path.Base(r.URL.Path), body); err != nil {
			http.Error(w, err.Error(), code)
		}
	default:
		http.Error(w, "not played here", http.StatusNotFound)
	}
}
