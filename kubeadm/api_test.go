package kubeadm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
	"hactl/pki"
)

// apiserver serves handler at the first master's address with a certificate of
// the cluster's CA, to clients with one.
func apiserver(t *testing.T, handler http.HandlerFunc) *API {
	t.Helper()
	c := clusterOf(t, inventorytest.One(t), true)
	h := c.Inv.Masters()[0]
	srv := httptest.NewUnstartedServer(handler)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.PKI.KubernetesCA.CertPEM)
	srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{serving(t, c.PKI, h.PrivateAddress.AsSlice())},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	host := remote.NewFake(h.Name, nil)
	host.DialWith(func(ctx context.Context, _, addr string) (net.Conn, error) {
		if addr != "192.0.2.11:6443" {
			return nil, fmt.Errorf("dialled %s", addr)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	api, err := NewAPI(host, c.Inv, c.PKI, h.PrivateAddress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api
}

func serving(t *testing.T, m *pki.Material, ip net.IP) tls.Certificate {
	t.Helper()
	ca, err := tls.X509KeyPair(m.KubernetesCA.CertPEM, m.KubernetesCA.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{ip}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	parent, err := x509.ParseCertificate(ca.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestReadyAsksWithTheOperatorsCertificate(t *testing.T) {
	api := apiserver(t, func(w http.ResponseWriter, r *http.Request) {
		if who := r.TLS.PeerCertificates[0].Subject.CommonName; r.URL.Path != "/readyz" || who == "" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "ok")
	})
	if err := api.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestServerOfAnotherCAIsNotBelieved(t *testing.T) {
	c, other := clusterOf(t, inventorytest.One(t), true), clusterOf(t, inventorytest.One(t), true)
	h := c.Inv.Masters()[0]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	srv.Config.ErrorLog = nil
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{serving(t, other.PKI, h.PrivateAddress.AsSlice())}, MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	host := remote.NewFake(h.Name, nil)
	host.DialWith(func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	api, err := NewAPI(host, c.Inv, c.PKI, h.PrivateAddress)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	var unknown x509.UnknownAuthorityError
	if err := api.Ready(t.Context()); !errors.As(err, &unknown) {
		t.Fatalf("%v", err)
	}
}

func TestStatusErrorsAreBoundedAndClean(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		want string
	}{
		"a Status object":   {403, `{"kind":"Status","message":"nodes is forbidden"}`, "apiserver answered 403: nodes is forbidden"},
		"plain text":        {500, "[+]ping ok\n[-]etcd failed\n", "apiserver answered 500: [+]ping ok\n[-]etcd failed"},
		"nothing":           {503, "", "apiserver answered 503: "},
		"an endless text":   {500, strings.Repeat("x", 1<<20), "apiserver answered 500: " + strings.Repeat("x", maxMessage)},
		"an endless Status": {500, `{"message":"` + strings.Repeat("y", 1<<20) + `"}`, "apiserver answered 500: " + strings.Repeat("y", maxMessage)},
		"escape sequences":  {500, "\x1b[2Jgone", "apiserver answered 500: gone"},
	} {
		t.Run(name, func(t *testing.T) {
			api := apiserver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body)
			})
			err := api.Ready(t.Context())
			var s *StatusError
			if !errors.As(err, &s) || s.Code != c.code || err.Error() != c.want {
				t.Errorf("%.300v", err)
			}
		})
	}
}

func TestEndlessAnswerIsAnError(t *testing.T) {
	api := apiserver(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range maxBody>>20 + 2 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	var text string
	if err := api.Get(t.Context(), "/x", &text); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestNodesAndWorkloads(t *testing.T) {
	api := apiserver(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, map[string]string{
			"/api/v1/nodes": `{"items":[
{"metadata":{"name":"a"},"spec":{"podCIDR":"10.244.0.0/24"},"status":{"nodeInfo":{"kubeletVersion":"v1.36.3"},
 "conditions":[{"type":"MemoryPressure","status":"True"},{"type":"Ready","status":"True","message":"kubelet is posting ready status"}],
 "addresses":[{"type":"Hostname","address":"a"},{"type":"InternalIP","address":"192.0.2.11"}]}},
{"metadata":{"name":"b"},"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"Kubelet stopped\u001b[2J posting"}]}},
{"metadata":{"name":"c"}}]}`,
			"/apis/apps/v1/namespaces/kube-system/deployments/coredns":   `{"spec":{"replicas":2},"status":{"readyReplicas":1}}`,
			"/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": `{"status":{"desiredNumberScheduled":3,"numberReady":3}}`,
		}[r.URL.Path])
	})
	nodes, err := api.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Node{
		"a": {Name: "a", Ready: true, Version: "v1.36.3", PodCIDR: "10.244.0.0/24", Address: "192.0.2.11"},
		"b": {Name: "b", Reason: "Kubelet stopped posting"},
		"c": {Name: "c", Reason: "no status yet"},
	}
	for name, n := range want {
		if nodes[name] != n {
			t.Errorf("%+v, want %+v", nodes[name], n)
		}
	}
	loads, err := api.SystemWorkloads(t.Context())
	if err != nil || len(loads) != 2 || loads[0] != (Workload{"coredns", 2, 1}) || loads[1] != (Workload{"kube-proxy", 3, 3}) {
		t.Errorf("%+v, %v", loads, err)
	}
}

func TestAnswerThatIsNoJSONIsAnError(t *testing.T) {
	api := apiserver(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	if _, err := api.Nodes(t.Context()); err == nil {
		t.Error("a page passes for a list of nodes")
	}
}
