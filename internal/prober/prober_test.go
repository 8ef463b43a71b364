package prober

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// apiserver is a fake that can be ready, unready or hung.
type apiserver struct {
	*httptest.Server
	status atomic.Int32
	hang   atomic.Bool
	delay  atomic.Int64 // before each answer, in nanoseconds
	flaps  atomic.Bool  // every other answer is "not ready"
	says   atomic.Value // body of its answers, a string
	noEtcd atomic.Bool  // asked with etcd it is not ready
	asked  atomic.Int32 // answers so far, to questions without etcd
	whole  atomic.Int32 // to questions with it
	conns  atomic.Int32 // connections so far
}

// newAPIServer starts one that listens on this host.
func newAPIServer(t *testing.T, status int) *apiserver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, status)
}

func serve(t *testing.T, l net.Listener, status int) *apiserver {
	t.Helper()
	a := &apiserver{}
	a.status.Store(int32(status))
	done := make(chan struct{})
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() == "/readyz" {
			a.whole.Add(1)
			if a.noEtcd.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return
		}
		if r.URL.RequestURI() != "/readyz?exclude=etcd&exclude=etcd-readiness" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if a.hang.Load() {
			select {
			case <-done:
			case <-r.Context().Done():
			}
			return
		}
		time.Sleep(time.Duration(a.delay.Load()))
		if n := a.asked.Add(1); a.flaps.Load() && n%2 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(int(a.status.Load()))
		says, _ := a.says.Load().(string)
		_, _ = w.Write([]byte(says))
	}
	connState := func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			a.conns.Add(1)
		}
	}
	a.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(handler), ConnState: connState, ReadHeaderTimeout: time.Minute}}
	a.Start()
	t.Cleanup(func() { close(done); a.Close() })
	return a
}

// interval is the rig's.
const interval = 10 * time.Millisecond

// rig is a prober with its apiservers, for a test in a bubble.
type rig struct {
	lan         lan
	local, peer *apiserver
	file        string
	away        atomic.Bool // the VIP is on another host
	stop        func()      // ends the prober and waits for it
}

// start runs a prober that takes nobody for hung.
func start(t *testing.T, local, peer int) *rig {
	t.Helper()
	return startWithSlow(t, local, peer, time.Minute)
}

// startWithSlow runs a prober to which a silence of slow means hung.
func startWithSlow(t *testing.T, local, peer int, slow time.Duration) *rig {
	t.Helper()
	return startWith(t, local, peer, func(c *Config) { c.Slow = slow })
}

// startWith runs a prober that is configured otherwise.
func startWith(t *testing.T, local, peer int, change func(*Config)) *rig {
	t.Helper()
	r := newRig(t, local, peer)
	r.run(t, change)
	return r
}

// newRig has a prober that does not run yet.
func newRig(t *testing.T, local, peer int) *rig {
	t.Helper()
	n := lan{}
	return &rig{lan: n, local: n.newAPIServer(t, local), peer: n.newAPIServer(t, peer), file: filepath.Join(t.TempDir(), "track")}
}

func (r *rig) run(t *testing.T, change func(*Config)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	cfg := Config{
		Local: r.local.URL, Peers: []string{r.peer.URL}, File: r.file,
		Interval: interval, Slow: time.Minute, Rise: 3, Client: r.lan.client(),
		Owns: func() bool { return !r.away.Load() },
	}
	change(&cfg)
	p := New(cfg)
	go func() { ended <- p.Run(ctx, func() {}) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	// From here on the test acts between the prober's ticks: at the same instant
	// nobody knows who is first.
	time.Sleep(time.Millisecond)
}

// says is what the track file says.
func (r *rig) says() string {
	b, _ := os.ReadFile(r.file)
	return strings.TrimSpace(string(b))
}

// becomes waits until the track file says want.
func (r *rig) becomes(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		said := r.says()
		if said == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("track file says %q, want %q", said, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled waits until the apiservers, those that are ready, count as healthy.
func (r *rig) settled(t *testing.T) {
	t.Helper()
	reaches(t, &r.local.asked, 10)
	reaches(t, &r.peer.whole, wholeRise+1)
	r.becomes(t, "0")
}

// reaches waits until an apiserver was asked n times.
func reaches(t *testing.T, asked *atomic.Int32, n int32) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); asked.Load() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("asked %d times only, want %d", asked.Load(), n)
		}
	}
}

// stays fails when the track file says anything but want within d.
func (r *rig) stays(t *testing.T, want string, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(r.file); err == nil && len(b) > 0 && strings.TrimSpace(string(b)) != want {
			t.Fatalf("track file says %q, want %q", b, want)
		}
	}
}

func TestUnfitOnlyWhileAPeerIsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 200, 200)
		r.settled(t)
		r.stays(t, "0", 200*time.Millisecond)
		r.local.status.Store(500)
		r.becomes(t, "1")
		r.peer.status.Store(500) // all sick: hold on to the VIP
		r.becomes(t, "0")
		r.stays(t, "0", 200*time.Millisecond)
		r.peer.status.Store(200)
		r.becomes(t, "1")
		r.local.status.Store(200)
		r.becomes(t, "0")
	})
}

// A handshake costs an apiserver more than the answer, and three hosts ask each.
func TestProbesShareAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, http.StatusOK, http.StatusInternalServerError)
		r.settled(t)
		for _, c := range []struct {
			name string
			*apiserver
			conns int32
		}{{"a ready apiserver", r.local, 1}, {"one that is not, asked two questions", r.peer, 3}} { // one dial may find the other's connection free again
			if asked, conns := c.asked.Load(), c.apiserver.conns.Load(); asked < 3 || conns > c.conns {
				t.Errorf("%s: %d probes over %d connections", c.name, asked, conns)
			}
		}
	})
}

func TestHungApiserverIsUnfitBeforeTheProbeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = time.Second // a probe times out after twice that
		r := startWithSlow(t, 200, 200, slow)
		r.settled(t)
		r.local.hang.Store(true)
		from := time.Now()
		r.becomes(t, "1")
		if took := time.Since(from); took < slow || took > slow+2*interval {
			t.Errorf("unfit after %v, want about %v", took, slow)
		}
	})
}

// The prober wakes up more often only while its verdict may change by the clock.
func TestPulse(t *testing.T) {
	const interval = 100 * time.Millisecond
	for what, c := range map[string]struct {
		ok      bool
		waiting time.Duration // for the answer to a probe
		want    time.Duration
	}{
		"well":                 {ok: true, want: interval},
		"well, asked just now": {ok: true, waiting: time.Millisecond, want: interval},
		"late":                 {ok: true, waiting: 40 * time.Second, want: interval / 4},
		"hung":                 {ok: true, waiting: 2 * time.Minute, want: interval / 4},
		"sick":                 {want: interval / 4},
	} {
		p := New(Config{Interval: interval, Slow: time.Minute})
		p.local.ok.Store(c.ok)
		if c.waiting > 0 {
			p.local.since.set(time.Now().Add(-c.waiting))
		}
		if got := p.pulse(); got != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

// Where everybody is slow, one that is slower still keeps the address, also when
// its probes time out; it loses it to one that is not.
func TestSilenceAmongBusyApiserversMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 400 * time.Millisecond
		r := startWithSlow(t, http.StatusOK, http.StatusOK, slow)
		r.settled(t)
		r.peer.delay.Store(int64(slow * 3 / 4))
		reaches(t, &r.peer.asked, r.peer.asked.Load()+2) // until it is known
		r.local.hang.Store(true)
		r.stays(t, "0", 4*slow)
		r.peer.delay.Store(0)
		r.becomes(t, "1")
	})
}

// The address may stay with a silent one, and must not go to one: a host that boots
// has the highest priority and an apiserver that takes connections and says nothing.
func TestAddressDoesNotGoToASilentApiserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 400 * time.Millisecond
		r := startWithSlow(t, http.StatusOK, http.StatusOK, slow)
		r.settled(t)
		r.peer.noEtcd.Store(true) // an owner would keep it now
		r.away.Store(true)
		reaches(t, &r.peer.whole, r.peer.whole.Load()+2)
		r.local.hang.Store(true)
		r.becomes(t, "1")
		r.peer.status.Store(http.StatusInternalServerError) // the last one is better than none
		r.becomes(t, "0")
	})
}

func TestHoldsKnowsTheAddressesOfThisHost(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1": true, "::ffff:127.0.0.1": true, "192.0.2.77": false, "2001:db8::77": false} {
		if got := Holds(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// Without etcd the silent one is the one that gets the requests: the next would
// fall silent as well, also for a while after. One that is dead loses the address
// all the same.
func TestSilenceWithoutEtcdMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 400 * time.Millisecond
		r := startWithSlow(t, http.StatusOK, http.StatusOK, slow)
		r.settled(t)
		r.peer.noEtcd.Store(true)
		reaches(t, &r.peer.whole, r.peer.whole.Load()+2)
		r.local.hang.Store(true)
		r.stays(t, "0", 4*slow)
		r.local.hang.Store(false) // nor do the first answers move it
		r.stays(t, "0", 500*time.Millisecond)
		r.local.hang.Store(true)
		r.stays(t, "0", 4*slow)
		before := r.peer.whole.Load()
		r.peer.noEtcd.Store(false)
		r.becomes(t, "1")
		if n := r.peer.whole.Load() - before; n < wholeRise {
			t.Errorf("unfit after %d answers with etcd, want %d", n, wholeRise)
		}
		r.local.hang.Store(false)
		r.becomes(t, "0")
		r.peer.noEtcd.Store(true)
		reaches(t, &r.peer.whole, r.peer.whole.Load()+2)
		r.local.status.Store(http.StatusInternalServerError)
		r.becomes(t, "1")
	})
}

// A listener that is silent stands for an apiserver too busy to shake hands.
func TestProberStartedAnewMovesNothingWhileItsApiserverIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, http.StatusOK, http.StatusOK)
		r.local.delay.Store(int64(400 * time.Millisecond)) // three answers take longer than the peer's by far
		r.peer.noEtcd.Store(true)
		r.run(t, func(c *Config) { c.Slow = time.Second })
		r.stays(t, "0", time.Second)
		r.local.status.Store(http.StatusInternalServerError)
		r.becomes(t, "1") // an answer is no silence
	})
}

func TestSilenceIsToldFromAnswersAndRefusals(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	sick := newAPIServer(t, http.StatusInternalServerError)
	shake, answer := 50*time.Millisecond, 100*time.Millisecond
	for _, c := range []struct {
		name, url   string
		slow        time.Duration // twice that is how long an answer may take
		noHandshake time.Duration
		want        bool
	}{
		{"no handshake", "https://" + silent.Addr().String(), time.Minute, shake, true},
		{"no answer", "http://" + silent.Addr().String(), answer, time.Minute, true},
		{"refused", "http://" + closed.Addr().String(), time.Minute, time.Minute, false},
		{"not ready", sick.URL, time.Minute, time.Minute, false},
	} {
		target := newTarget(Config{Slow: c.slow, Client: &http.Client{Transport: &http.Transport{TLSHandshakeTimeout: c.noHandshake}}}, c.url+path)
		if err := target.probe(t.Context()); err == nil || noAnswer(err) != c.want {
			t.Errorf("%s: %v counts as silence: %t", c.name, err, noAnswer(err))
		}
	}
}

func TestFlappingApiserverStaysUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 500, 200)
		r.becomes(t, "1")
		r.local.flaps.Store(true)
		r.local.status.Store(200)
		from := r.local.asked.Load()
		for r.local.asked.Load() < from+20 {
			r.stays(t, "1", 10*time.Millisecond)
		}
		r.local.flaps.Store(false)
		r.becomes(t, "0")
	})
}

func TestBootstrapHoldsUntilSomebodyIsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 503, 503)
		r.becomes(t, "0")
		r.peer.status.Store(200)
		r.becomes(t, "1")
	})
}
