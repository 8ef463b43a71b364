package ops

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"hactl/internal/fakehost"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"hactl/etcd"
	"hactl/internal/kubeapi/kubeapitest"
	"hactl/inventory"
	"hactl/pki"
)

// Dial implements remote.Host: a member that runs answers its health check and
// lists the members, an apiserver that runs knows the nodes.
func (h *rootHost) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to := ""
	switch _, port, _ := net.SplitHostPort(addr); {
	case port == "2381" && h.Disk().Has("state/units/etcd.service.pid"):
		near, far := net.Pipe()
		go func() {
			defer func() { _ = far.Close() }()
			_, _ = far.Read(make([]byte, 4096))
			_, _ = io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		}()
		return near, nil
	case port == "10248" && h.Disk().Has("state/units/kubelet.service.pid"):
		to = h.serves.kubelet
	case port == "2379" && h.Disk().Has("state/units/etcd.service.pid"):
		to = h.serves.etcd
	case (port == "10257" || port == "10259") && h.runsAPI():
		to = h.serves.api
	case port == "6443" && h.serves.of(addr).runsAPI():
		to = h.serves.api
	}
	if to == "" {
		return nil, errors.New("dial " + addr + ": connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// runsAPI reports whether the host's own apiserver answers: the kubelet runs and
// its manifest is there.
func (h *rootHost) runsAPI() bool {
	return h.Disk().Has("state/units/kubelet.service.pid") && h.Disk().Has("etc/kubernetes/manifests/kube-apiserver.yaml")
}

// serves is where the servers of a world listen, and whose an address is.
type serves struct {
	api, etcd, kubelet string
	of                 func(addr string) *rootHost
}

// nodeFiles are the nodes of a world: files on the first master's disk, so that
// they are cut off and resumed like everything else.
type nodeFiles struct{ *rootHost }

// Names implements kubeapitest.Store.
func (f nodeFiles) Names() (names []string) {
	for _, e := range f.Disk().Below(fakehost.NodeFolder) {
		names = append(names, strings.TrimSuffix(filepath.Base(e.Path), ".json"))
	}
	return names
}

// Load implements kubeapitest.Store.
func (f nodeFiles) Load(name string) []byte {
	if e := f.Disk().Get(fakehost.NodeFolder + "/" + name + ".json"); e != nil {
		return []byte(e.Content)
	}
	return nil
}

// Save implements kubeapitest.Store.
func (f nodeFiles) Save(name string, node []byte) {
	f.SetDisk(f.Disk().With(fakehost.File(fakehost.NodeFolder+"/"+name+".json", string(node))))
}

// serveAPI starts the apiserver of a world. A host whose kubelet runs is a node.
func (w *crashWorld) serveAPI(t *testing.T) *httptest.Server {
	t.Helper()
	nodes := &kubeapitest.Nodes{Store: nodeFiles{w.hosts[0]}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		title := "look"
		if r.Method != http.MethodGet {
			title = r.Method + " " + r.URL.Path
		}
		defer w.hosts[0].Turn()(title)
		for _, h := range w.hosts {
			if d := h.Disk(); d.Has("state/units/kubelet.service.pid") && d.Has("etc/kubernetes/kubelet.conf") {
				if err := nodes.Register(h.name); err != nil {
					t.Error(err)
				}
			}
		}
		if r.URL.Path == "/api/v1/namespaces/kube-system/configmaps/kubeadm-config" {
			if !slices.ContainsFunc(w.hosts, func(h *rootHost) bool { return h.Disk().Has("state/kubeadm-config") }) {
				http.Error(rw, "not found", http.StatusNotFound)
				return
			}
			_, _ = io.WriteString(rw, "{}")
			return
		}
		if strings.HasSuffix(r.URL.Path, "/hactl-system") || strings.HasSuffix(r.URL.Path, "/hactl-probe") {
			w.serveObject(rw, r)
			return
		}
		if r.Method == http.MethodDelete {
			d := w.hosts[0].Disk()
			w.hosts[0].SetDisk(d.Edit([]string{fakehost.NodeFolder + "/" + path.Base(r.URL.Path) + ".json"}, nil))
			return
		}
		nodes.ServeHTTP(rw, r)
	}))
	srv.TLS = kubeapitest.Fast(&tls.Config{Certificates: []tls.Certificate{w.apiCert}, MinVersion: tls.VersionTLS12})
	srv.StartTLS()
	return srv
}

// serveObject keeps an applied object as a file of the first master's disk, like nodes.
// Of what is asked for only the mark is told.
func (w *crashWorld) serveObject(rw http.ResponseWriter, r *http.Request) {
	host, file := w.hosts[0], "state/objects/"+filepath.Base(r.URL.Path)
	if r.Method == http.MethodPatch {
		body, _ := io.ReadAll(r.Body)
		host.SetDisk(host.Disk().With(fakehost.File(file, string(body))))
		_, _ = io.WriteString(rw, "{}")
		return
	}
	e := host.Disk().Get(file)
	if e == nil {
		http.Error(rw, "not found", http.StatusNotFound)
		return
	}
	_, mark, _ := strings.Cut(string(e.Content), "hactl.io/made-from: ")
	mark, _, _ = strings.Cut(mark, "\n")
	_, _ = io.WriteString(rw, `{"metadata": {"annotations": {"hactl.io/made-from": `+mark+`}}}`)
}

// apiCertificate is of all masters' apiservers.
func apiCertificate(t *testing.T, inv *inventory.Inventory, m *pki.Material) tls.Certificate {
	t.Helper()
	return kubeapitest.Certificate(t, m.KubernetesCA.CertPEM, m.KubernetesCA.KeyPEM, mastersIPs(inv)...)
}

func mastersIPs(inv *inventory.Inventory) (ips []net.IP) {
	for _, h := range inv.Masters() {
		ips = append(ips, h.PrivateAddress.AsSlice())
	}
	return ips
}

// members is etcd as far as a world asks it: every master is a voter.
type members struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	list []*pb.Member

	mu     sync.Mutex
	leader uint64
	moved  func(to string) error // before another one leads; may be nil
	// removed is called before a member leaves; may be nil.
	removed func(name string) error
}

func (m *members) leads(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.named(m.leader) == name
}

// named is the name of a member; its caller holds the lock.
func (m *members) named(id uint64) string {
	if i := slices.IndexFunc(m.list, func(e *pb.Member) bool { return e.ID == id }); i >= 0 {
		return m.list[i].Name
	}
	return ""
}

// MemberRemove implements etcd's Cluster service.
func (m *members) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.removed != nil {
		if err := m.removed(m.named(r.ID)); err != nil {
			return nil, err
		}
	}
	m.list = slices.DeleteFunc(slices.Clone(m.list), func(e *pb.Member) bool { return e.ID == r.ID })
	return &pb.MemberRemoveResponse{Header: &pb.ResponseHeader{ClusterId: 1}}, nil
}

// MoveLeader implements etcd's Maintenance service.
func (m *members) MoveLeader(_ context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved != nil {
		if err := m.moved(m.named(r.TargetID)); err != nil {
			return nil, err
		}
	}
	m.leader = r.TargetID
	return &pb.MoveLeaderResponse{Header: &pb.ResponseHeader{ClusterId: 1}}, nil
}

// Status implements etcd's Maintenance service: the member that was dialled is
// well, and at first the first one leads.
func (m *members) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	p, _ := peer.FromContext(ctx)
	name := p.AuthInfo.(credentials.TLSInfo).State.ServerName
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.list, func(e *pb.Member) bool { return e.Name == name })
	if i < 0 {
		return nil, status.Error(codes.Unavailable, "this member was removed")
	}
	return &pb.StatusResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: m.list[i].ID}, Version: "3.6.16", Leader: m.leader, RaftIndex: 1, RaftAppliedIndex: 1, RaftTerm: 1}, nil
}

// MemberList implements etcd's Cluster service.
func (m *members) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: 1}, Members: m.list}, nil
}

// serveEtcd starts one server that is every member: it never changes, so that
// all worlds share it.
func serveEtcd(t *testing.T, inv *inventory.Inventory, m *pki.Material) string {
	t.Helper()
	addr, _ := serveMembers(t, inv, m)
	return addr
}

// memberServer is a server that shows the certificate of the member that is asked, and
// takes only clients of the members' CA.
func memberServer(m *pki.Material) *grpc.Server {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.EtcdCA.CertPEM)
	var read sync.Map // name to *tls.Certificate
	return grpc.NewServer(grpc.Creds(credentials.NewTLS(kubeapitest.Fast(&tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c, ok := read.Load(hello.ServerName); ok {
				return c.(*tls.Certificate), nil
			}
			pair, err := m.EtcdServer(hello.ServerName)
			if err != nil {
				return nil, err
			}
			c, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
			read.Store(hello.ServerName, &c)
			return &c, err
		},
	}))))
}

func serveMembers(t *testing.T, inv *inventory.Inventory, m *pki.Material) (string, *members) {
	t.Helper()
	all := &members{leader: 1}
	for i, h := range inv.Masters() {
		all.list = append(all.list, &pb.Member{ID: uint64(i + 1), Name: h.Name, PeerURLs: []string{etcd.PeerURL(h)}})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := memberServer(m)
	pb.RegisterClusterServer(srv, all)
	pb.RegisterMaintenanceServer(srv, all)
	store := &keys{content: map[string][]byte{}}
	pb.RegisterKVServer(srv, store)
	pb.RegisterLeaseServer(srv, store)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return ln.Addr().String(), all
}
