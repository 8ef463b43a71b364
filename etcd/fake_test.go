package etcd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/pki"
	"hactl/pki/pkitest"
)

// fakeEtcd is a cluster of in-process servers that speak etcd's protocol over
// mutual TLS and share one memory. It decides about quorum as raft would: by
// how many voters are up.
type fakeEtcd struct {
	t       *testing.T
	mu      sync.Mutex
	members []*fakeMember
	leader  uint64
	revoked int
	keys    map[string]string
	rev     int64
	behind  int          // promotions that are still refused: the learner lags
	young   int          // additions that are still refused: members not connected for long
	late    int          // leases that are still refused: the leader changes
	lie     bool         // acknowledge writes and lose them
	blob    []byte       // the snapshot
	third   *fakeMember  // the server of the machine under test
	before  func() error // each change of the members
}

type fakeMember struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	c       *fakeEtcd
	entry   *pb.Member
	cluster uint64
	server  *grpc.Server
	addr    string
	up      bool
	hang    bool
	alarms  []string
	host    *tunnel
}

// tunnel is a machine that can only be dialled through; every connection goes
// to what listens at to, whatever address is asked for.
type tunnel struct {
	remote.Host
	name string
	mu   sync.Mutex
	to   string
	err  error
	away error // what dialling anything but the machine itself says; nil: it is taken
	asks []string
}

func (h *tunnel) Name() string { return h.name }

func (h *tunnel) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	h.mu.Lock()
	to, err := h.to, h.err
	if err == nil && !strings.HasPrefix(addr, "127.0.0.1:") {
		err = h.away
	}
	h.asks = append(h.asks, addr)
	h.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (h *tunnel) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// material makes the certificates of a cluster with masters m1 to m<n>.
func material(t *testing.T, n int) *pki.Material {
	t.Helper()
	return pkitest.Material(t, masters(t, n))
}

// masters is an inventory of m1 to m<n>.
func masters(t *testing.T, n int) *inventory.Inventory {
	t.Helper()
	inv := &inventory.Inventory{
		Cluster: "blue", Path: filepath.Join(t.TempDir(), "inventory.yaml"),
		PKI: inventory.PKI{Algorithm: "ecdsa-p256", CAExpiry: 48 * time.Hour, Expiry: 24 * time.Hour},
	}
	for i := 1; i <= n; i++ {
		inv.Hosts = append(inv.Hosts, inventory.Host{
			Name: fmt.Sprintf("m%d", i), Role: inventory.ControlPlane, PrivateAddress: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)),
		})
	}
	return inv
}

// startFake starts n members, m1 leading, and connects to them.
func startFake(t *testing.T, n int) (*fakeEtcd, *Cluster) {
	t.Helper()
	m := material(t, n)
	f := &fakeEtcd{t: t, leader: 1, keys: map[string]string{}, blob: []byte(strings.Repeat("bolt", 5000))}
	for i := 1; i <= n; i++ {
		f.start(m, fmt.Sprintf("m%d", i), uint64(i))
	}
	return f, f.connect(m)
}

func (f *fakeEtcd) start(m *pki.Material, name string, id uint64) {
	f.t.Helper()
	pair, err := m.EtcdServer(name)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		f.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.EtcdCA.CertPEM)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	fm := &fakeMember{
		c: f, cluster: 7, up: true, addr: ln.Addr().String(), host: &tunnel{name: name, to: ln.Addr().String()},
		entry: &pb.Member{ID: id, Name: name, PeerURLs: []string{fmt.Sprintf("https://192.0.2.%d:2380", id)}},
	}
	fm.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		NextProtos: []string{"h2"},
	})))
	pb.RegisterMaintenanceServer(fm.server, fm)
	pb.RegisterClusterServer(fm.server, fm)
	pb.RegisterKVServer(fm.server, fm)
	pb.RegisterLeaseServer(fm.server, fm)
	go func() { _ = fm.server.Serve(ln) }()
	f.t.Cleanup(fm.server.Stop)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = append(f.members, fm)
}

func (f *fakeEtcd) connect(m *pki.Material) *Cluster {
	f.t.Helper()
	config, err := m.TLSConfig()
	if err != nil {
		f.t.Fatal(err)
	}
	var members []Member
	for _, fm := range f.members {
		members = append(members, Member{Name: fm.entry.Name, Host: fm.host})
	}
	c, err := Dial(context.Background(), members, config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	c.poll, c.sayEvery, c.patience = 20*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	c.Status(context.Background()) // all are connected, or have failed to
	return c
}

func (f *fakeEtcd) member(name string) *fakeMember {
	for _, m := range f.members {
		if m.entry.Name == name {
			return m
		}
	}
	f.t.Fatalf("no member %s", name)
	return nil
}

// kill ends a member's server for good; the rest elect the first that is up.
func (f *fakeEtcd) kill(name string) {
	m := f.member(name)
	m.host.fail(errors.New("dial 127.0.0.1:2379 from " + name + ": connection refused"))
	m.server.Stop()
	f.set(func() { m.up = false })
}

// cut takes a member's host out of our sight; its peers still see it.
func (f *fakeEtcd) cut(name string) {
	m := f.member(name)
	m.host.fail(&remote.UnreachableError{Host: name, Op: "dial 192.0.2.2:22", Err: errors.New("no route to host")})
	m.server.Stop()
}

// set changes something under the lock and elects again.
func (f *fakeEtcd) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	if l := f.byID(f.leader); f.quorum() && l != nil && l.up {
		return
	}
	f.leader = 0
	for _, m := range f.members {
		if f.quorum() && m.up && !m.entry.IsLearner {
			f.leader = m.entry.ID
			return
		}
	}
}

func (f *fakeEtcd) byID(id uint64) *fakeMember {
	for _, m := range f.members {
		if m.entry.ID == id {
			return m
		}
	}
	return nil
}

func (f *fakeEtcd) quorum() bool {
	up, voters := 0, 0
	for _, m := range f.members {
		if !m.entry.IsLearner {
			voters++
			if m.up {
				up++
			}
		}
	}
	return up >= voters/2+1
}

// begin is what every request goes through.
func (m *fakeMember) begin(ctx context.Context, needsQuorum bool) error {
	m.c.mu.Lock()
	hang, leader := m.hang, m.c.leader
	m.c.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if needsQuorum && leader == 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

func (m *fakeMember) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: m.cluster, MemberId: m.entry.ID, Revision: m.c.rev, RaftTerm: 3}
}

func (m *fakeMember) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	if err := m.begin(ctx, false); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	r := &pb.StatusResponse{
		Header: m.header(), Version: "3.6.16", DbSize: 4096, DbSizeInUse: 1024, Leader: m.c.leader,
		RaftIndex: 9, RaftAppliedIndex: 8, RaftTerm: 3, IsLearner: m.entry.IsLearner, Errors: slices.Clone(m.alarms),
	}
	if r.Leader == 0 {
		r.Errors = append(r.Errors, "etcdserver: no leader")
	}
	return r, nil
}

func (m *fakeMember) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if err := m.begin(ctx, r.Linearizable); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return &pb.MemberListResponse{Header: m.header(), Members: m.c.list()}, nil
}

func (f *fakeEtcd) list() []*pb.Member {
	var out []*pb.Member
	for _, m := range f.members {
		e := *m.entry
		out = append(out, &e)
	}
	return out
}

func (f *fakeEtcd) mayChange() error {
	if f.before == nil {
		return nil
	}
	return f.before()
}

func (m *fakeMember) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.young > 0 {
		m.c.young--
		return nil, rpctypes.ErrGRPCUnhealthy
	}
	if err := m.c.mayChange(); err != nil {
		return nil, err
	}
	e := &pb.Member{ID: 0x99, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
	m.c.members = append(m.c.members, &fakeMember{c: m.c, entry: e, cluster: m.cluster})
	return &pb.MemberAddResponse{Header: m.header(), Member: e, Members: m.c.list()}, nil
}

func (m *fakeMember) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.behind > 0 {
		m.c.behind--
		return nil, rpctypes.ErrGRPCLearnerNotReady
	}
	if err := m.c.mayChange(); err != nil {
		return nil, err
	}
	x := m.c.byID(r.ID)
	if x == nil {
		return nil, rpctypes.ErrGRPCMemberNotFound
	}
	x.entry.IsLearner, x.up = false, true
	return &pb.MemberPromoteResponse{Header: m.header(), Members: m.c.list()}, nil
}

func (m *fakeMember) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if err := m.c.mayChange(); err != nil {
		return nil, err
	}
	m.c.members = slices.DeleteFunc(m.c.members, func(x *fakeMember) bool { return x.entry.ID == r.ID })
	return &pb.MemberRemoveResponse{Header: m.header(), Members: m.c.list()}, nil
}

func (m *fakeMember) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.leader != m.entry.ID {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	m.c.leader = r.TargetID
	return &pb.MoveLeaderResponse{Header: m.header()}, nil
}

func (m *fakeMember) Snapshot(_ *pb.SnapshotRequest, s pb.Maintenance_SnapshotServer) error {
	sum := sha256.Sum256([]byte(strings.Repeat("bolt", 5000)))
	for chunk := range slices.Chunk(m.c.blob, 777) {
		if err := s.Send(&pb.SnapshotResponse{Blob: chunk}); err != nil {
			return err
		}
	}
	return s.Send(&pb.SnapshotResponse{Blob: sum[:]})
}

func (m *fakeMember) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.rev++
	if !m.c.lie {
		m.c.keys[string(r.Key)] = string(r.Value)
	}
	return &pb.PutResponse{Header: m.header()}, nil
}

func (m *fakeMember) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := m.begin(ctx, !r.Serializable); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	resp := &pb.RangeResponse{Header: m.header()}
	if v, ok := m.c.keys[string(r.Key)]; ok {
		resp.Kvs, resp.Count = []*mvccpb.KeyValue{{Key: r.Key, Value: []byte(v), ModRevision: m.c.rev}}, 1
	}
	return resp, nil
}

func (m *fakeMember) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.late > 0 {
		m.c.late--
		return nil, rpctypes.ErrGRPCLeaderChanged
	}
	return &pb.LeaseGrantResponse{Header: m.header(), ID: 5, TTL: r.TTL}, nil
}

func (m *fakeMember) LeaseRevoke(ctx context.Context, _ *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := m.begin(ctx, true); err != nil {
		return nil, err
	}
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.revoked++
	clear(m.c.keys)
	return &pb.LeaseRevokeResponse{Header: m.header()}, nil
}
