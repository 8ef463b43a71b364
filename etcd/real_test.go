//go:build e2e

package etcd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/pki"
)

// realMember is an etcd process on loopback with the flags that matter here.
type realMember struct {
	name, dir           string
	client, peer, probe string
	cmd                 *exec.Cmd
	host                *tunnel
}

// etcdBinary finds etcd in the bundle that HACTL_BUNDLE names.
func etcdBinary(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HACTL_BUNDLE")
	if dir == "" {
		t.Fatal("HACTL_BUNDLE does not name a bundle; make e2e sets it")
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Artifacts []struct{ Name, File string }
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for _, a := range m.Artifacts {
		if a.Name == "etcd" {
			return filepath.Join(dir, filepath.FromSlash(a.File))
		}
	}
	t.Fatal("the bundle has no etcd")
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newReal(t *testing.T, m *pki.Material, name string) *realMember {
	t.Helper()
	r := &realMember{name: name, dir: t.TempDir(), client: freePort(t), peer: freePort(t), probe: freePort(t)}
	r.host = &tunnel{name: name, to: r.client}
	server, err := m.EtcdServer(name)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := m.EtcdPeer(name)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{
		"ca.crt": m.EtcdCA.CertPEM, "server.crt": server.CertPEM, "server.key": server.KeyPEM, "peer.crt": peer.CertPEM, "peer.key": peer.KeyPEM,
	} {
		if err := os.WriteFile(filepath.Join(r.dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *realMember) start(t *testing.T, binary, state string, all ...*realMember) {
	t.Helper()
	var initial []string
	for _, m := range all {
		initial = append(initial, m.name+"=https://"+m.peer)
	}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := func(f string) string { return filepath.Join(r.dir, f) }
	r.cmd = exec.Command(binary, "--name="+r.name, "--data-dir="+p("data"),
		"--listen-client-urls=https://"+r.client, "--advertise-client-urls=https://"+r.client,
		"--listen-peer-urls=https://"+r.peer, "--initial-advertise-peer-urls=https://"+r.peer,
		"--initial-cluster="+strings.Join(initial, ","), "--initial-cluster-state="+state, "--initial-cluster-token=test",
		"--client-cert-auth", "--trusted-ca-file="+p("ca.crt"), "--cert-file="+p("server.crt"), "--key-file="+p("server.key"),
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+p("ca.crt"), "--peer-cert-file="+p("peer.crt"), "--peer-key-file="+p("peer.key"),
		"--listen-metrics-urls=http://"+r.probe)
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			text, _ := os.ReadFile(p("log"))
			t.Logf("%s: …%s", r.name, text[max(0, len(text)-2000):])
		}
	})
}

func (r *realMember) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

func TestRealEtcd(t *testing.T) {
	binary := etcdBinary(t)
	m := material(t, 4)
	var all []*realMember
	for i := 1; i <= 4; i++ {
		all = append(all, newReal(t, m, fmt.Sprintf("m%d", i)))
	}
	first := all[:3]
	for _, r := range first {
		r.start(t, binary, "new", first...)
	}
	c := connectReal(t, m, first)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	start := time.Now()
	if err := c.WaitAll(ctx, 60*time.Second, t.Logf); err != nil {
		t.Fatal(err)
	}
	t.Logf("all healthy after %s", time.Since(start).Round(time.Millisecond))
	if err := c.WriteCheck(ctx); err != nil {
		t.Error(err)
	}
	probe := &tunnel{name: "m1", to: all[0].probe}
	if err := WaitReady(ctx, probe, 10*time.Second); err != nil {
		t.Error(err)
	}
	checkRefusals(t, m, first[0])
	leaderMoves(ctx, t, c)
	if s, err := c.Snapshot(ctx, io.Discard); err != nil || s.Bytes < 1000 {
		t.Errorf("snapshot %+v: %v", s, err)
	}
	replaceDead(ctx, t, c, m, binary, all)
}

func connectReal(t *testing.T, m *pki.Material, members []*realMember) *Cluster {
	t.Helper()
	config, err := m.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	var list []Member
	for _, r := range members {
		list = append(list, Member{Name: r.name, Host: r.host})
	}
	c, err := Dial(context.Background(), list, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func checkRefusals(t *testing.T, m *pki.Material, r *realMember) {
	t.Helper()
	for name, change := range map[string]func(*tls.Config){
		"no client certificate": func(c *tls.Config) { c.Certificates = nil },
		"client of another CA": func(c *tls.Config) {
			other, err := material(t, 1).TLSConfig()
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = other.Certificates
		},
	} {
		config, err := m.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		change(config)
		c, err := Dial(context.Background(), []Member{{Name: r.name, Host: r.host}}, config)
		if err != nil {
			t.Fatal(err)
		}
		if s := c.Status(context.Background()); s.Members[0].Reachable {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %s", name, s.Members[0].Problem)
		}
		c.Close()
	}
}

func leaderMoves(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	for _, name := range []string{"m1", "m2", "m3"} {
		if err := c.MoveLeader(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitAll(ctx, 10*time.Second, nil); err != nil {
			t.Fatal(err)
		}
		if who, err := c.Leader(ctx); who != name || err != nil {
			t.Errorf("leader %s, %v, want %s", who, err, name)
		}
	}
}

// replaceDead kills m1, sees the guard refuse a second one, and puts m4 in its
// place.
func replaceDead(ctx context.Context, t *testing.T, c *Cluster, m *pki.Material, binary string, all []*realMember) {
	t.Helper()
	dead := c.Status(ctx).Member("m1").ID
	if err := c.SurvivesStopping(ctx, "m1"); err != nil {
		t.Error(err)
	}
	all[0].kill()
	all[0].host.fail(errors.New("connection refused"))
	if err := c.WaitQuorum(ctx, 20*time.Second, t.Logf); err != nil {
		t.Fatal(err)
	}
	var q *QuorumError
	if err := c.SurvivesStopping(ctx, "m2"); !errors.As(err, &q) {
		t.Errorf("a second member down: got %v", err)
	}
	if err := c.SurvivesStopping(ctx, "m1"); err != nil {
		t.Errorf("the dead member: %v", err)
	}
	if err := c.Remove(ctx, dead); err != nil {
		t.Fatal(err)
	}
	fresh := all[3]
	id, err := c.AddLearner(ctx, "https://"+fresh.peer)
	if err != nil {
		t.Fatal(err)
	}
	fresh.start(t, binary, "existing", all[1], all[2], fresh)
	grown := connectReal(t, m, all[1:])
	if err := grown.Promote(ctx, id, 60*time.Second, t.Logf); err != nil {
		t.Fatal(err)
	}
	if err := grown.WaitAll(ctx, 20*time.Second, t.Logf); err != nil {
		t.Fatal(err)
	}
	if err := grown.WriteCheck(ctx); err != nil {
		t.Error(err)
	}
}
