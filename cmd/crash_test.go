package cmd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki/pkitest"
)

// crashWorld is masters and workers that go through the real list of stages.
type crashWorld struct {
	s       *session
	bundle  *bundle.Bundle
	prober  string
	hosts   []*rootHost
	run     *serial
	etcd    string
	apiCert tls.Certificate
}

func newCrashWorld(t *testing.T, masters, workers int) *crashWorld {
	t.Helper()
	inv := inventorytest.Load(t, inventorytest.Text(masters, workers, false))
	w0 := inv.Workers()[0]
	w0.Labels, w0.Taints = map[string]string{"disk": "ssd"}, []inventory.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}}
	m := pkitest.Material(t, inv)
	w := &crashWorld{run: &serial{}, bundle: tinyBundle(t), prober: filepath.Join(t.TempDir(), "hactl-prober")}
	must(t, os.WriteFile(w.prober, []byte("the prober"), 0o755))
	w.etcd, w.apiCert = serveEtcd(t, inv, m), apiCertificate(t, inv, m)
	w.s = &session{inv: inv, material: m, hosts: plan.Hosts{}, facts: map[string]*facts.Brief{}}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		w.hosts = append(w.hosts, newRootHost(t, h.Name, w.run))
		w.s.facts[h.Name] = &facts.Brief{PkgManager: "apt", CgroupV2: true, Interfaces: []facts.Interface{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.PrefixFrom(h.PrivateAddress, 24)}},
		}}
	}
	c, done := w.on(t, w.hosts)
	t.Cleanup(done)
	return c
}

// on puts the world on these machines, which share a serial, until done.
func (w *crashWorld) on(t *testing.T, hosts []*rootHost) (c *crashWorld, done func()) {
	t.Helper()
	world, s := *w, *w.s
	c = &world
	c.s, c.hosts, c.run, s.hosts = &s, hosts, hosts[0].run, plan.Hosts{}
	api := c.serveAPI(t)
	of := func(addr string) *rootHost {
		for i, h := range s.inv.Hosts {
			if ip, _, _ := net.SplitHostPort(addr); ip == h.PrivateAddress.String() {
				return hosts[i]
			}
		}
		panic("nobody has " + addr)
	}
	for _, h := range hosts {
		s.hosts[h.name] = h
		h.serves = serves{api: api.Listener.Addr().String(), etcd: w.etcd, of: of}
	}
	s.control = &kubeadm.Control{Inv: s.inv, Hosts: s.hosts, PKI: s.material}
	return c, func() { s.control.Close(); api.Close() }
}

// tinyBundle has every artifact of a real one, each a few bytes long.
func tinyBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{Dir: t.TempDir()}
	add := func(a bundle.Artifact, content string) {
		a.Version, a.File, a.SHA256, a.Size = "v1", a.Name, hexSum([]byte(content)), int64(len(content))
		must(t, os.WriteFile(filepath.Join(b.Dir, a.File), []byte(content), 0o600))
		b.Artifacts = append(b.Artifacts, a)
	}
	masters := []string{string(inventory.ControlPlane)}
	for name, dest := range map[string]string{"kubelet": "/usr/bin/kubelet", "containerd": "/usr/local/bin/containerd"} {
		add(bundle.Artifact{Name: name, Kind: bundle.Binary, Dest: dest}, "program "+name)
	}
	add(bundle.Artifact{Name: "etcd", Kind: bundle.Binary, Dest: "/usr/local/bin/etcd", Roles: masters}, "program etcd")
	for _, name := range []string{"kube-apiserver", "pause", "coredns", "kube-proxy"} {
		ref := "registry.invalid/" + name + ":v1"
		add(bundle.Artifact{Name: name, Kind: bundle.Image, Image: ref}, ref)
	}
	return b
}

// makePlan looks at the hosts as plan and up do. The quorum, which takes real
// members, is there as soon as the member runs.
func (w *crashWorld) makePlan(ctx context.Context) (*plan.Plan, error) {
	c := &cluster{session: w.s, bundle: w.bundle, prober: w.prober}
	var err error
	if c.disks, err = etcd.Observe(ctx, w.s.inv, w.s.hosts); err != nil {
		return nil, err
	}
	seen, err := kubeadm.LookForSubnets(ctx, w.s.inv, w.s.hosts)
	if err != nil {
		return nil, err
	}
	if c.subnets, err = seen.Assign(w.s.inv, w.s.facts); err != nil {
		return nil, err
	}
	if err := c.etcdPlan().Validate(); err != nil {
		return nil, err
	}
	stages, err := c.stages()
	if err != nil {
		return nil, err
	}
	token := c.etcdPlan().Token()
	for i := range stages {
		for j := range stages[i].Steps {
			if st := &stages[i].Steps[j]; strings.HasSuffix(string(st.ID), "/quorum") {
				st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
					return env.Host.Put(ctx, remote.File{Path: "/etc/etcd/established", Content: []byte(token + "\n"), Mode: 0o644, Owner: "etcd:etcd"})
				}
			}
		}
	}
	return plan.Make(ctx, stages, w.s.hosts, plan.Discard)
}

// up is plan and apply.
func (w *crashWorld) up(ctx context.Context) (*plan.Applied, error) {
	p, err := w.makePlan(ctx)
	if err != nil {
		return nil, err
	}
	return p.Apply(ctx, w.s.hosts, plan.Discard, nil)
}

func (w *crashWorld) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, h := range w.hosts {
		for line := range strings.Lines(h.state(t)) {
			b.WriteString(h.name + " " + line)
		}
	}
	return b.String()
}

// snapshot copies every machine's disk.
func (w *crashWorld) snapshot(t *testing.T, dir string) []*rootHost {
	t.Helper()
	var out []*rootHost
	run := &serial{}
	for _, h := range w.hosts {
		c := &rootHost{name: h.name, run: run, root: filepath.Join(dir, h.name)}
		h.copyTo(t, c.root)
		out = append(out, c)
	}
	return out
}

// cutPoint is hactl's death after one command: what the disks were then.
type cutPoint struct {
	after string
	hosts []*rootHost
}

// A run that is cut after any command, which is also before the next one, and
// is started again ends where the uncut run ends, and then has nothing to do.
// Commands that change nothing (looks) leave the state of the one before them.
func TestRunCutAtAnyCommandIsCompletedByTheNext(t *testing.T) {
	one, three := 2, 24
	switch {
	case os.Getenv("HACTL_SWEEP") != "":
		one, three = 1, 1
	case testing.Short():
		one = 8
	}
	// A sample, unless all points are asked for; one takes four times as long with
	// three masters.
	t.Run("a master and a worker", func(t *testing.T) { cutEverywhere(t, 1, 1, one) })
	t.Run("three masters and a worker", func(t *testing.T) { cutEverywhere(t, 3, 1, three) })
}

// cutEverywhere tries one of so many points. Until etcd has a quorum hosts do
// not depend on one another; after that more are tried, among them those at
// which only some of the masters know of the quorum.
func cutEverywhere(t *testing.T, masters, workers, every int) {
	t.Helper()
	w := newCrashWorld(t, masters, workers)
	dir := t.TempDir()
	points := []cutPoint{{"the first command", w.snapshot(t, filepath.Join(dir, "0"))}}
	commands, changing, together := 0, 0, 0
	w.run.after = func(host, title string) {
		commands++
		if title == "look" || strings.HasPrefix(title, "wait for ") {
			return
		}
		changing++
		if together > 0 || title == "write /etc/etcd/established" {
			together++
		}
		if changing%every == 0 || together == 1 || together == 2 || together > 0 && together%min(4, every) == 0 {
			points = append(points, cutPoint{host + ": " + title, w.snapshot(t, filepath.Join(dir, fmt.Sprint(len(points))))})
		}
	}
	applied, err := w.up(t.Context())
	must(t, err)
	w.run.after = nil
	want := w.state(t)
	if p, err := w.makePlan(t.Context()); err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		t.Fatalf("after the uncut run: %v", problems(p, err))
	}
	if got := w.state(t); got != want {
		t.Fatalf("looking changed something: %s", difference(want, got))
	}
	if together == 0 {
		t.Error("no command of the run is the first that needs a quorum")
	}
	var wg sync.WaitGroup
	slots := make(chan bool, 3)
	for i, at := range points {
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			c, done := w.on(t, at.hosts)
			defer done()
			if msg := c.resume(t, want); msg != "" {
				t.Errorf("cut %d, after %s: %s", i, at.after, msg)
			}
		})
	}
	wg.Wait()
	t.Logf("%d steps, %d commands, %d of them change something; cut and completed at %d points (after a command is before the next)",
		applied.Done, commands, changing, len(points))
}

// resume runs up again and says what is wrong then, or "".
func (w *crashWorld) resume(t *testing.T, want string) string {
	t.Helper()
	if _, err := w.up(t.Context()); err != nil {
		return "the next run fails: " + err.Error()
	}
	if p, err := w.makePlan(t.Context()); err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		return "after the next run: " + problems(p, err)
	}
	if got := w.state(t); got != want {
		return "another end state: " + difference(want, got)
	}
	return ""
}

func problems(p *plan.Plan, err error) string {
	if err == nil {
		err = p.Err()
	}
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, it := range p.Pending() {
		out = append(out, string(it.Step.ID)+" would "+it.Change.Summary)
	}
	return strings.Join(out, "; ")
}

func difference(want, got string) string {
	var out []string
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			out = append(out, "- "+line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			out = append(out, "+ "+line)
		}
	}
	return "\n" + strings.Join(out, "")
}
