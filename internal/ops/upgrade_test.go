package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hactl/internal/fakehost"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/bundle"
	"hactl/internal/exitcode"
	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/versions"
	"hactl/inventory"
)

// upgradeWorld is a cluster that runs one version and is walked to another: the real
// steps with a real shell (see crashWorld), on hosts whose kubelets and apiservers say
// which version their units and manifests name.
type upgradeWorld struct {
	*crashWorld
	t          *testing.T
	from, to   inventory.Versions
	old, later *bundle.Bundle
	before     []*fakehost.Disk // of the hosts, before the upgrade
	metrics    string           // of the apiservers
}

func versionsFor(t *testing.T, kubernetes string) inventory.Versions {
	t.Helper()
	s, ok := versions.For(kubernetes)
	if !ok {
		t.Fatalf("no set for %s", kubernetes)
	}
	return inventory.Versions{Kubernetes: s.Kubernetes, Etcd: s.Etcd, Containerd: s.Containerd}
}

// newUpgradeWorld brings a cluster up.
func newUpgradeWorld(t *testing.T, sh fakehost.Shell, masters, workers int, from, to string) *upgradeWorld {
	t.Helper()
	w := &upgradeWorld{crashWorld: newCrashWorld(t, masters, workers), from: versionsFor(t, from), to: versionsFor(t, to), old: tinyBundleOf(t, from), later: tinyBundleOf(t, to)}
	w.crashWorld.s.inv.Versions, w.crashWorld.bundle = w.from, w.old
	up := w.crashWorld.fresh(t, sh)
	_, err := up.up(t.Context())
	must(t, err)
	for _, h := range up.hosts {
		w.before = append(w.before, h.Disk())
	}
	for name, f := range w.crashWorld.s.facts {
		f.KubeletCA, f.Record.Versions = "CA", versionsOf(w.from, w.crashWorld.s.inv.Host(name))
	}
	w.crashWorld.s.inv.Versions, w.crashWorld.bundle = w.to, w.later
	return w
}

// on puts the world on machines with these disks.
func (w *upgradeWorld) on(t *testing.T, sh fakehost.Shell, o *fakehost.Order, disks []*fakehost.Disk) *upgradeWorld {
	t.Helper()
	var hosts []*rootHost
	for i, h := range w.crashWorld.s.inv.Hosts {
		hosts = append(hosts, newRootHost(h.Name, sh, o, disks[i]))
	}
	base := *w.crashWorld
	base.etcd, _ = serveMembers(t, base.s.inv, base.s.material)
	c, done := base.on(t, hosts)
	t.Cleanup(done)
	kubelet := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(kubelet.Close)
	out := *w
	out.crashWorld, out.t = c, t
	api := kubeapitest.ServeFor(t, c.s.material.KubernetesCA.CertPEM, c.s.material.KubernetesCA.KeyPEM, mastersIPs(c.s.inv), http.HandlerFunc((&out).serve))
	t.Cleanup(api.Close)
	for _, h := range hosts {
		h.vip = func() bool { return holdsVIP(h, hosts) }
		h.serves.api, h.serves.kubelet = api.Listener.Addr().String(), kubelet.Listener.Addr().String()
	}
	return &out
}

// holdsVIP tells whether the VIP is on a host: it is with the first one whose kubelet runs.
func holdsVIP(h *rootHost, hosts []*rootHost) bool {
	for _, m := range hosts {
		if m.Disk().Has("state/units/kubelet.service.pid") {
			return m == h
		}
	}
	return false
}

// programOf is the version that a unit of a host names.
func programOf(h *rootHost, unit string) string {
	e := h.Disk().Get("etc/systemd/system/" + unit)
	_, rest, _ := strings.Cut(e.Content, "ExecStart=/opt/hactl/")
	_, rest, _ = strings.Cut(rest, "/")
	v, _, _ := strings.Cut(rest, "-")
	return v
}

// held is what the cluster holds: on the disk of the master that wrote it last.
func (w *upgradeWorld) held(file string) string {
	for _, h := range w.hosts {
		if e := h.Disk().Get("state/" + file); e != nil {
			return strings.TrimSpace(e.Content)
		}
	}
	return ""
}

// serve is the API as far as an upgrade asks it.
func (w *upgradeWorld) serve(rw http.ResponseWriter, r *http.Request) {
	title := "look"
	if r.Method != http.MethodGet {
		title = r.Method + " " + r.URL.Path
	}
	defer w.hosts[0].Turn()(title)
	answer := func(v any) { _ = json.NewEncoder(rw).Encode(v) }
	workload := func(image string) any {
		return map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": image}}}}}}
	}
	nodes := &kubeapitest.Nodes{Store: nodeFiles{w.hosts[0]}}
	for _, h := range w.hosts {
		if err := nodes.Register(h.name); err != nil {
			w.t.Error(err)
		}
	}
	dns, _ := versions.For(w.held("addons"))
	switch r.URL.Path {
	case "/api/v1/nodes":
		var items []any
		for _, h := range w.hosts {
			n, err := nodes.Node(h.name)
			if err != nil {
				w.t.Error(err)
				return
			}
			n["status"] = map[string]any{
				"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "nodeInfo": map[string]any{"kubeletVersion": programOf(h, "kubelet.service")},
			}
			items = append(items, n)
		}
		answer(map[string]any{"items": items})
	case "/healthz": // of the controller managers and schedulers, too
	case "/version":
		answer(map[string]string{"gitVersion": w.from.Kubernetes})
	case "/metrics":
		_, _ = fmt.Fprintln(rw, w.metrics)
	case "/apis/policy/v1/poddisruptionbudgets":
		answer(map[string]any{"items": []any{map[string]any{"metadata": map[string]string{"namespace": "shop", "name": "db"}, "status": map[string]int{"disruptionsAllowed": 0, "expectedPods": 1}}}})
	case "/api/v1/namespaces/kube-system/pods":
		var items []any
		for _, h := range w.hosts {
			for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
				items = append(items, map[string]any{"spec": map[string]any{"nodeName": h.name}, "status": map[string]any{
					"containerStatuses": []any{map[string]any{"name": name, "image": "x:" + w.to.Kubernetes, "state": map[string]any{"running": map[string]any{}}}}}})
			}
		}
		answer(map[string]any{"items": items})
	case "/api/v1/pods":
		answer(map[string]any{"items": []any{}})
	case "/api/v1/namespaces/kube-system/configmaps/kubeadm-config":
		answer(map[string]any{"data": map[string]string{"ClusterConfiguration": "kubernetesVersion: " + w.held("kubeadm-config") + "\n"}})
	case "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy":
		answer(workload("kube-proxy:" + w.held("addons")))
	case "/apis/apps/v1/namespaces/kube-system/deployments/coredns":
		answer(workload("coredns:" + dns.CoreDNS))
	case "/api/v1/namespaces/hactl-system", "/apis/apps/v1/namespaces/hactl-system/daemonsets/hactl-probe":
		w.serveObject(rw, r)
	default:
		nodes.ServeHTTP(rw, r)
	}
}

// upgrade is one run of the whole operation.
func (w *upgradeWorld) upgrade(ctx context.Context, o UpgradeOptions) error {
	p, err := w.way(ctx, o)
	if err != nil {
		return err
	}
	if _, err := p.Apply(ctx, w.s.hosts, plan.Discard, nil); err != nil {
		return err
	}
	_, err = w.up(ctx)
	return err
}

// way is the plan of the upgrade's first phase.
func (w *upgradeWorld) way(ctx context.Context, o UpgradeOptions) (*plan.Plan, error) {
	c, err := w.cluster(ctx)
	if err != nil {
		return nil, err
	}
	u := &upgrade{UpgradeOptions: o}
	stages, err := u.stages(c, func(hosts []*inventory.Host, batch int) *plan.Roll {
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		return &plan.Roll{
			Hosts: func(context.Context) ([]string, error) { return names, nil },
			Gate:  plan.Gate{Look: w.gate, Every: time.Microsecond, Within: time.Minute}, Batch: batch, PutBackFailed: true,
			After: func(ctx context.Context, names []string) error { return u.after(ctx, w.s, nil, names) },
		}
	})
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, stages, w.s.hosts, plan.Discard)
	if err == nil {
		p.Record = w.s.recordMade
	}
	return p, err
}

// gate wants that every program of every host runs.
func (w *upgradeWorld) gate(_ context.Context, out []string) error {
	for _, h := range w.hosts {
		for _, unit := range []string{"kubelet", "containerd", "etcd"} {
			worker := strings.HasPrefix(h.name, "worker") && unit == "etcd"
			if !worker && !slices.Contains(out, h.name) && !h.Disk().Has("state/units/"+unit+".service.pid") {
				return fmt.Errorf("%s: %s does not run", h.name, unit)
			}
		}
	}
	return nil
}

// points runs the upgrade and gives the disks after each command that may change
// something.
func (w *upgradeWorld) points(t *testing.T, o *fakehost.Order) []cutPoint {
	t.Helper()
	points := []cutPoint{w.cut(0, "nothing")}
	o.After = func(host, title string) {
		if title != "look" && !strings.HasPrefix(title, "wait for ") {
			points = append(points, w.cut(len(points), host+" "+title))
		}
	}
	must(t, w.upgrade(t.Context(), minorUpgrade))
	o.After = nil
	return points
}

var minorUpgrade = UpgradeOptions{DrainTimeout: time.Minute, Batch: 1}

// left says what the upgrade and up would still do.
func (w *upgradeWorld) left(ctx context.Context) string {
	p, err := w.way(ctx, minorUpgrade)
	if err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		return "upgrade: " + problems(p, err)
	}
	if p, err = w.makePlan(ctx); err != nil || p.Err() != nil || len(p.Pending()) > 0 {
		return "up: " + problems(p, err)
	}
	return ""
}

// Whatever the command after which a run is cut, the next one completes it: the hosts end as
// after the uncut run, and neither upgrade nor up has anything left to do.
func TestUpgradeCutAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	mem := fakehost.Remembered(t)
	w := newUpgradeWorld(t, mem, 3, 1, "v1.36.1", "v1.37.2")
	o := &fakehost.Order{}
	uncut := w.on(t, mem, o, w.before)
	points := uncut.points(t, o)
	want := uncut.state()
	if left := uncut.left(t.Context()); left != "" {
		t.Fatalf("after the uncut run: %s", left)
	}
	if got := uncut.state(); got != want {
		t.Fatalf("looking changed something: %s", difference(want, got))
	}
	for _, h := range uncut.hosts {
		if v := programOf(h, "kubelet.service"); v != w.to.Kubernetes {
			t.Errorf("%s: the kubelet is of %s", h.name, v)
		}
	}
	handsOver(t, points)
	t.Logf("%d cuts", len(points))
	for _, at := range resumed(t, points) {
		t.Run(fmt.Sprintf("cut %d after %s", at.number, at.after), func(t *testing.T) {
			t.Parallel()
			c := w.on(t, mem, nil, at.disks)
			if err := c.upgrade(t.Context(), minorUpgrade); err != nil {
				t.Fatalf("the next run fails: %v", err)
			}
			if left := c.left(t.Context()); left != "" {
				t.Errorf("after the next run: %s", left)
			}
			if got := c.state(); got != want {
				t.Errorf("another end state: %s", difference(want, got))
			}
		})
	}
}

// handsOver holds that the apiserver of each master has ended before its kubelet becomes
// one of another minor, which starts it again at once, and after containerd, for which a
// working kubelet is waited.
func handsOver(t *testing.T, points []cutPoint) {
	t.Helper()
	at := func(what string) int {
		return slices.IndexFunc(points, func(p cutPoint) bool { return p.after == what })
	}
	for _, h := range []string{"master-1", "master-2", "master-3"} {
		containerd, ends, kubelet := at(h+" restart containerd.service"), at(h+" stop the kubelet and the apiserver"), at(h+" restart kubelet.service")
		if containerd < 0 || ends < containerd || kubelet != ends+1 {
			t.Errorf("%s: containerd, the end of the apiserver and the kubelet come at %d, %d, %d", h, containerd, ends, kubelet)
		}
	}
	if n := at("worker-1 stop the kubelet and the apiserver"); n >= 0 {
		t.Errorf("a worker's kubelet is stopped at %d", n)
	}
}

// A kubelet that does not start with the wanted version runs again with the one of before,
// its host is given back, and no other host is begun. The next run goes on there.
func TestUpgradePutsBackAKubeletThatDoesNotStart(t *testing.T) {
	t.Parallel()
	mem := fakehost.Remembered(t)
	w := newUpgradeWorld(t, mem, 3, 1, "v1.36.1", "v1.36.3")
	o := &fakehost.Order{}
	c := w.on(t, mem, o, w.before)
	broken := true
	o.After = func(host, title string) {
		if broken && host == "master-2" && title == "write /etc/systemd/system/kubelet.service" {
			h := c.hosts[1]
			var gone []string
			for _, e := range h.Disk().Below("opt/hactl/kubelet") {
				if strings.Contains(e.Path, w.to.Kubernetes) {
					gone = append(gone, e.Path)
				}
			}
			h.SetDisk(h.Disk().Edit(gone, nil))
		}
	}
	err := c.upgrade(t.Context(), UpgradeOptions{DrainTimeout: time.Minute, Batch: 1})
	if exitcode.Of(err) != exitcode.Unhealthy || !strings.Contains(err.Error(), "master-2 was put back, and the cluster is as it was; done: master-1; not begun: master-3") {
		t.Fatalf("exit %d: %v", exitcode.Of(err), err)
	}
	for i, want := range []string{w.to.Kubernetes, w.from.Kubernetes, w.from.Kubernetes, w.from.Kubernetes} {
		h := c.hosts[i]
		if got := programOf(h, "kubelet.service"); got != want || !h.Disk().Has("state/units/kubelet.service.pid") {
			t.Errorf("%s: the kubelet is of %s, want %s", h.name, got, want)
		}
		if h.Disk().Has("var/lib/hactl/out-node") {
			t.Errorf("%s is still marked as taken out", h.name)
		}
	}
	broken = false
	must(t, c.upgrade(t.Context(), minorUpgrade))
	if left := c.left(t.Context()); left != "" {
		t.Errorf("after the next run: %s", left)
	}
}

// A run ends after as many turns as were asked for, and the next one goes on.
func TestUpgradeEndsAfterAsManyTurnsAsAskedFor(t *testing.T) {
	t.Parallel()
	mem := fakehost.Remembered(t)
	w := newUpgradeWorld(t, mem, 3, 1, "v1.36.1", "v1.36.3")
	c := w.on(t, mem, nil, w.before)
	o := UpgradeOptions{DrainTimeout: time.Minute, Batch: 1, StopAfter: 2}
	if err := c.upgrade(t.Context(), o); !errors.Is(err, plan.ErrEnough) {
		t.Fatal(err)
	}
	// All parts of a bundle of the test have one version.
	for i, want := range []string{w.to.Kubernetes, w.to.Kubernetes, w.from.Kubernetes} {
		if got := programOf(c.hosts[i], "etcd.service"); got != want {
			t.Errorf("%s: etcd is of %s", c.hosts[i].name, got)
		}
	}
	o.StopAfter = 0
	must(t, c.upgrade(t.Context(), o))
	if left := c.left(t.Context()); left != "" {
		t.Errorf("after the next run: %s", left)
	}
}

// Everything in the way is in one refusal, and what may be ignored is left out on request.
func TestUpgradeListsEverythingInTheWay(t *testing.T) {
	t.Parallel()
	mem := fakehost.Remembered(t)
	w := newUpgradeWorld(t, mem, 1, 1, "v1.35.4", "v1.37.2")
	w.metrics = `apiserver_requested_deprecated_apis{group="shop",removed_release="1.37",resource="carts",subresource="",version="v1beta1"} 1`
	c := w.on(t, mem, nil, w.before)
	c.s.Console = quiet{}
	p, err := c.way(t.Context(), minorUpgrade)
	must(t, err)
	all, err := c.cluster(t.Context())
	must(t, err)
	gate := state.NewGate(c.s.verified(false), &state.Report{})
	u := &upgrade{UpgradeOptions: minorUpgrade}
	u.Ignore = []string{"disk"} // the hosts of the test have none
	err = u.refuse(t.Context(), all, gate, p)
	if exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(remote.HintOf(err), "nothing was changed") {
		t.Fatalf("exit %d: %v", exitcode.Of(err), err)
	}
	wants := []string{
		"hosts: with 1 masters the API and etcd are down", "versions: versions.kubernetes: from v1.35.4 (master-1, worker-1) to v1.37.2: a minor is skipped",
		"budgets: disruption budget shop/db allows no pod to leave", "deprecated: clients use shop/v1beta1 carts, which v1.37 does not have",
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	if errs := all.deprecated(t.Context(), []string{"master-1"}); len(errs) > 0 {
		t.Errorf("a master that an earlier run took out was asked: %v", errs)
	}
	u.Ignore, u.AcceptDowntime = []string{"disk", "budgets", "deprecated"}, true
	err = u.refuse(t.Context(), all, gate, p)
	for i, want := range wants {
		if strings.Contains(fmt.Sprint(err), want) != (i == 1) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
