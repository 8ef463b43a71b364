package prober

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/testneeds"
)

// member is what answers, or does not, where a peer's etcd should be.
type member struct {
	state  atomic.Int32 // 0 answers, 1 refuses, 2 is silent, 3 has no route
	resets atomic.Int32
}

func (m *member) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	switch m.state.Load() {
	case 0:
		here, there := net.Pipe()
		_ = there.Close()
		return here, nil
	case 1:
		return nil, syscall.ECONNREFUSED
	case 2:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, syscall.EHOSTUNREACH
}

func (m *member) reset(context.Context, string) error {
	m.resets.Add(1)
	return nil
}

func TestConnectionsToAMemberAreEndedOnlyWhenItsHostIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := patience{suspect: 50 * time.Millisecond, answer: 50 * time.Millisecond, again: 150 * time.Millisecond}
		n := lan{}
		local, peer, third := n.newAPIServer(t, http.StatusOK), n.newAPIServer(t, http.StatusOK), n.newAPIServer(t, http.StatusOK)
		m := &member{}
		ctx, cancel := context.WithCancel(t.Context())
		p := New(Config{
			Local: local.URL, Peers: []string{peer.URL, third.URL}, Etcd: []string{"192.0.2.2:2379", "192.0.2.3:2379"}, Dial: m.dial, Reset: m.reset,
			File: filepath.Join(t.TempDir(), "track"), Interval: 10 * time.Millisecond, Slow: time.Minute, Rise: 3, Client: n.client(), patience: w,
		})
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx, func() {}) }()
		defer func() { cancel(); <-ended }()

		m.state.Store(2)
		time.Sleep(2 * w.suspect)
		if n := m.resets.Load(); n != 0 {
			t.Fatalf("%d resets while the apiserver beside it answers", n)
		}
		peer.hang.Store(true)
		for _, c := range []struct {
			state int32
			want  bool
		}{{0, false}, {1, false}, {2, true}, {3, true}, {0, false}} {
			m.state.Store(c.state)
			time.Sleep(w.again + w.answer + w.suspect) // what was begun before has ended
			before := m.resets.Load()
			time.Sleep(2*w.again + w.answer)
			if n := m.resets.Load() - before; n > 0 != c.want || n > 3 {
				t.Errorf("state %d: %d resets, at most 3 are right", c.state, n)
			}
		}
		m.state.Store(2)
		third.status.Store(http.StatusInternalServerError) // now nobody is left to turn to
		for end := time.Now().Add(20 * time.Second); p.peers[1].healthy(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the third apiserver stays healthy")
			}
		}
		time.Sleep(w.again + w.answer + w.suspect)
		before := m.resets.Load()
		time.Sleep(2*w.again + w.answer)
		if n := m.resets.Load() - before; n != 0 {
			t.Errorf("%d resets on a host that is cut off itself", n)
		}
	})
}

// With a probe every minute only the end of the connection can tell.
func TestDeathOfTheLocalAPIServerIsSeenAtOnce(t *testing.T) {
	local, peer := newAPIServer(t, http.StatusOK), newAPIServer(t, http.StatusOK)
	dial, lost := WatchEnds((&net.Dialer{}).DialContext)
	file := filepath.Join(t.TempDir(), "track")
	ctx, cancel := context.WithCancel(t.Context())
	p := New(Config{
		Local: local.URL, Peers: []string{peer.URL}, File: file, Lost: lost,
		Interval: time.Minute, Slow: time.Minute, Rise: 1, Client: &http.Client{Transport: &http.Transport{DialContext: dial}},
	})
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, func() {}) }()
	defer func() { cancel(); <-ended }()
	wait := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			b, _ := os.ReadFile(file)
			if string(b) == want && p.local.healthy() == (want == "0\n") && p.peers[0].healthy() {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the file says %q, want %q", b, want)
			}
		}
	}
	wait("0\n")
	local.Listener.Close() // first, or the probe that follows gets another connection
	local.CloseClientConnections()
	wait("1\n")
}

// The filter is handed to ss itself, without --kill, which needs root: of two
// connections to two ports, in either family, it finds the one that is meant.
func TestConnectionsOfEitherFamilyAreFound(t *testing.T) {
	ss := testneeds.Path(t, "ss")
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			meant, other := connected(t, host), connected(t, host)
			filter, err := connectionsTo(meant)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), ss, append([]string{"--tcp", "--no-header", "--numeric"}, filter...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("ss: %v: %s", err, out)
			}
			_, port, _ := net.SplitHostPort(meant)
			_, otherPort, _ := net.SplitHostPort(other)
			if found := strings.Count(string(out), "\n"); found != 1 || !strings.Contains(string(out), ":"+port) || strings.Contains(string(out), ":"+otherPort) {
				t.Errorf("%v finds %q", filter, out)
			}
		})
	}
}

// connected returns an address of host to which this process has a connection.
func connected(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return l.Addr().String()
}
