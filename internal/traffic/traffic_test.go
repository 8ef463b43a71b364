package traffic

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/wait"
)

// peer is a probe with this name at an address of loopback; its port.
func peer(t *testing.T, node string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go accept(t.Context(), l, Probe{Node: node}.greet)
	return l.Addr().(*net.TCPAddr).Port
}

// service is an apiserver at an address of loopback, and the CA that it shows.
func service(t *testing.T) (addr, ca string) {
	t.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}

func resolves(found ...string) func(context.Context, string) ([]string, error) {
	return func(context.Context, string) ([]string, error) {
		if len(found) == 0 {
			return nil, &net.DNSError{Err: "no such host", Server: "10.96.0.10:53"}
		}
		return found, nil
	}
}

func TestProbeSaysWhatItDoesNotReach(t *testing.T) {
	port := peer(t, "worker-1")
	addr, ca := service(t)
	for name, c := range map[string]struct {
		peer    Peer
		ca      string
		resolve func(context.Context, string) ([]string, error)
		want    Answer
	}{
		"all is well": {Peer{"worker-1", "127.0.0.1"}, ca, resolves("127.0.0.1"), Answer{}},
		"another host answers in its place": {Peer{"worker-2", "127.0.0.1"}, ca, resolves("127.0.0.1"),
			Answer{Peers: map[string]string{"worker-2": `"worker-1" answers in its place`}}},
		"nothing answers there": {Peer{"worker-1", "127.0.0.2"}, ca, resolves("127.0.0.1"),
			Answer{Peers: map[string]string{"worker-1": "connection refused"}}},
		"the API is another cluster's": {Peer{"worker-1", "127.0.0.1"}, otherCA(t), resolves("127.0.0.1"), Answer{API: "certificate"}},
		"DNS knows another address":    {Peer{"worker-1", "127.0.0.1"}, ca, resolves("10.0.0.1"), Answer{DNS: "is 10.0.0.1, not 127.0.0.1"}},
		"DNS knows nothing":            {Peer{"worker-1", "127.0.0.1"}, ca, resolves(), Answer{DNS: "no such host (10.96.0.10:53)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Probe{Node: "me", Service: addr, Port: port, Resolve: c.resolve}.Try(t.Context(), Question{Peers: []Peer{c.peer}, CA: c.ca, Name: "kubernetes."})
			if !says(got.Peers[c.peer.Node], c.want.Peers[c.peer.Node]) || !says(got.API, c.want.API) || !says(got.DNS, c.want.DNS) || got.Node != "me" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// says reports whether got is empty where nothing is wanted, and has what is wanted.
func says(got, want string) bool { return (got == "") == (want == "") && strings.Contains(got, want) }

func otherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// While a host is being made, kube-proxy refuses until it knows the service.
func TestProbeWaitsForWhatBeginsToServe(t *testing.T) {
	addr, begin := bound(t)
	var asked atomic.Int32
	resolve := func(context.Context, string) ([]string, error) {
		if asked.Add(1) < 3 {
			return nil, &net.DNSError{Err: "no such host"}
		}
		return []string{"127.0.0.1"}, nil
	}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.StartTLS()
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	begins := func(ctx context.Context, name string) ([]string, error) {
		if asked.Load() == 1 { // the API was refused by now, or is not asked yet
			l := begin()
			go accept(t.Context(), l, func(c net.Conn) { pass(c, srv.Listener.Addr().String()) })
		}
		return resolve(ctx, name)
	}
	got := Probe{Node: "me", Service: addr, Resolve: begins}.Try(t.Context(), Question{CA: ca, Name: "kubernetes.", Slow: wait.Most})
	if got.API != "" || got.DNS != "" || asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", got, asked.Load())
	}
}

// bound is an address of loopback that refuses connections until begin is called, and that no
// other program can take meanwhile.
func bound(t *testing.T) (addr string, begin func() net.Listener) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "bound")
	t.Cleanup(func() { _ = f.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port)), func() net.Listener {
		if err := syscall.Listen(fd, 8); err != nil {
			t.Error(err)
		}
		l, err := net.FileListener(f)
		if err != nil {
			t.Error(err)
		}
		return l
	}
}

// pass connects a client with a server.
func pass(c net.Conn, addr string) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	go func() { _, _ = io.Copy(up, c) }()
	_, _ = io.Copy(c, up)
}

func TestWrongAnswerIsNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		for _, c := range []struct {
			errs  []error // of the tries, the last of all further ones
			tries int
		}{{[]error{nil}, 1}, {[]error{errors.New("another answers")}, 1}, {[]error{refused, refused, nil}, 3}, {[]error{refused, &net.DNSError{}, errors.New("another answers")}, 3}, {[]error{refused}, 20}} {
			ctx, cancel := context.WithTimeout(t.Context(), 980*time.Millisecond)
			defer cancel()
			tries := 0
			err := untilAnswered(ctx, func() error { tries++; return c.errs[min(tries, len(c.errs))-1] })
			if want := c.errs[len(c.errs)-1]; !errors.Is(err, want) || tries != c.tries {
				t.Errorf("%v after %d tries", err, tries)
			}
		}
	})
}

// Packets that are too large for a link on the way are lost without a word: a
// connection comes about, and what matters does not arrive.
func TestLostLargePacketsAreNoticed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go accept(t.Context(), l, func(c net.Conn) { _, _ = c.Write([]byte("hactl-probe worker-1\n")) })
	err = Probe{Port: l.Addr().(*net.TCPAddr).Port}.meet(t.Context(), Peer{"worker-1", "127.0.0.1"})
	if err == nil || !strings.Contains(err.Error(), "21 of 16384 bytes") {
		t.Error(err)
	}
}

func TestHostAsksItsProbe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	addr, ca := service(t)
	probe := Probe{Node: "worker-1", Service: addr, Port: peer(t, "worker-2"), Resolve: resolves("127.0.0.1")}
	others, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { probe.Serve(ctx, others, l); close(served) }()
	q, err := json.Marshal(Question{Peers: []Peer{{"worker-2", "127.0.0.1"}}, CA: ca, Name: "kubernetes."})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Ask(t.Context(), socket, bytes.NewReader(q), &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got != `{"node":"worker-1","peers":{"worker-2":""},"api":"","dns":""}` {
		t.Error(got)
	}
	cancel()
	<-served
	if err := Ask(t.Context(), socket, bytes.NewReader(q), &out); err == nil {
		t.Error("a probe that ended answers")
	}
}

func TestErrorsAreShort(t *testing.T) {
	for want, err := range map[string]error{
		"":                                       nil,
		"no answer within 2s":                    &net.OpError{Op: "dial", Err: context.DeadlineExceeded},
		"no answer from 10.96.0.10:53 within 2s": &net.DNSError{Server: "10.96.0.10:53", IsTimeout: true},
		"x":                                      errors.New("x"),
	} {
		if got := text(t.Context(), err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
