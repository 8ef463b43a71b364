package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/remote/faultproxy"
	"hactl/internal/remote/sshdtest"
	"hactl/internal/testneeds"
	"hactl/inventory"
)

// world is an in-process sshd, and an inventory with one host that leads to it.
type world struct {
	srv   *sshdtest.Server
	proxy *faultproxy.Proxy
	inv   *inventory.Inventory
	opts  Options
	env   Environment // of opts; changes to it take effect
	owner string
}

func newWorld(t testing.TB, cfg sshdtest.Config) *world {
	t.Helper()
	testneeds.Linux(t)
	testneeds.Tool(t, "timeout")
	w := &world{srv: sshdtest.Start(t, cfg), owner: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())}
	no := false
	w.inv = &inventory.Inventory{Hosts: []inventory.Host{{
		Name: "master-1", Address: w.srv.Host,
		SSH: inventory.SSH{User: "tester", Port: w.srv.Port, Key: w.srv.ClientKey, Sudo: &no, KnownHosts: w.srv.KnownHosts(t, "")},
	}}}
	w.env = Environment{Home: t.TempDir(), Getenv: func(string) string { return "" }}
	w.opts = Options{Environment: &w.env, keepAlive: time.Second, backoff: 10 * time.Millisecond,
		lockPath: filepath.Join(t.TempDir(), "hactl.lock")}
	return w
}

func (w *world) host() *inventory.Host { return &w.inv.Hosts[0] }

// throughProxy puts a fault proxy between; known_hosts names the proxy then.
func (w *world) throughProxy(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.New(w.srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	host, port, _ := net.SplitHostPort(p.Addr)
	w.host().Address = host
	w.host().SSH.Port, _ = strconv.Atoi(port)
	w.host().SSH.KnownHosts = w.srv.KnownHosts(t, p.Addr)
	w.proxy = p
	return p
}

func (w *world) connect(t testing.TB) *Conn {
	t.Helper()
	c, err := Connect(t.Context(), w.inv, w.host(), w.opts)
	if err != nil {
		t.Fatalf("connect: %v (hint: %s)", err, HintOf(err))
	}
	t.Cleanup(c.Close)
	return c
}

func mustRun(t *testing.T, h Host, script string) string {
	t.Helper()
	res, err := h.Run(t.Context(), Cmd{Script: script})
	if err != nil {
		t.Fatalf("run %q: %v (hint: %s)", script, err, HintOf(err))
	}
	return string(res.Stdout)
}

// wantUnreachable checks the three things that an error owes a person.
func wantUnreachable(t *testing.T, err error, text, hint string) {
	t.Helper()
	var u *UnreachableError
	if !errors.As(err, &u) {
		t.Fatalf("error is %T %v, want an UnreachableError", err, err)
	}
	if u.Host != "master-1" {
		t.Errorf("error names host %q", u.Host)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error %q does not say %q", err, text)
	}
	if !strings.Contains(HintOf(err), hint) || hint == "" && HintOf(err) != "" {
		t.Errorf("hint is %q, want %q", HintOf(err), hint)
	}
}

// hang is a bound that only a hang can miss.
const hang = time.Minute

// eventually waits for a state of the world outside of hactl.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", hang, what)
}

// begun waits until a command says so on its output.
type begun struct {
	ch   chan struct{}
	once sync.Once
}

func newBegun() *begun { return &begun{ch: make(chan struct{})} }

func (b *begun) see(line string) {
	if line == "begun" {
		b.once.Do(func() { close(b.ch) })
	}
}

func write(t *testing.T, file, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// byHand is an expiry that a test triggers: the command's time limit is over when
// the test says so.
type byHand struct{ over chan struct{} }

func newByHand() *byHand { return &byHand{over: make(chan struct{})} }

func (b *byHand) expire(ctx context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	e := &expired{Context: ctx}
	go func() {
		select {
		case <-b.over:
			e.late.Store(true)
			cancel()
		case <-ctx.Done():
		}
	}()
	return e, cancel
}

// expired is a context whose deadline a test has let pass.
type expired struct {
	context.Context
	late atomic.Bool
}

// Err is DeadlineExceeded after the deadline.
func (e *expired) Err() error {
	if e.late.Load() {
		return context.DeadlineExceeded
	}
	return e.Context.Err()
}

var bg = context.Background()
