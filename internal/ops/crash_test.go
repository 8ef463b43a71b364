package ops

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"hactl/internal/fakehost"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/testneeds"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki"
	"hactl/pki/pkitest"
)

// crashWorld is masters and workers that go through the real list of stages.
type crashWorld struct {
	s         *session
	bundle    *bundle.Bundle
	prober    string
	proberSum string
	hosts     []*rootHost
	etcd      string
	apiCert   tls.Certificate
	lanes     bool // a host's lanes run side by side, else one after the other
}

// newCrashWorld is a cluster without its machines.
func newCrashWorld(t *testing.T, masters, workers int) *crashWorld {
	t.Helper()
	text := inventorytest.Text(masters, workers, false)
	inv := inventorytest.Load(t, text)
	w0 := inv.Workers()[0]
	w0.Labels, w0.Taints = map[string]string{"disk": "ssd"}, []inventory.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}}
	m := materialOf(t, text, inv)
	w := &crashWorld{bundle: tinyBundle(t), prober: filepath.Join(t.TempDir(), "hactl-prober")}
	must(t, os.WriteFile(w.prober, []byte("the prober"), 0o755))
	w.proberSum = fmt.Sprintf("%x", sha256.Sum256([]byte("the prober")))
	w.etcd, w.apiCert = serveEtcd(t, inv, m), apiCertificate(t, inv, m)
	w.s = &session{inv: inv, material: m, hosts: plan.Hosts{}, facts: map[string]*facts.Brief{}}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		w.s.facts[h.Name] = &facts.Brief{PkgManager: "apt", CgroupV2: true, Interfaces: []facts.Interface{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.PrefixFrom(h.PrivateAddress, 24)}},
		}}
	}
	return w
}

// materials are the keys and certificates of inventories by their text. Worlds of the same
// hosts have the same ones, and so the same files: what one test let a shell run, the
// others remember.
var materials sync.Map // to func() *pki.Material

func materialOf(t *testing.T, text string, inv *inventory.Inventory) *pki.Material {
	t.Helper()
	of, _ := materials.LoadOrStore(text, sync.OnceValue(func() *pki.Material { return pkitest.Material(t, inv) }))
	return of.(func() *pki.Material)()
}

// fresh is the world on machines that were just installed, whose commands run one
// at a time.
func (w *crashWorld) fresh(t *testing.T, sh fakehost.Shell) *crashWorld {
	t.Helper()
	o := &fakehost.Order{}
	var hosts []*rootHost
	for i := range w.s.inv.Hosts {
		hosts = append(hosts, newRootHost(w.s.inv.Hosts[i].Name, sh, o, fakehost.Fresh()))
	}
	c, done := w.on(t, hosts)
	t.Cleanup(done)
	return c
}

// on puts the world on these machines until done.
func (w *crashWorld) on(t *testing.T, hosts []*rootHost) (c *crashWorld, done func()) {
	t.Helper()
	world, s := *w, *w.s
	c = &world
	c.s, c.hosts, s.hosts = &s, hosts, plan.Hosts{}
	api := c.serveAPI(t)
	machines := s.inv.Hosts
	of := func(addr string) *rootHost {
		for i, h := range machines {
			if ip, _, _ := net.SplitHostPort(addr); ip == h.PrivateAddress.String() || ip == s.inv.VIP.Address.String() {
				return hosts[i]
			}
		}
		panic("no host has " + addr)
	}
	for _, h := range hosts {
		s.hosts[h.name] = h
		h.serves = serves{api: api.Listener.Addr().String(), etcd: w.etcd, of: of}
	}
	s.control = &kubeadm.Control{Inv: s.inv, Hosts: s.hosts, PKI: s.material}
	return c, func() { s.control.Close(); api.Close() }
}

// tinyBundle has every artifact of a real one, each a few bytes long.
func tinyBundle(t *testing.T) *bundle.Bundle { return tinyBundleOf(t, "v1") }

// tinyBundleOf is that of a version: each artifact has other content than in another version.
func tinyBundleOf(t *testing.T, version string) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{Dir: t.TempDir()}
	add := func(a bundle.Artifact, content string) {
		a.Version, a.File, a.SHA256, a.Size = version, a.Name, hexSum([]byte(content)), int64(len(content))
		must(t, os.WriteFile(filepath.Join(b.Dir, a.File), []byte(content), 0o600))
		b.Artifacts = append(b.Artifacts, a)
	}
	masters := []string{string(inventory.ControlPlane)}
	for name, dest := range map[string]string{"kubelet": "/usr/bin/kubelet", "containerd": "/usr/local/bin/containerd"} {
		add(bundle.Artifact{Name: name, Kind: bundle.Binary, Dest: dest}, "program "+name+" "+version)
	}
	add(bundle.Artifact{Name: "etcd", Kind: bundle.Binary, Dest: "/usr/local/bin/etcd", Roles: masters}, "program etcd "+version)
	for _, name := range []string{"kube-apiserver", "pause", "coredns", "kube-proxy"} {
		ref := "registry.invalid/" + name + ":" + version
		add(bundle.Artifact{Name: name, Kind: bundle.Image, Image: ref}, ref)
	}
	return b
}

// makePlan looks at the hosts as plan and up do.
func (w *crashWorld) makePlan(ctx context.Context) (*plan.Plan, error) {
	c, err := w.cluster(ctx)
	if err != nil {
		return nil, err
	}
	stages, err := c.stages()
	if err != nil {
		return nil, err
	}
	return w.planOf(ctx, c, stages)
}

// planOf is the plan of stages. The quorum, which takes real members, is there as soon as
// the member runs.
func (w *crashWorld) planOf(ctx context.Context, c *cluster, stages []plan.Stage) (*plan.Plan, error) {
	token := c.etcdPlan().Token()
	for i := range stages {
		for j := range stages[i].Steps {
			st := &stages[i].Steps[j]
			if !w.lanes {
				st.Lane = ""
			}
			if strings.HasSuffix(string(st.ID), "/quorum") {
				st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
					return env.Host.Put(ctx, remote.File{Path: "/etc/etcd/established", Content: []byte(token + "\n"), Mode: 0o644, Owner: "etcd:etcd"})
				}
			}
		}
	}
	p, err := plan.Make(ctx, stages, w.s.hosts, plan.Discard)
	if err == nil {
		p.Record = w.s.recordMade
	}
	return p, err
}

// cluster looks at the hosts.
func (w *crashWorld) cluster(ctx context.Context) (*cluster, error) {
	c := &cluster{session: w.s, bundle: w.bundle, prober: w.prober, network: kubeadm.NetworkProgram{Path: w.prober, SHA256: w.proberSum}}
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
	return c, c.etcdPlan().Validate()
}

// up is plan and apply.
func (w *crashWorld) up(ctx context.Context) (*plan.Applied, error) {
	p, err := w.makePlan(ctx)
	if err != nil {
		return nil, err
	}
	return p.Apply(ctx, w.s.hosts, plan.Discard, nil)
}

func (w *crashWorld) state() string {
	var b strings.Builder
	for _, h := range w.hosts {
		for line := range strings.Lines(stateOf(h.Disk())) {
			b.WriteString(h.name + " " + line)
		}
	}
	return b.String()
}

// cutPoint is hactl's death after one command: what was on the disks then.
type cutPoint struct {
	number int
	after  string
	disks  []*fakehost.Disk
}

func (w *crashWorld) cut(number int, after string) cutPoint {
	at := cutPoint{number: number, after: after}
	for _, h := range w.hosts {
		at.disks = append(at.disks, h.Disk())
	}
	return at
}

// crashShapes are the clusters whose bring-up is cut. In the larger one cuts are
// possible at which only some of the masters know of the quorum.
var crashShapes = []struct {
	name             string
	masters, workers int
	real             int // how many cuts are resumed with the real shell, too
	raced            int // both, with the race detector
}{
	{"a master and a worker", 1, 1, 33, 3},
	{"three masters and a worker", 3, 1, 7, 3},
}

// A run that is cut after any command, which is also before the next one, and
// is started again ends where the uncut run ends, and then has nothing to do.
// Commands that change nothing (looks) leave the state of the one before them.
//
// Each cut is resumed in memory (see fakehost.Memory), where a host's lanes run
// one after the other: the same commands then meet the same disks again. Cuts
// evenly spread over a run whose lanes are side by side are resumed with the real
// shell; with HACTL_SWEEP=1 all are. The uncut runs of both end in the same state.
func TestRunCutAtAnyCommandIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	sh := fakehost.Real(t)
	mem := fakehost.Remembered(t)
	t.Cleanup(func() {
		t.Log("all tests so far:", mem.Figures())
	})
	for _, c := range crashShapes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inMemory, withShell := math.MaxInt, c.real
			switch {
			case os.Getenv("HACTL_SWEEP") != "":
				withShell = math.MaxInt
			case testneeds.RaceDetector:
				inMemory, withShell = c.raced, c.raced
			}
			w := newCrashWorld(t, c.masters, c.workers)
			kept, reals := w.fresh(t, mem), w.fresh(t, sh)
			reals.lanes = true
			points, want := kept.recordUncutRun(t)
			realPoints, realWant := reals.recordUncutRun(t)
			if want != realWant {
				t.Fatalf("in memory the uncut run ends elsewhere: %s", difference(realWant, want))
			}
			t.Run("in memory", func(t *testing.T) { kept.resume(t, mem, spread(points, inMemory), want) })
			t.Run("real shell", func(t *testing.T) { reals.resume(t, sh, spread(realPoints, withShell), want) })
		})
	}
}

// firstOfQuorum is the command by which a master knows of etcd's quorum. Until
// then hosts do not depend on one another.
const firstOfQuorum = "write /etc/etcd/established"

// spread gives so many of the points: those after which only some of the masters
// know of the quorum, and evenly spread others.
func spread(points []cutPoint, sample int) []cutPoint {
	if sample >= len(points) {
		return points
	}
	chosen := map[int]bool{}
	for _, p := range points {
		if strings.HasSuffix(p.after, " "+firstOfQuorum) {
			chosen[p.number] = true
		}
	}
	others := sample - len(chosen)
	for n := range others {
		chosen[n*len(points)/others] = true
	}
	return slices.DeleteFunc(slices.Clone(points), func(p cutPoint) bool { return !chosen[p.number] })
}

// raced is how many cuts of an operation are resumed with the race detector, which is for
// what the engine does side by side. Without it, and with HACTL_SWEEP=1, every cut is.
const raced = 6

// resumed are the cuts of an operation that are resumed. make test runs the tests that have
// Cut in their names once more, without the race detector.
func resumed[Cut any](t *testing.T, cuts []Cut) []Cut {
	t.Helper()
	if !strings.Contains(t.Name(), "Cut") {
		t.Fatal("without Cut in its name this test resumes every cut nowhere")
	}
	if !testneeds.RaceDetector || os.Getenv("HACTL_SWEEP") != "" || len(cuts) <= raced {
		return cuts
	}
	var out []Cut
	for n := range raced {
		out = append(out, cuts[n*len(cuts)/raced])
	}
	return out
}

// cutsOf are the numbers of changes after which a run can be cut: all but the last.
func cutsOf(changes []string) (cuts []int) {
	for cut := 1; cut < len(changes); cut++ {
		cuts = append(cuts, cut)
	}
	return cuts
}

// recordUncutRun brings a fresh world up and gives the points at which that can
// be cut and the state that it ends in.
func (w *crashWorld) recordUncutRun(t *testing.T) ([]cutPoint, string) {
	t.Helper()
	o := w.hosts[0].Order()
	points := []cutPoint{w.cut(0, "nothing")}
	commands, quorum := 0, 0
	o.After = func(host, title string) {
		commands++
		if title == "look" || strings.HasPrefix(title, "wait for ") {
			return
		}
		points = append(points, w.cut(len(points), host+" "+title))
		if title == firstOfQuorum {
			quorum++
		}
	}
	applied, err := w.up(t.Context())
	must(t, err)
	o.After = nil
	want := w.state()
	if p, err := w.makePlan(t.Context()); err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		t.Fatalf("after the uncut run: %v", problems(p, err))
	}
	if got := w.state(); got != want {
		t.Fatalf("looking changed something: %s", difference(want, got))
	}
	if quorum == 0 {
		t.Error("no command of the run is the first that needs a quorum")
	}
	t.Logf("%d steps, %d commands, %d of them change something", applied.Done, commands, len(points)-1)
	return points, want
}

// resume runs up again from each of the points.
func (w *crashWorld) resume(t *testing.T, sh fakehost.Shell, points []cutPoint, want string) {
	t.Helper()
	for _, at := range points {
		t.Run(fmt.Sprintf("cut %d after %s", at.number, at.after), func(t *testing.T) {
			t.Parallel()
			var hosts []*rootHost
			for i, h := range w.hosts {
				hosts = append(hosts, newRootHost(h.name, sh, nil, at.disks[i]))
			}
			c, done := w.on(t, hosts)
			defer done()
			if msg := c.complete(t.Context(), want); msg != "" {
				t.Error(msg)
			}
		})
	}
}

// complete runs up again and says what is wrong then, or "".
func (w *crashWorld) complete(ctx context.Context, want string) string {
	if _, err := w.up(ctx); err != nil {
		return "the next run fails: " + err.Error()
	}
	if p, err := w.makePlan(ctx); err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		return "after the next run: " + problems(p, err)
	}
	if got := w.state(); got != want {
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
