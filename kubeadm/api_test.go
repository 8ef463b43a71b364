package kubeadm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// apiserver serves handler at the first master's address with a certificate of
// the cluster's CA, to clients with one.
func apiserver(t *testing.T, handler http.HandlerFunc) *API {
	t.Helper()
	c := clusterOf(t, inventorytest.One(t), true)
	h := c.Inv.Masters()[0]
	srv := kubeapitest.Serve(t, c.PKI.KubernetesCA.CertPEM, c.PKI.KubernetesCA.KeyPEM, h.PrivateAddress.AsSlice(), handler)
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
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{kubeapitest.Certificate(t, other.PKI.KubernetesCA.CertPEM, other.PKI.KubernetesCA.KeyPEM, h.PrivateAddress.AsSlice())}, MinVersion: tls.VersionTLS12}
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
		"a": {Name: "a", Ready: true, Version: "v1.36.3", PodCIDR: "10.244.0.0/24", Address: "192.0.2.11", Pressure: "MemoryPressure"},
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
