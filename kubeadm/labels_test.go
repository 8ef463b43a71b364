package kubeadm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// nodeWorld is three masters and a worker whose apiservers answer, and the
// nodes that they know.
type nodeWorld struct {
	Cluster
	nodes   *kubeapitest.Nodes
	hosts   plan.Hosts
	handler http.Handler
	down    map[string]bool // masters without an apiserver
	dials   atomic.Int64
}

func newNodeWorld(t *testing.T) *nodeWorld {
	t.Helper()
	w := &nodeWorld{Cluster: clusterOf(t, inventorytest.ThreeWithWorkers(t, 1), true), nodes: &kubeapitest.Nodes{Store: kubeapitest.Map{}}, hosts: plan.Hosts{}, down: map[string]bool{}}
	w.handler = w.nodes
	for i := range w.Inv.Hosts {
		h := &w.Inv.Hosts[i]
		w.hosts[h.Name] = remote.NewFake(h.Name, nil)
		if h.Role != inventory.ControlPlane {
			continue
		}
		srv := kubeapitest.Serve(t, w.PKI.KubernetesCA.CertPEM, w.PKI.KubernetesCA.KeyPEM, h.PrivateAddress.AsSlice(), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }))
		t.Cleanup(srv.Close)
		w.hosts[h.Name].(*remote.Fake).DialWith(func(ctx context.Context, _, _ string) (net.Conn, error) {
			w.dials.Add(1)
			if w.down[h.Name] {
				return nil, errors.New("connection refused")
			}
			var d net.Dialer
			return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
		})
	}
	return w
}

// joined registers every host as kubeadm leaves it.
func (w *nodeWorld) joined(t *testing.T) *nodeWorld {
	t.Helper()
	for i := range w.Inv.Hosts {
		h := &w.Inv.Hosts[i]
		if err := w.nodes.Register(h.Name); err != nil {
			t.Fatal(err)
		}
		if h.Role == inventory.ControlPlane {
			w.byHand(t, h.Name, `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}},"spec":{"taints":[{"key":"node-role.kubernetes.io/control-plane","effect":"NoSchedule"}]}}`)
		}
	}
	return w
}

func (w *nodeWorld) byHand(t *testing.T, node, patch string) {
	t.Helper()
	if err := w.nodes.Merge(node, patch); err != nil {
		t.Fatal(err)
	}
}

func (w *nodeWorld) plan(t *testing.T) *plan.Plan {
	t.Helper()
	control := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI}
	t.Cleanup(control.Close)
	all := append(w.Inv.Masters(), w.Inv.Workers()...)
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "labels", Steps: []plan.Step{w.Labels(all[0], all, control)}}}, w.hosts, plan.Discard)
	if err != nil || p.Err() != nil {
		t.Fatal(err, p.Err())
	}
	return p
}

// wants asks for a plan with that one change, and for none with "".
func (w *nodeWorld) wants(t *testing.T, summary string) *plan.Plan {
	t.Helper()
	p := w.plan(t)
	got := ""
	for _, i := range p.Pending() {
		got += i.Change.Summary
	}
	if got != summary {
		t.Fatalf("the plan is\n%s\nand should be\n%s", got, summary)
	}
	return p
}

func (w *nodeWorld) apply(t *testing.T, p *plan.Plan) {
	t.Helper()
	if _, err := p.Apply(t.Context(), w.hosts, plan.Discard, nil); err != nil {
		t.Fatal(err)
	}
	w.wants(t, "")
}

// is compares labels, taints and annotations of a node.
func (w *nodeWorld) is(t *testing.T, node, want string) {
	t.Helper()
	n, err := w.nodes.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	meta := n["metadata"].(map[string]any)
	spec, _ := n["spec"].(map[string]any)
	got, err := json.Marshal([]any{meta["labels"], meta["annotations"], spec["taints"]})
	if err != nil || string(got) != want {
		t.Errorf("%s is\n%s\nand should be\n%s", node, got, want)
	}
}

func (w *nodeWorld) worker() *inventory.Host { return w.Inv.Workers()[0] }

const zone = "topology.kubernetes.io/zone"

func TestLabelsAndTaintsFollowTheInventory(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.byHand(t, "worker-1", `{"metadata":{"labels":{"team":"theirs"}},"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-01-02T03:04:05Z"}]}}`)
	w.wants(t, "")
	w.worker().Labels = map[string]string{zone: "a", "disk": "ssd"}
	w.worker().Taints = []inventory.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}, {Key: "spot", Effect: "PreferNoSchedule"}}
	before, dials := len(w.nodes.Requests()), w.dials.Load()
	p := w.wants(t, "worker-1: label disk=ssd, label "+zone+"=a, taint dedicated=gpu:NoSchedule, taint spot:PreferNoSchedule")
	if asked := w.nodes.Requests()[before:]; !slices.Equal(asked, []string{"GET /api/v1/nodes"}) || w.dials.Load() != dials+1 {
		t.Errorf("a look at four nodes takes %q and %d dials", asked, w.dials.Load()-dials)
	}
	c := p.Pending()[0].Change
	if want := "worker-1 label disk=ssd\nworker-1 label " + zone + "=a\nworker-1 taint dedicated=gpu:NoSchedule\nworker-1 taint spot:PreferNoSchedule\n"; c.Before != "" || c.After != want || c.Op != plan.Update {
		t.Errorf("%+v", c)
	}
	w.apply(t, p)
	w.is(t, "worker-1", `[{"disk":"ssd","team":"theirs","topology.kubernetes.io/zone":"a"},`+
		`{"hactl.io/labels":"disk=ssd,topology.kubernetes.io/zone=a","hactl.io/taints":"dedicated=gpu:NoSchedule,spot:PreferNoSchedule"},`+
		`[{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-02T03:04:05Z"},{"effect":"NoSchedule","key":"dedicated","value":"gpu"},{"effect":"PreferNoSchedule","key":"spot"}]]`)
	w.is(t, "master-1", `[{"node-role.kubernetes.io/control-plane":""},null,[{"effect":"NoSchedule","key":"node-role.kubernetes.io/control-plane"}]]`)
}

func TestDriftOfLabelsAndTaintsIsNamedAndUndoneAndNothingElse(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.worker().Labels = map[string]string{zone: "a", "disk": "ssd"}
	w.worker().Taints = []inventory.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}}
	w.apply(t, w.plan(t))
	good, err := w.nodes.Node("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ node, patch, want string }{
		"a label removed":                      {"worker-1", `{"metadata":{"labels":{"disk":null}}}`, "worker-1: label disk=ssd"},
		"a label changed":                      {"worker-1", `{"metadata":{"labels":{"` + zone + `":"b"}}}`, "worker-1: label " + zone + `=a in place of "b"`},
		"a taint removed":                      {"worker-1", `{"spec":{"taints":null}}`, "worker-1: taint dedicated=gpu:NoSchedule"},
		"a taint removed, one of its key left": {"worker-1", `{"spec":{"taints":[{"key":"dedicated","value":"gpu","effect":"NoExecute"}]}}`, "worker-1: taint dedicated=gpu:NoSchedule"},
		"a taint changed":                      {"worker-1", `{"spec":{"taints":[{"key":"dedicated","value":"x","effect":"NoSchedule"}]}}`, `worker-1: taint dedicated=gpu:NoSchedule in place of "x"`},
		"the record removed":                   {"worker-1", `{"metadata":{"annotations":{"hactl.io/labels":null}}}`, "worker-1: record which labels and taints are hactl's"},
		"a master untainted":                   {"master-2", `{"spec":{"taints":null}}`, "master-2: taint node-role.kubernetes.io/control-plane:NoSchedule"},
		"set by others":                        {"worker-1", `{"metadata":{"labels":{"team":"theirs"},"annotations":{"note":"x"}}}`, ""},
		"another's taint":                      {"master-1", `{"spec":{"taints":[{"key":"node-role.kubernetes.io/control-plane","effect":"NoSchedule"},{"key":"maintenance","effect":"NoExecute"}]}}`, ""},
		"two of its own key":                   {"worker-1", `{"spec":{"taints":[{"key":"dedicated","value":"gpu","effect":"NoSchedule"},{"key":"dedicated","value":"gpu","effect":"NoExecute"}]}}`, ""},
		"an unreadable record":                 {"worker-1", `{"metadata":{"annotations":{"hactl.io/labels":"=,,team","hactl.io/taints":":,x"},"labels":{"team":"theirs"}}}`, "worker-1: record which labels and taints are hactl's"},
	} {
		t.Run(name, func(t *testing.T) {
			w.byHand(t, c.node, c.patch)
			before, err := w.nodes.Node(c.node)
			if err != nil {
				t.Fatal(err)
			}
			w.apply(t, w.wants(t, c.want))
			after, err := w.nodes.Node(c.node)
			if err != nil {
				t.Fatal(err)
			}
			labels := func(n map[string]any) map[string]any {
				l, _ := n["metadata"].(map[string]any)["labels"].(map[string]any)
				return l
			}
			for k := range labels(before) {
				if _, still := labels(after)[k]; !still {
					t.Errorf("label %s is gone", k)
				}
			}
			for _, t1 := range taintsOf(before) {
				if k := taintMark(t1.(map[string]any)); !slices.ContainsFunc(taintsOf(after), func(t2 any) bool { return taintMark(t2.(map[string]any)) == k }) {
					t.Errorf("taint %v is gone", k)
				}
			}
			if c.node == "worker-1" && labels(after)[zone] != "a" {
				t.Errorf("%v", after)
			}
		})
		w.byHand(t, "worker-1", `{"metadata":{"labels":null,"annotations":null},"spec":null}`)
		b, _ := json.Marshal(map[string]any{"spec": good["spec"], "metadata": map[string]any{"labels": good["metadata"].(map[string]any)["labels"], "annotations": good["metadata"].(map[string]any)["annotations"]}})
		w.byHand(t, "worker-1", string(b))
		w.wants(t, "")
	}
}

func taintsOf(node map[string]any) []any {
	spec, _ := node["spec"].(map[string]any)
	l, _ := spec["taints"].([]any)
	return l
}

func TestOnlyWhatHactlSetIsRemovedWithTheInventory(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.byHand(t, "worker-1", `{"metadata":{"labels":{"team":"theirs"}},"spec":{"taints":[{"key":"theirs","effect":"NoSchedule"}]}}`)
	w.worker().Labels = map[string]string{"disk": "ssd", "rack": "7", "row": "1"}
	w.worker().Taints = []inventory.Taint{{Key: "dedicated", Value: "gpu", Effect: "NoSchedule"}}
	w.apply(t, w.plan(t))
	// Since then rack was given another value: it is no longer hactl's.
	w.byHand(t, "worker-1", `{"metadata":{"labels":{"rack":"8"}}}`)
	w.worker().Labels, w.worker().Taints = map[string]string{"row": "1"}, nil
	p := w.wants(t, "worker-1: remove label disk=ssd, remove taint dedicated=gpu:NoSchedule")
	if c := p.Pending()[0].Change; c.Before != "worker-1 label disk=ssd\nworker-1 taint dedicated=gpu:NoSchedule\n" || c.After != "" {
		t.Errorf("%+v", c)
	}
	w.apply(t, p)
	w.is(t, "worker-1", `[{"rack":"8","row":"1","team":"theirs"},{"hactl.io/labels":"row=1"},[{"effect":"NoSchedule","key":"theirs"}]]`)
	w.worker().Labels = nil
	w.apply(t, w.wants(t, "worker-1: remove label row=1"))
	w.is(t, "worker-1", `[{"rack":"8","team":"theirs"},{},[{"effect":"NoSchedule","key":"theirs"}]]`)
}

func TestControlPlaneTaintFollowsSchedulableMasters(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	yes, no := true, false
	w.Inv.Kubernetes.SchedulableMasters = &yes
	const cp = "node-role.kubernetes.io/control-plane:NoSchedule"
	w.apply(t, w.wants(t, "master-1: remove taint "+cp+"; master-2: remove taint "+cp+"; master-3: remove taint "+cp))
	w.Inv.Kubernetes.SchedulableMasters = &no
	w.apply(t, w.wants(t, "master-1: taint "+cp+"; master-2: taint "+cp+"; master-3: taint "+cp))
	w.is(t, "master-2", `[{"node-role.kubernetes.io/control-plane":""},null,[{"effect":"NoSchedule","key":"node-role.kubernetes.io/control-plane"}]]`)
}

func TestLabelsThatCouldNotBeReadArePendingAndNothingIsRemovedUnseen(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.worker().Labels = map[string]string{"disk": "ssd", "rack": "7"}
	w.apply(t, w.plan(t))
	w.byHand(t, "worker-1", `{"metadata":{"labels":{"disk":null}}}`)
	out := func(down bool) {
		for _, m := range w.Inv.Masters() {
			w.down[m.Name] = down
		}
	}
	out(true)
	blind := w.plan(t)
	if c := blind.Pending()[0].Change; c.Summary != "set labels and taints of nodes once the control plane is up" || !strings.HasPrefix(c.Cause, "master-1: ") || strings.Contains(c.Cause, "\n") {
		t.Errorf("%+v", c)
	}
	out(false)
	w.apply(t, blind)
	w.is(t, "worker-1", `[{"disk":"ssd","rack":"7"},{"hactl.io/labels":"disk=ssd,rack=7"},null]`)

	out(true)
	delete(w.worker().Labels, "rack")
	blind = w.plan(t)
	out(false)
	if _, err := blind.Apply(t.Context(), w.hosts, plan.Discard, nil); !errors.Is(err, plan.ErrChanged) {
		t.Errorf("a removal that no plan has shown: %v", err)
	}
	w.is(t, "worker-1", `[{"disk":"ssd","rack":"7"},{"hactl.io/labels":"disk=ssd,rack=7"},null]`)
	w.apply(t, w.wants(t, "worker-1: remove label rack=7"))
}

// What the plan named is the limit also for what is read while it is applied.
func TestRemovalThatAppearsDuringApplyIsRefused(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.worker().Labels = map[string]string{"disk": "ssd"}
	control := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI}
	t.Cleanup(control.Close)
	st := w.Labels(w.Inv.Masters()[0], w.Inv.Workers(), control)
	c, err := st.Check(t.Context(), plan.Env{})
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	w.byHand(t, "worker-1", `{"metadata":{"labels":{"row":"1"},"annotations":{"hactl.io/labels":"row=1"}}}`)
	if err := st.Apply(t.Context(), plan.Env{Say: func(string, ...any) {}}, c); !errors.Is(err, plan.ErrChanged) || !strings.Contains(err.Error(), "worker-1 label row=1 would be removed") {
		t.Errorf("%v", err)
	}
	w.is(t, "worker-1", `[{"row":"1"},{"hactl.io/labels":"row=1"},null]`)
}

func TestLabelsWaitForNodesToRegister(t *testing.T) {
	w := newNodeWorld(t)
	w.worker().Labels = map[string]string{"disk": "ssd"}
	p := w.wants(t, "worker-1: label disk=ssd")
	asked := 0
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if asked++; asked == 4 {
			_ = w.nodes.Register("worker-1")
		}
		w.nodes.ServeHTTP(rw, r)
	})
	w.apply(t, p)
	if asked < 4 {
		t.Error("it did not wait")
	}
	w.is(t, "worker-1", `[{"disk":"ssd"},{"hactl.io/labels":"disk=ssd"},null]`)
}

// A list of taints is written as a whole: what others add between the
// look and the write must not be lost.
func TestTaintAddedInBetweenIsKept(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.worker().Taints = []inventory.Taint{{Key: "dedicated", Effect: "NoSchedule"}}
	once := false
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && !once {
			once = true
			w.byHand(t, "worker-1", `{"spec":{"taints":[{"key":"maintenance","effect":"NoExecute"}]}}`)
		}
		w.nodes.ServeHTTP(rw, r)
	})
	w.apply(t, w.plan(t))
	w.is(t, "worker-1", `[null,{"hactl.io/taints":"dedicated:NoSchedule"},[{"effect":"NoExecute","key":"maintenance"},{"effect":"NoSchedule","key":"dedicated"}]]`)
}

func TestAnotherMasterIsAskedAndAnsweringOneIsKept(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	w.down["master-1"] = true
	w.wants(t, "")
	if w.dials.Load() != 2 {
		t.Errorf("%d dials", w.dials.Load())
	}
	control := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI}
	t.Cleanup(control.Close)
	ask := func() error {
		return control.Ask(t.Context(), func(ctx context.Context, a *API) error { _, err := a.Nodes(ctx); return err })
	}
	before := w.dials.Load()
	for range 5 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.dials.Load() - before; n != 2 {
		t.Errorf("%d dials for five questions", n)
	}
	refuse := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusForbidden) })
	w.handler = refuse
	if err := ask(); err == nil || w.dials.Load()-before != 2 {
		t.Errorf("a refusal is not final: %v, %d dials", err, w.dials.Load()-before)
	}
	for _, code := range []int{http.StatusInternalServerError, http.StatusTooManyRequests} {
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "etcd", code) })
		if err := ask(); err == nil || !strings.Contains(err.Error(), "master-2: ") || !strings.Contains(err.Error(), "master-3: ") {
			t.Errorf("not everybody was asked: %v", err)
		}
	}
	// Silence is no answer: they are asked again, for a while.
	for again, want := range map[time.Duration]int{time.Nanosecond: 3, time.Hour: 5} {
		slow := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI, again: again}
		t.Cleanup(slow.Close)
		n := 0
		err := slow.Ask(t.Context(), func(context.Context, *API) error {
			if n++; n < 5 {
				return fmt.Errorf("get nodes: %w", context.DeadlineExceeded)
			}
			return nil
		})
		if n != want || (err == nil) != (want == 5) {
			t.Errorf("for %s: %v after %d questions", again, err, n)
		}
	}
	if err := (&Control{Inv: w.Inv, PKI: w.PKI}).Ask(t.Context(), nil); err == nil {
		t.Error("no apiserver was asked, and all is well")
	}
}

func TestLongPlansNameTheFirstNodesAndEveryRemoval(t *testing.T) {
	var edits []*edit
	for _, n := range strings.Fields("a b c d e f g") {
		edits = append(edits, &edit{node: n, set: marks{mark{key: "k"}: "v"}})
	}
	edits[6].remove = marks{mark{key: "x"}: "y"}
	c := changeOf(edits)
	if !strings.HasSuffix(c.Summary, "; e: label k=v; g: label k=v, remove label x=y; 1 more") || strings.Count(c.After, "\n") != 7 {
		t.Errorf("%+v", c)
	}
}

func TestKubeletIsNotGivenLabelsThatItMayNotSet(t *testing.T) {
	own := map[string]string{
		"disk": "1", "example.com/rack": "1", zone: "1", "node.kubernetes.io/x": "1", "a.node.kubernetes.io/x": "1", "kubelet.kubernetes.io/x": "1", "notkubernetes.io/x": "1",
	}
	all := maps.Clone(own)
	for _, k := range []string{"node-role.kubernetes.io/worker", "kubernetes.io/x", "a.k8s.io/x", "node-restriction.kubernetes.io/x"} {
		all[k] = "1"
	}
	if got, want := labels(&inventory.Host{Labels: all}), labels(&inventory.Host{Labels: own}); got != want || strings.Count(got, ",") != len(own)-1 {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLabelsAndTaintsAreNoReasonToRewriteStaticPods(t *testing.T) {
	c := clusterOf(t, inventorytest.ThreeWithWorkers(t, 1), true)
	m := c.Inv.Masters()[0]
	from := func() string {
		s, err := c.madeFrom(m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := from()
	m.Labels, m.Taints = map[string]string{"disk": "ssd"}, []inventory.Taint{{Key: "a", Effect: "NoSchedule"}}
	yes := true
	c.Inv.Kubernetes.SchedulableMasters = &yes
	if from() != before {
		t.Error("static pods depend on labels and taints")
	}
	c.Inv.Kubernetes.ExtraSANs = []string{"api.example.com"}
	if from() == before {
		t.Error("static pods do not depend on the certificate's names")
	}
}
