package kubeadm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
)

// API is a client of one apiserver, dialled from a host, so that only that
// host's ssh port must be reachable. It is safe for use by several goroutines.
type API struct{ kubeapi.Client }

// AdminTLS trusts the Kubernetes CA and shows the operator's certificate.
func AdminTLS(m *pki.Material) (*tls.Config, error) {
	admin := m.Admin()
	cert, err := tls.X509KeyPair(admin.CertPEM, admin.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the operator's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.KubernetesCA.CertPEM)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// NewAPI returns a client of the apiserver at addr as seen from host, with the
// operator's client certificate. It does not connect yet.
func NewAPI(host remote.Host, inv *inventory.Inventory, m *pki.Material, addr netip.Addr) (*API, error) {
	conf, err := AdminTLS(m)
	if err != nil {
		return nil, err
	}
	conf.ServerName = addr.String()
	hostport := net.JoinHostPort(addr.String(), strconv.Itoa(inv.VIP.Port))
	return &API{kubeapi.Client{
		Base: "https://" + hostport,
		HTTP: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return host.Dial(ctx, network, hostport)
			},
			TLSClientConfig:     conf,
			TLSHandshakeTimeout: 10 * time.Second * wait.Most,
			ForceAttemptHTTP2:   true,
		}},
	}}, nil
}

// Close drops idle connections.
func (a *API) Close() { a.HTTP.CloseIdleConnections() }

// Get reads path into out, a pointer for JSON or a *string for the plain text.
func (a *API) Get(ctx context.Context, path string, out any) error {
	return a.Do(ctx, http.MethodGet, path, nil, out)
}

// Ready asks /readyz, with etcd.
func (a *API) Ready(ctx context.Context) error {
	var text string
	return a.Get(ctx, "/readyz", &text)
}

// HealthWithoutLogin is an error when the apiserver wants a login from those who ask for
// its health: the kubelet, which then starts it again and again, and the prober, by
// which the VIP leaves an apiserver that hangs.
func (a *API) HealthWithoutLogin(ctx context.Context) error {
	with, ok := a.HTTP.Transport.(*http.Transport)
	if !ok {
		return nil
	}
	t := with.Clone()
	t.TLSClientConfig.Certificates = nil
	bare := API{kubeapi.Client{Base: a.Base, HTTP: &http.Client{Transport: t}}}
	defer bare.Close()
	for _, path := range []string{"/readyz?exclude=etcd&exclude=etcd-readiness", "/livez"} {
		var text string
		if err := bare.Get(ctx, path, &text); kubeapi.Young(err) {
			return fmt.Errorf("it wants a login for its health (%w): the kubelet restarts it and the prober of the VIP cannot judge it", err)
		}
	}
	return nil
}

const nodesPath = "/api/v1/nodes"

// Node is a node as the apiserver knows it.
type Node struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
	Version string `json:"version"`
	Runtime string `json:"runtime,omitempty"` // "containerd://2.2.1"
	PodCIDR string `json:"podCIDR,omitempty"`
	Address string `json:"address"`
	// Pressure is what the kubelet says that it lacks: "DiskPressure: ...", or "". New
	// pods go elsewhere then, and pods that run are ended.
	Pressure string `json:"pressure,omitempty"`
}

// pressures are the conditions of the kubelet that are bad when they hold; others may
// put conditions of their own beside them.
var pressures = []string{"DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable"}

// Nodes lists the nodes by name.
func (a *API) Nodes(ctx context.Context) (map[string]Node, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDR string }
			Status   struct {
				Conditions []struct{ Type, Status, Message string }
				Addresses  []struct{ Type, Address string }
				NodeInfo   struct{ KubeletVersion, ContainerRuntimeVersion string }
			}
		}
	}
	if err := a.Get(ctx, nodesPath, &list); err != nil {
		return nil, err
	}
	out := map[string]Node{}
	for _, i := range list.Items {
		n := Node{Name: i.Metadata.Name, Version: remote.Clean(i.Status.NodeInfo.KubeletVersion), Runtime: remote.Clean(i.Status.NodeInfo.ContainerRuntimeVersion), PodCIDR: i.Spec.PodCIDR, Reason: "no status yet"}
		for _, c := range i.Status.Conditions {
			if c.Type == "Ready" {
				n.Ready, n.Reason = c.Status == "True", remote.Clean(c.Message)
			} else if c.Status == "True" && slices.Contains(pressures, c.Type) {
				n.Pressure = strings.TrimPrefix(n.Pressure+", "+remote.Clean(strings.TrimSuffix(c.Type+": "+c.Message, ": ")), ", ")
			}
		}
		if n.Ready {
			n.Reason = ""
		}
		for _, a := range i.Status.Addresses {
			if a.Type == "InternalIP" {
				n.Address = a.Address
			}
		}
		out[n.Name] = n
	}
	return out, nil
}

// Workload is how many replicas of a deployment or daemon set are ready.
type Workload struct {
	Name        string `json:"name"`
	Want, Ready int
}

// SystemWorkloads returns CoreDNS and kube-proxy.
func (a *API) SystemWorkloads(ctx context.Context) ([]Workload, error) {
	var dns struct {
		Spec   struct{ Replicas int }
		Status struct{ ReadyReplicas int }
	}
	if err := a.Get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns", &dns); err != nil {
		return nil, err
	}
	var proxy struct {
		Status struct{ DesiredNumberScheduled, NumberReady int }
	}
	if err := a.Get(ctx, "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy", &proxy); err != nil {
		return nil, err
	}
	return []Workload{
		{Name: "coredns", Want: dns.Spec.Replicas, Ready: dns.Status.ReadyReplicas},
		{Name: "kube-proxy", Want: proxy.Status.DesiredNumberScheduled, Ready: proxy.Status.NumberReady},
	}, nil
}
