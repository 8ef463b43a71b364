package drill

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/remote"
)

// sim is a cluster of three masters: real HTTPS servers as apiservers on
// connections in memory, a VIP that can be given from one to the other, and
// hosts that understand a drill's commands by their titles. It lives in a
// bubble of testing/synctest: time is exact, whatever else the machine does.
type sim struct {
	t       *testing.T
	cluster *Cluster
	hosts   map[string]*simHost

	mu       sync.Mutex
	objects  map[string]bool // names of ConfigMaps
	keys     map[string]bool
	owners   map[string]bool
	leader   string
	etcdUp   bool
	busy     int                    // lists and removals of objects that are answered 429 from now on
	forget   func(name string) bool // acknowledged but not kept
	changed  *sync.Cond
	servers  map[string]*pipes
	handler  http.Handler        // of every apiserver
	conns    map[net.Conn]string // through the VIP, by master
	log      []string            // "host title"
	dieAt    int                 // from this command on nothing gets through; 0: never
	dieAfter bool                // that command still takes effect
	died     context.CancelFunc

	// onFault is what the fault really does; onUndo takes it back.
	onFault      func(host string)
	onUndo       func(host string)
	onProof      func(ctx context.Context) error // what comes instead of a proof's answer; nil: the answer
	stalls       []simStall                      // see sim_noise_test.go
	dead         map[string]time.Time            // apiservers that do not answer until then
	lossy        *mathrand.Rand                  // a quarter of the requests through the VIP fail
	lossyService *mathrand.Rand                  // and of those to the demo

	load    float64 // seconds of processor time that a request through the VIP costs each host
	boots   map[string]int
	broken  map[string]bool
	armed   map[string]bool
	unit    string        // of the undo that was armed last
	healsIn time.Duration // what was broken runs again after that; 0: once it is undone

	slow  time.Duration                             // how long every apiserver takes to say that it is ready
	lease func() (holder string, renewed time.Time) // of the controller-manager and the scheduler

	demo  map[string]bool // the parts of the demo workload that are there, by path
	pods  []string        // the node of each of its ready pods
	stale []string        // the same while there is no deployment: pods that are about to go
}

// addWorker gives the cluster a worker and the demo a service that answers.
func (s *sim) addWorker(pods ...string) *simHost {
	h := &simHost{sim: s, name: "worker-1"}
	s.hosts[h.name], s.pods = h, pods
	s.cluster.Members = append(s.cluster.Members, &Member{Name: h.name, Addr: netip.AddrFrom4([4]byte{10, 0, 0, 4}), SSHPorts: []int{22}, Host: h})
	l := newPipes()
	s.servers[simService+":80"] = l
	srv := &http.Server{Handler: demoHandler, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }()
	s.t.Cleanup(func() { _ = srv.Close() })
	return h
}

const simService = "10.96.0.10"

// demoHandler is a replica of the demo workload.
var demoHandler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// demoAPI is what the API answers about the demo workload.
func (s *sim) demoAPI(mux *http.ServeMux) {
	for _, path := range []string{demoPath, namespacePath + "/services"} {
		set := func(there bool) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.demo[path] = true; !there {
					delete(s.demo, path)
				}
				fmt.Fprint(w, "{}")
			}
		}
		mux.HandleFunc("POST "+path, set(true))
		mux.HandleFunc("DELETE "+path+"/"+demoName, set(false))
	}
	mux.HandleFunc("GET "+namespacePath+"/services/"+demoName, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"spec": object{"clusterIP": simService}})
	})
	mux.HandleFunc("GET "+podsPath, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var items []object
		nodes := s.pods
		if !s.demo[demoPath] {
			nodes = s.stale
		}
		for _, node := range nodes {
			items = append(items, object{"spec": object{"nodeName": node}, "status": object{"conditions": []object{{"type": "Ready", "status": "True"}}}})
		}
		_ = json.NewEncoder(w).Encode(object{"items": items})
	})
	mux.HandleFunc("GET /api/v1/nodes/worker-1", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"spec": object{"taints": []object{{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}}}})
	})
}

var errDead = errors.New("hactl is dead")

func newSim(t *testing.T) *sim {
	t.Helper()
	s := &sim{t: t, objects: map[string]bool{}, keys: map[string]bool{}, owners: map[string]bool{}, leader: "master-1",
		etcdUp: true, servers: map[string]*pipes{}, conns: map[net.Conn]string{}, hosts: map[string]*simHost{},
		boots: map[string]int{}, broken: map[string]bool{}, armed: map[string]bool{}, demo: map[string]bool{}, dead: map[string]time.Time{}}
	s.changed = sync.NewCond(&s.mu)
	s.onFault, s.onUndo = func(string) {}, func(string) {}
	cert, pool := selfSigned(t)
	s.handler = s.api()
	s.cluster = &Cluster{Name: "test", Demo: "demo:v1", VIP: netip.MustParseAddr("10.0.0.100"), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Etcd: s}
	for i, name := range []string{"master-1", "master-2", "master-3"} {
		l := newPipes()
		srv := &http.Server{Handler: s.handler, ErrorLog: log.New(io.Discard, "", 0), // connections are cut on purpose
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: time.Minute}
		go func() { _ = srv.ServeTLS(l, "", "") }()
		t.Cleanup(func() { _ = srv.Close() })
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		api := netip.AddrPortFrom(addr, 6443).String()
		s.servers[api] = l
		h := &simHost{sim: s, name: name}
		s.hosts[name] = h
		s.cluster.Members = append(s.cluster.Members, &Member{Name: name, Addr: addr, API: api, SSHPorts: []int{22}, Master: true, Host: h})
	}
	s.owners["master-1"] = true
	s.cluster.API = "10.0.0.100:6443"
	s.cluster.DialDirect = s.dial
	s.cluster.PlanEmpty = func(context.Context) error { return nil }
	return s
}

// pipes is a listener in memory. (grpc's bufconn starts timers of no length,
// which crash Go 1.26's race detector in a bubble.)
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (p *pipes) DialContext(ctx context.Context) (net.Conn, error) {
	up, down := newStream(), newStream()
	select {
	case p.conns <- &memConn{in: up, out: down}:
		return &memConn{in: down, out: up}, nil
	case <-p.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stream is one direction of a connection. Writers never wait: TLS writes to
// both sides at the same time.
type stream struct {
	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte
	over     error // what a reader gets once buf is empty
	deadline time.Time
}

func newStream() *stream {
	s := &stream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			return n, nil
		case s.over != nil:
			return 0, s.over
		}
		s.changed.Wait()
	}
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return 0, net.ErrClosed
	}
	s.buf = append(s.buf, p...)
	s.changed.Broadcast()
	return len(p), nil
}

func (s *stream) end(why error, dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over = why; dropped {
		s.buf = nil
	}
	s.changed.Broadcast()
}

// memConn is a side of a connection in memory.
type memConn struct{ in, out *stream }

func (c *memConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.Write(p) }

func (c *memConn) Close() error {
	c.out.end(io.EOF, false)
	c.in.end(net.ErrClosed, true)
	return nil
}

func (c *memConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "memory", Net: "unix"} }
func (c *memConn) RemoteAddr() net.Addr             { return c.LocalAddr() }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

func (c *memConn) SetReadDeadline(t time.Time) error {
	s := c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	if d := time.Until(t); !t.IsZero() && d > 0 {
		time.AfterFunc(d, s.changed.Broadcast)
	}
	s.changed.Broadcast()
	return nil
}

// wireTest runs f with a cluster in a bubble that speaks HTTP over TLS.
func wireTest(t *testing.T, f func(t *testing.T, s *sim)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newSim(t)) })
}

// noisy has everything wait for the stalls, and gives the hosts echoes and this process
// a clock that sees them.
func (s *sim) noisy() {
	slices.SortFunc(s.stalls, func(a, b simStall) int { return a.to.Compare(b.to) })
	s.cluster.ownClock = s.clock
	for _, m := range s.cluster.Members {
		m.Echo = func(ctx context.Context) error { return s.await(ctx, m.Name) }
	}
}

// kill has a host's apiserver refuse every connection for a time.
func (s *sim) kill(host string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead[host] = time.Now().Add(d)
}

// simTest runs f with a cluster in a bubble whose handlers are called directly: the
// same dials, the same requests and answers, a tenth of the processor time.
func simTest(t *testing.T, f func(t *testing.T, s *sim)) {
	t.Helper()
	wireTest(t, func(t *testing.T, s *sim) {
		s.cluster.transport = s.direct
		f(t, s)
	})
}

// dial connects to a master or, through the VIP, to its owner; without an
// owner nothing answers.
func (s *sim) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if addr != s.cluster.API {
		return s.connect(ctx, addr)
	}
	owner := s.owner()
	if owner == "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	conn, err := s.connect(ctx, s.cluster.Member(owner).API)
	if err == nil {
		s.mu.Lock()
		s.conns[conn] = owner
		s.mu.Unlock()
	}
	return conn, err
}

func (s *sim) owner() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range []string{"master-1", "master-2", "master-3"} {
		if s.owners[n] {
			return n
		}
	}
	return ""
}

// own sets who holds the VIP; connections to former owners are cut.
func (s *sim) own(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.owners)
	for _, n := range names {
		s.owners[n] = true
	}
	for c, owner := range s.conns {
		if !s.owners[owner] {
			_ = c.Close()
			delete(s.conns, c)
		}
	}
	s.changed.Broadcast()
}

func (s *sim) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.cluster.transport == nil {
			time.Sleep(s.slow)
		}
		fmt.Fprint(w, "ok")
	})
	mux.HandleFunc("GET "+namespacePath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	mux.HandleFunc("POST /api/v1/namespaces", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		var items []object
		for _, m := range s.cluster.Members {
			items = append(items, object{"metadata": object{"name": m.Name}, "status": object{"conditions": []object{{"type": "Ready", "status": "True"}}}})
		}
		_ = json.NewEncoder(w).Encode(object{"items": items})
	})
	mux.HandleFunc("GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}", func(w http.ResponseWriter, _ *http.Request) {
		holder, at := s.lease()
		_ = json.NewEncoder(w).Encode(object{"spec": object{"holderIdentity": holder, "renewTime": at.UTC().Format("2006-01-02T15:04:05.000000Z07:00")}})
	})
	s.demoAPI(mux)
	mux.HandleFunc("POST "+mapsPath, func(w http.ResponseWriter, r *http.Request) {
		var o struct{ Metadata struct{ Name string } }
		_ = json.NewDecoder(r.Body).Decode(&o)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.forget == nil || !s.forget(o.Metadata.Name) {
			s.objects[o.Metadata.Name] = true
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "{}")
	})
	mux.HandleFunc("GET "+mapsPath, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuses(w) {
			return
		}
		var items []object
		for n := range s.objects {
			items = append(items, object{"metadata": object{"name": n}})
		}
		_ = json.NewEncoder(w).Encode(object{"items": items})
	})
	mux.HandleFunc("DELETE "+mapsPath, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuses(w) {
			return
		}
		most, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		for n := range s.objects {
			if most--; most < 0 {
				break
			}
			delete(s.objects, n)
		}
		fmt.Fprint(w, "{}")
	})
	return mux
}

// refuses answers 429 as often as the test wants; the lock is held.
func (s *sim) refuses(w http.ResponseWriter) bool {
	if s.busy == 0 {
		return false
	}
	s.busy--
	w.WriteHeader(http.StatusTooManyRequests)
	return true
}

// Put, Keys, Clear and Leads make the sim its own etcd.
func (s *sim) Put(ctx context.Context, key, _ string) error {
	s.mu.Lock()
	leader := s.leader
	s.mu.Unlock()
	if err := s.await(ctx, leader); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.etcdUp {
		return errors.New("no leader")
	}
	if s.forget == nil || !s.forget(key) {
		s.keys[key] = true
	}
	return nil
}

func (s *sim) Keys(_ context.Context, prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for k := range s.keys {
		if strings.HasPrefix(k, prefix) {
			out = append(out, k)
		}
	}
	return out, nil
}

func (s *sim) Clear(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
	return nil
}

func (s *sim) Leads(_ context.Context, host string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader == host, nil
}

// said lists the commands of that title as "host", in order.
func (s *sim) said(title string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, l := range s.log {
		if host, t, _ := strings.Cut(l, " "); t == title {
			out = append(out, host)
		}
	}
	return out
}

type simHost struct {
	sim  *sim
	name string
}

func (h *simHost) Name() string { return h.name }

func (h *simHost) Put(context.Context, ...remote.File) error {
	return errors.New("a drill puts no files")
}

func (h *simHost) Send(context.Context, remote.Upload) (bool, error) {
	return false, errors.New("a drill sends nothing")
}

func (h *simHost) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.sim.dial(ctx, network, addr)
}

func (h *simHost) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	s := h.sim
	if c.Title == titleWatch {
		return h.watch(ctx, c)
	}
	s.mu.Lock()
	s.log = append(s.log, h.name+" "+c.Title)
	dead := s.dieAt > 0 && len(s.log) >= s.dieAt
	took := dead && s.dieAfter && len(s.log) == s.dieAt
	s.mu.Unlock()
	if took {
		h.answer(c)
	}
	if dead {
		s.died()
		return nil, &remote.UnreachableError{Host: h.name, Op: "run", Err: errDead}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if c.Title == titleProof && s.onProof != nil {
		if err := s.onProof(ctx); err != nil {
			return nil, &remote.UnreachableError{Host: h.name, Op: "run", Err: err}
		}
	}
	out, ok := h.answer(c)
	if !ok {
		return &remote.Result{Exit: 1}, &remote.ExitError{Host: h.name, Title: c.Title, Exit: 1}
	}
	return &remote.Result{Stdout: []byte(out)}, nil
}

func (h *simHost) answer(c remote.Cmd) (string, bool) {
	s := h.sim
	set := func(m map[string]bool, to bool) {
		s.mu.Lock()
		m[h.name] = to
		s.mu.Unlock()
	}
	get := func(m map[string]bool) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return m[h.name]
	}
	switch c.Title {
	case titleLook:
		out := unitLine("kubelet.service") + unitLine("keepalived.service")
		if get(s.armed) {
			s.mu.Lock()
			out += unitLine(cmp.Or(s.unit, "hactl-undo-other") + ".timer")
			s.mu.Unlock()
		}
		if !get(s.broken) {
			out += unitLine("etcd.service")
		}
		if get(s.owners) {
			out += "owner\n"
		}
		return out + "end\n", true
	case titleLoad:
		return s.processors(), true
	case titleIdentify:
		return h.identity(), true
	case titleArm:
		if _, after, found := strings.Cut(c.Script, "--unit="); found {
			s.mu.Lock()
			s.unit, _, _ = strings.Cut(after, " ")
			s.mu.Unlock()
		}
		set(s.armed, true)
		return "", true
	case titleFault:
		if !get(s.armed) {
			return "", false
		}
		if s.onFault != nil {
			set(s.broken, true)
			s.onFault(h.name)
			if s.healsIn > 0 {
				time.AfterFunc(s.healsIn, func() { set(s.broken, false) })
			}
		}
		return "", true
	case titleProof:
		return h.identity(), get(s.broken) || c.Script == powerOff().Before
	case titleUndo:
		set(s.broken, false)
		s.onUndo(h.name)
		return "", true
	case titleDisarm:
		set(s.armed, false)
		return "", true
	}
	s.t.Errorf("unknown command %q", c.Title)
	return "", false
}

// unitLine is how systemctl lists a unit that is active.
func unitLine(unit string) string { return unit + " loaded active running A unit\n" }

func (h *simHost) identity() string {
	h.sim.mu.Lock()
	defer h.sim.mu.Unlock()
	return fmt.Sprintf("42:%d", h.sim.boots[h.name])
}

// watch tells the VIP's comings and goings as ip monitor would.
func (h *simHost) watch(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	s := h.sim
	stop := context.AfterFunc(ctx, func() { s.mu.Lock(); s.changed.Broadcast(); s.mu.Unlock() })
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	owns := s.owners[h.name]
	c.Output(fmt.Sprintf("hactl %d.%09d %d", time.Now().Unix(), time.Now().Nanosecond(), map[bool]int{true: 1}[owns]))
	for ctx.Err() == nil {
		if s.owners[h.name] != owns {
			owns = !owns
			deleted := map[bool]string{false: "Deleted "}[owns]
			c.Output(fmt.Sprintf("[%s] %s3: eth0    inet %s/32 scope global eth0", time.Now().UTC().Format("2006-01-02T15:04:05.000000"), deleted, s.cluster.VIP))
		}
		s.changed.Wait()
	}
	return nil, ctx.Err()
}

// testOptions are quick: the simulated cluster needs no time to settle.
func testOptions() Options {
	return Options{Interval: 20 * time.Millisecond, Settle: 5 * time.Second, warm: 200 * time.Millisecond, tail: 200 * time.Millisecond}
}

// testScenario hits the owner for hold.
func testScenario(hold time.Duration, checks ...Check) Scenario {
	return Scenario{Name: "test", Summary: "a test", Hits: owner(stopUnit(keepalivedUnit)), Hold: hold, Masters: 3, Checks: checks, Recover: 5 * time.Second}
}

func (s *sim) drill(scenarios ...Scenario) *Drill {
	return &Drill{Cluster: s.cluster, Options: testOptions(), Scenarios: scenarios}
}

// moveAfter takes the VIP away at the fault and gives it to another host later.
func (s *sim) moveAfter(d time.Duration, to string) func(string) {
	return func(string) {
		s.own()
		time.AfterFunc(d, func() { s.own(to) })
	}
}

func index(log []string, line string) int { return slices.Index(log, line) }

// refusing is a host on which no timer can be armed.
type refusing struct{ *simHost }

func (h refusing) Run(ctx context.Context, c remote.Cmd) (*remote.Result, error) {
	if c.Title == titleArm {
		return &remote.Result{Exit: 1}, &remote.ExitError{Host: h.name, Title: c.Title, Exit: 1}
	}
	return h.simHost.Run(ctx, c)
}

// selfSigned is a certificate for every address of the sim.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2), net.IPv4(10, 0, 0, 3), net.IPv4(10, 0, 0, 100)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
