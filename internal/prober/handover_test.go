package prober

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/testneeds"
)

// leaves has the apiserver answer as from the signal to stop on.
func (a *apiserver) leaves() {
	a.says.Store("[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n")
	a.status.Store(http.StatusInternalServerError)
}

// handovers notes what a prober asked of its host.
type handovers struct {
	mu    sync.Mutex
	said  []string
	fails int // so many calls to come
}

func (h *handovers) note(s string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails > 0 {
		h.fails--
		h.said = append(h.said, s+" fails")
		return errors.New("no")
	}
	h.said = append(h.said, s)
	return nil
}

func (h *handovers) Keep(_ context.Context, on bool) error {
	if on {
		return h.note("keep")
	}
	return h.note("let go")
}

func (h *handovers) PassTo(_ context.Context, peer netip.Addr) error {
	if !peer.IsValid() {
		return h.note("pass to nobody")
	}
	return h.note("pass to " + peer.String())
}

func (h *handovers) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said)
}

// becomes waits until what was said is want.
func (h *handovers) becomes(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		said := h.all()
		if slices.Equal(said, want) {
			return
		}
		if time.Now().After(deadline) || len(said) > len(want) {
			t.Fatalf("said %q, want %q", said, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestALeavingOwnerIsPassedOnBeforeTheAddressMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		host.becomes(t, "let go", "pass to nobody") // what was left behind
		began := time.Now()
		r.local.leaves()
		host.becomes(t, "let go", "pass to nobody", "keep")
		if got := r.says(); got != "0" {
			t.Errorf("the track file says %q before the peers know", got)
		}
		r.becomes(t, "1")
		if took := time.Since(began); took < announce {
			t.Errorf("the address moves after %s", took)
		}
		r.local.Close()
		host.becomes(t, "let go", "pass to nobody", "keep", "let go")
	})
}

// What has to be done for a handover does not wait for the next tick.
func TestAHandoverBeginsAtOnce(t *testing.T) {
	host := &handovers{}
	p := New(Config{Interval: time.Hour, Handover: host})
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { p.handOver(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	host.becomes(t, "let go", "pass to nobody")
	p.local.noteLeaving(&notReadyError{stops: true}, time.Now())
	host.becomes(t, "let go", "pass to nobody", "keep")
}

// A host without the VIP has no connections to hand over, and clients of its own
// that are to reach the owner.
func TestALeavingApiserverThatDoesNotOwnIsUnfitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		r.away.Store(true)
		began := time.Now()
		r.local.leaves()
		r.becomes(t, "1")
		if took := time.Since(began); took > announce {
			t.Errorf("after %s", took)
		}
		time.Sleep(100 * time.Millisecond)
		host.becomes(t, "let go", "pass to nobody")
	})
}

func TestOnlyShutdownIsLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		began := time.Now()
		r.local.says.Store("[-]informer-sync failed: reason withheld\n")
		r.local.status.Store(http.StatusInternalServerError)
		r.becomes(t, "1")
		if took := time.Since(began); took > announce {
			t.Errorf("a sick apiserver keeps the address for %s", took)
		}
		host.becomes(t, "let go", "pass to nobody")
	})
}

func TestALeavingPeerIsPassedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		r.away.Store(true)
		r.peer.leaves()
		host.becomes(t, "let go", "pass to nobody", "pass to 192.0.2.2")
		r.away.Store(false) // the VIP has come here: its strays are the reason for it all
		time.Sleep(100 * time.Millisecond)
		host.becomes(t, "let go", "pass to nobody", "pass to 192.0.2.2")
		began := time.Now()
		r.peer.says.Store("ok")
		r.peer.status.Store(http.StatusOK)
		host.becomes(t, "let go", "pass to nobody", "pass to 192.0.2.2", "pass to nobody")
		// Who leaves is looked at once an interval, the last time up to one before the
		// peer is back; that it is back is seen by a probe every three.
		if took := time.Since(began); took < passLonger-interval || took > passLonger+5*interval || passLonger >= keepLonger {
			t.Errorf("it ends %s after the peer, whose last answers may take %s and whose route is gone after %s", took, passLonger, keepLonger)
		}
	})
}

func TestAnOwnerPassesNothingToAPeerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		r.peer.leaves()
		reaches(t, &r.peer.asked, r.peer.asked.Load()+10)
		host.becomes(t, "let go", "pass to nobody")
	})
}

func TestAHandoverThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{fails: 2}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		host.becomes(t, "let go fails", "pass to nobody fails", "let go", "pass to nobody")
		r.becomes(t, "0")
	})
}

// What is left when the prober ends would outlive the reason for it.
func TestAProberThatEndsLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &handovers{}
		r := startWith(t, http.StatusOK, http.StatusOK, func(c *Config) { c.Handover = host })
		r.becomes(t, "0")
		r.local.leaves()
		host.becomes(t, "let go", "pass to nobody", "keep")
		r.away.Store(true)
		r.peer.leaves()
		host.becomes(t, "let go", "pass to nobody", "keep", "pass to 192.0.2.2")
		r.stop()
		host.becomes(t, "let go", "pass to nobody", "keep", "pass to 192.0.2.2", "let go", "pass to nobody")
	})
}

// keepalived must not go on with what a prober said last that cannot say more.
func TestATrackFileThatCannotBeWrittenEndsTheProber(t *testing.T) {
	local, peer := newAPIServer(t, http.StatusOK), newAPIServer(t, http.StatusOK)
	p := New(Config{
		Local: local.URL, Peers: []string{peer.URL}, File: filepath.Join(t.TempDir(), "missing", "track"),
		Interval: 10 * time.Millisecond, Slow: time.Minute, Rise: 3, Client: &http.Client{}, Handover: &handovers{},
	})
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context(), func() {}) }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}

func TestLeavingOutlastsSilence(t *testing.T) {
	now := time.Now()
	target := &target{}
	down := &notReadyError{status: "500", failed: []string{"shutdown"}, stops: true}
	for _, step := range []struct {
		what   string
		err    error
		leaves bool
	}{
		{"sick", &notReadyError{status: "500", failed: []string{"etcd"}}, false},
		{"says that it stops", down, true},
		{"busy", context.DeadlineExceeded, true},
		{"says so again", down, true},
		{"gone", syscall.ECONNREFUSED, false},
		{"stops", down, true},
		{"its successor starts", &notReadyError{status: "500", failed: []string{"poststarthook/x"}}, false},
		{"stops too", down, true},
		{"is ready", nil, false},
	} {
		target.noteLeaving(step.err, now)
		if target.leaves() != step.leaves {
			t.Errorf("%s: leaves %t", step.what, target.leaves())
		}
	}
}

// Of two peers that leave, the latest had the VIP last; one that nobody sees end is
// not waited for without end.
func TestTheLatestToLeaveIsPassedToForAWhile(t *testing.T) {
	first, second := &target{addr: netip.MustParseAddr("192.0.2.1")}, &target{addr: netip.MustParseAddr("192.0.2.2")}
	host := &handovers{}
	p := &Prober{local: &target{}, peers: []*target{first, second}, cfg: Config{Handover: host, Owns: func() bool { return false }}}
	h := &handover{seen: map[*target]time.Time{}}
	now := time.Now()
	at := func(after time.Duration) {
		p.seeLeaving(h, now.Add(after))
		p.hand(t.Context(), h, now.Add(after))
	}
	second.leaving.set(now)
	at(0)
	first.leaving.set(now.Add(time.Second))
	for after := time.Second; after < passedFor; after += time.Second {
		at(after)
	}
	host.becomes(t, "pass to 192.0.2.2", "pass to 192.0.2.1")
	for after := passedFor; after < passedFor+5*time.Second; after += time.Second {
		at(after)
	}
	host.becomes(t, "pass to 192.0.2.2", "pass to 192.0.2.1", "pass to nobody")
}

// nftables reads the rules as they are written for both families.
func TestNftReadsTheRules(t *testing.T) {
	nft := testneeds.Path(t, "nft")
	testneeds.Root(t) // nft reads rules only for root
	for _, h := range []struct{ vip, peer string }{{"192.0.2.10", "192.0.2.11"}, {"2001:db8::10", "2001:db8::11"}} {
		host := &Host{VIP: netip.MustParseAddr(h.vip), Port: 6443, Interface: "lo"}
		for _, peer := range []netip.Addr{{}, netip.MustParseAddr(h.peer)} {
			cmd := exec.Command(nft, "--check", "-f", "-")
			cmd.Stdin = strings.NewReader(host.rules(peer))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s\n%s", err, out, host.rules(peer))
			}
		}
	}
}

// What the interface says of itself is as before afterwards, even when a prober was
// killed meanwhile.
func TestKeepRestoresTheInterface(t *testing.T) {
	dir := t.TempDir()
	eth0 := filepath.Join(dir, "eth0")
	write := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(eth0, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(eth0, 0o700); err != nil {
		t.Fatal(err)
	}
	write("arp_ignore", "0\n")
	write("arp_announce", "1\n")
	says := func(want string) {
		t.Helper()
		var got []string
		for _, name := range []string{"arp_ignore", "arp_announce"} {
			b, err := os.ReadFile(filepath.Join(eth0, name))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimSpace(string(b)))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("arp_ignore and arp_announce are %v, want %s", got, want)
		}
	}
	does := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	prober := func() *Host {
		return &Host{VIP: netip.MustParseAddr("192.0.2.10"), Interface: "eth0", settings: dir, saved: filepath.Join(dir, "saved")}
	}
	does(prober().restore) // as when the first one starts
	says("0 1")
	does(prober().hush) // and is killed
	says("1 2")
	does(prober().hush) // the apiserver is still leaving
	says("1 2")
	does(prober().restore)
	says("0 1")
	write("arp_announce", "2\n") // somebody's own wish
	does(prober().restore)
	says("0 2")
}

func TestHostOf(t *testing.T) {
	for in, want := range map[string]string{
		"https://192.0.2.1:6443": "192.0.2.1", "https://[2001:db8::1]:6443": "2001:db8::1", "https://name:6443": "invalid IP", "": "invalid IP",
	} {
		if got := hostOf(in).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
