package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/plan/plantest"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/sys/systest"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki"
	"hactl/pki/pkitest"
)

// rebootWorld is a cluster whose hosts can be rebooted: the real steps, on hosts that
// answer the typed questions of the operation.
type rebootWorld struct {
	t        *testing.T
	inv      *inventory.Inventory
	store    *pki.Store
	material *pki.Material
	nodes    *kubeapitest.Nodes
	api      *httptest.Server
	kubelet  *httptest.Server
	etcd     string
	members  *members

	mu      sync.Mutex
	hosts   map[string]*rebootHost
	owner   string            // of the VIP
	pods    map[string]string // name to node, of a deployment
	changes []string          // what changed the world, in order
	dieAt   int               // the run is cut after so many changes; 0: never
	kill    func()            // ends the run at once
	wrong   []string
	waited  []string // hosts that waited until their etcd had given up a dead member
}

// rebootHost is what a host is at this moment.
type rebootHost struct {
	boots int
	mark  string // content of the file
	api   bool
	stays bool // it does not come back from its next reboot
	off   bool
	out   bool // its programs were stopped for good
}

// newRebootWorld is a cluster that has a store.
func newRebootWorld(t *testing.T, masters, workers int) *rebootWorld {
	t.Helper()
	inv := inventorytest.Load(t, inventorytest.Text(masters, workers, false))
	store, err := pki.Open(inv)
	must(t, err)
	m := pkitest.Material(t, inv)
	must(t, store.Keep(t.Context(), m))
	return (&rebootWorld{inv: inv, store: store, material: m}).anew(t)
}

// anew is the cluster again, as it was before anything was done to it.
func (w *rebootWorld) anew(t *testing.T) *rebootWorld {
	t.Helper()
	inv, m := w.inv, w.material
	w = &rebootWorld{t: t, inv: inv, store: w.store, material: m, hosts: map[string]*rebootHost{}, owner: "master-1", pods: map[string]string{"web-0": "master-2", "web-1": "worker-1"}}
	w.nodes = &kubeapitest.Nodes{Store: kubeapitest.Map{}}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		w.hosts[h.Name] = &rebootHost{boots: 1, api: h.Role == inventory.ControlPlane}
		must(t, w.nodes.Register(h.Name))
		must(t, w.nodes.Merge(h.Name, `{"status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"`+h.PrivateAddress.String()+`"}]}}`))
	}
	var ips []net.IP
	for _, h := range inv.Masters() {
		ips = append(ips, h.PrivateAddress.AsSlice())
	}
	ips = append(ips, inv.VIP.Address.AsSlice())
	w.api = kubeapitest.ServeFor(t, m.KubernetesCA.CertPEM, m.KubernetesCA.KeyPEM, ips, http.HandlerFunc(w.serveAPI))
	t.Cleanup(w.api.Close)
	w.kubelet = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(w.kubelet.Close)
	w.etcd, w.members = serveMembers(t, inv, m)
	w.members.moved = func(to string) error { return w.change("etcd: " + to + " leads") }
	w.members.removed = func(name string) error { return w.change("etcd: " + name + " leaves") }
	return w
}

// change notes that something changes; past the cut it is an error.
func (w *rebootWorld) change(what string) error {
	if w.dead() {
		return errors.New("hactl was killed")
	}
	w.changes = append(w.changes, what)
	if w.dead() {
		w.kill()
	}
	return nil
}

// cutAt has the run cut after so many changes; 0: never. Requests of a run that was cut
// may still be on their way.
func (w *rebootWorld) cutAt(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dieAt = n
}

func (w *rebootWorld) dead() bool { return w.dieAt > 0 && len(w.changes) >= w.dieAt }

func (w *rebootWorld) serveAPI(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dead():
		http.Error(rw, "killed", http.StatusInternalServerError)
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/pods":
		node := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
		items := []any{pod("kube-proxy-"+node, "DaemonSet"), pod("alone-"+node, "")}
		for name, on := range w.pods {
			if on == node {
				items = append(items, pod(name, "ReplicaSet"))
			}
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
	case strings.HasSuffix(r.URL.Path, "/eviction"):
		name := strings.Split(r.URL.Path, "/")[6]
		if w.pods[name] == "" {
			w.wrong = append(w.wrong, "evicted "+name)
		}
		if err := w.change("evict " + name); err != nil {
			return
		}
		for i := range w.inv.Hosts {
			if to := w.inv.Hosts[i].Name; to != w.pods[name] && !w.cordoned(to) {
				w.pods[name] = to
				return
			}
		}
		w.wrong = append(w.wrong, "no host is left for "+name)
	case r.Method == http.MethodDelete:
		if w.change("delete "+r.URL.Path) == nil {
			delete(w.nodes.Store.(kubeapitest.Map), path.Base(r.URL.Path))
		}
	case r.Method == http.MethodPatch:
		if w.change("patch "+r.URL.Path) == nil {
			w.nodes.ServeHTTP(rw, r)
		}
	case r.URL.Path == "/apis/apps/v1/namespaces/kube-system/deployments/coredns", r.URL.Path == "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy":
		_, _ = io.WriteString(rw, "{}")
	default:
		w.nodes.ServeHTTP(rw, r)
	}
}

func pod(name, controller string) map[string]any {
	meta := map[string]any{"namespace": "default", "name": name, "uid": name}
	if controller != "" {
		meta["ownerReferences"] = []any{map[string]any{"kind": controller, "controller": true}}
	}
	return map[string]any{"metadata": meta, "status": map[string]any{"phase": "Running"}}
}

func (w *rebootWorld) cordoned(node string) bool {
	n, err := w.nodes.Node(node)
	must(w.t, err)
	spec, _ := n["spec"].(map[string]any)
	is, _ := spec["unschedulable"].(bool)
	return is
}

// session is a new run of hactl.
func (w *rebootWorld) session() *session {
	s := &session{Console: quiet{}, inv: w.inv, store: w.store, hosts: plan.Hosts{}, identity: new(sync.Mutex), pace: time.Millisecond, looks: 1}
	for name := range w.hosts {
		f := remote.NewFake(name, func(c remote.Call) (*remote.Result, error) { return w.call(name, c) })
		f.DialWith(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.dial(ctx, network, name, addr)
		})
		s.hosts[name] = f
	}
	return s
}

func (w *rebootWorld) dial(ctx context.Context, network, from, addr string) (net.Conn, error) {
	w.mu.Lock()
	to, refused := "", w.dead() || w.hosts[from].off
	ip, port, _ := net.SplitHostPort(addr)
	for i := range w.inv.Hosts {
		h := &w.inv.Hosts[i]
		switch at := w.hosts[h.Name]; {
		case refused || at.off || ip != h.PrivateAddress.String() && (ip != w.inv.VIP.Address.String() || h.Name != w.owner):
		case port == "6443" && at.api:
			to = w.api.Listener.Addr().String()
		}
	}
	switch {
	case refused:
	case addr == "127.0.0.1:10248":
		to = w.kubelet.Listener.Addr().String()
	case addr == "127.0.0.1:2379":
		to = w.etcd
	}
	w.mu.Unlock()
	if to == "" {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// call answers what the operation asks of a host.
func (w *rebootWorld) call(name string, c remote.Call) (*remote.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosts[name]
	if w.dead() || h.off {
		return nil, &remote.UnreachableError{Host: name, Op: c.Kind, Err: errors.New("no answer")}
	}
	look, stop := kubeadm.StopAPIServer()
	answer := func(script string) plan.Answer {
		switch script {
		case bootScript, strings.TrimSuffix(bootScript, "\n"):
			out := fmt.Sprintf("boot %d", h.boots)
			if mark, run, is := strings.Cut(strings.TrimSpace(h.mark), "\n"); is {
				out += "\nmark " + mark + "\nrun " + run
			}
			return plan.Answer{Out: out}
		case shutOut(&inventory.Host{Role: inventory.Worker}).Look[0].Script, shutOut(&inventory.Host{Role: inventory.ControlPlane}).Look[0].Script:
			return plan.Answer{Out: map[bool]string{true: "ok", false: "run: etcd kubelet"}[h.out]}
		case look:
			return plan.Answer{Out: map[bool]string{true: "it runs", false: "ok"}[h.api]}
		}
		w.t.Errorf("%s is asked %q", name, script)
		return plan.Answer{Exit: 1}
	}
	if c.Kind == "dial" {
		return nil, nil
	}
	if c.Kind == "put" {
		if err := w.change(name + ": " + strings.TrimSpace(string(c.Files[0].Content))); err == nil {
			h.mark = string(c.Files[0].Content)
		}
		return nil, nil
	}
	if out, is := plantest.Looks(c.Cmd.Script, answer); is {
		return &remote.Result{Stdout: []byte(out)}, nil
	}
	switch {
	case c.Cmd.Script == sys.With(bootScript):
		return &remote.Result{Stdout: []byte(answer(bootScript).Out)}, nil
	case c.Cmd.Title == "look for the VIP":
		return &remote.Result{Stdout: []byte(systest.VIP(w.owner == name))}, nil
	case c.Cmd.Title == "is this host still there":
	case strings.HasPrefix(c.Cmd.Title, "wait for the connections to a dead member"):
		w.waited = append(w.waited, name)
	case c.Cmd.Script == sys.With(stop):
		w.stopAPI(name)
	case c.Cmd.Title == "programs":
		if w.change(name+": shut out") == nil {
			h.out = true
		}
	case c.Cmd.Title == "reboot":
		w.reboot(name)
	case strings.HasPrefix(c.Cmd.Title, "forget the boot"):
		if w.change(name+": forget") == nil {
			h.mark = ""
		}
	default:
		w.t.Errorf("%s is to run %q", name, c.Cmd.Title)
	}
	return nil, nil
}

func (w *rebootWorld) stopAPI(name string) {
	if w.change(name+": stop the apiserver") != nil {
		return
	}
	w.hosts[name].api = false
	for _, m := range w.inv.Masters() {
		if w.owner == name && w.hosts[m.Name].api {
			w.owner = m.Name
		}
	}
}

// reboot holds what has to be so before a host may go.
func (w *rebootWorld) reboot(name string) {
	h := w.hosts[name]
	if w.change(name+": reboot") != nil {
		return
	}
	for other, o := range w.hosts {
		if other != name && (o.off || strings.HasPrefix(other, "master") && !o.api) {
			w.wrong = append(w.wrong, name+" reboots while "+other+" does not serve")
		}
	}
	for p, on := range w.pods {
		if on == name {
			w.wrong = append(w.wrong, name+" reboots with "+p+" on it")
		}
	}
	if w.owner == name || h.api || w.members.leads(name) || !w.cordoned(name) {
		w.wrong = append(w.wrong, fmt.Sprintf("%s reboots: VIP here %v, apiserver runs %v, leads etcd %v, cordoned %v", name, w.owner == name, h.api, w.members.leads(name), w.cordoned(name)))
	}
	h.boots, h.api, h.off = h.boots+1, strings.HasPrefix(name, "master"), h.stays
}

func (w *rebootWorld) run(o RebootOptions) error {
	s := w.session()
	defer func() { s.control.Close() }()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.kill = cancel
	p, err := o.plan(ctx, s)
	if err == nil {
		err = p.Err()
	}
	if err == nil {
		_, err = p.Apply(ctx, s.hosts, plan.Discard, nil)
	}
	return err
}

// ended says what is not as it has to be when every host has rebooted once.
func (w *rebootWorld) ended() string {
	out := w.wrong
	for i := range w.inv.Hosts {
		name := w.inv.Hosts[i].Name
		h := w.hosts[name]
		n, err := w.nodes.Node(name)
		must(w.t, err)
		notes, _ := n["metadata"].(map[string]any)["annotations"].(map[string]any)
		if h.boots != 2 || h.mark != "" || len(notes) > 0 || w.cordoned(name) != (name == "master-3") {
			out = append(out, fmt.Sprintf("%s: %d boots, mark %q, annotations %v, cordoned %v", name, h.boots, h.mark, notes, w.cordoned(name)))
		}
	}
	return strings.Join(out, "; ")
}

// quiet is a console that a person does not look at.
type quiet struct{}

func (quiet) Report(plan.Event)                       {}
func (quiet) Note(string)                             {}
func (quiet) Hide(string)                             {}
func (quiet) Confirm(context.Context, Question) error { return nil }
func (quiet) Remote() remote.Options                  { return remote.Options{} }
func (quiet) Stop() <-chan struct{}                   { return nil }

var everyHostOnce = RebootOptions{All: true, Drain: time.Minute, Return: time.Minute}

// Whatever the change after which a run is cut, the next one completes it: every host
// has rebooted once, and no host goes before the cluster can do without it. An operator's
// cordon stays.
func TestRebootCutAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 3, 1)
	begin := func(t *testing.T) *rebootWorld {
		w := first.anew(t)
		must(t, w.nodes.Merge("master-3", `{"spec":{"unschedulable":true}}`))
		return w
	}
	w := begin(t)
	must(t, w.run(everyHostOnce))
	if wrong := w.ended(); wrong != "" {
		t.Fatalf("the uncut run: %s", wrong)
	}
	order := slices.DeleteFunc(slices.Clone(w.changes), func(c string) bool { return !strings.HasSuffix(c, ": reboot") })
	if got := strings.Join(order, ", "); got != "master-2: reboot, master-3: reboot, master-1: reboot, worker-1: reboot" {
		t.Errorf("the order is %s", got)
	}
	for _, cut := range resumed(t, cutsOf(w.changes)) {
		t.Run(fmt.Sprintf("%d after %s", cut, w.changes[cut-1]), func(t *testing.T) {
			t.Parallel()
			c := begin(t)
			c.cutAt(cut)
			if err := c.run(everyHostOnce); err == nil {
				t.Fatal("the cut run succeeded")
			}
			c.cutAt(0)
			if err := c.run(everyHostOnce); err != nil {
				t.Fatalf("the next run fails: %v", err)
			}
			if wrong := c.ended(); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// A host that does not come back ends the run before the next one is begun.
func TestRebootStopsAtAHostThatStaysAway(t *testing.T) {
	t.Parallel()
	w := newRebootWorld(t, 3, 1)
	w.hosts["master-2"].stays = true
	o := everyHostOnce
	o.Return = time.Second
	err := w.run(o)
	var coder interface{ ExitCode() int }
	if !errors.As(err, &coder) || coder.ExitCode() != 5 || !strings.Contains(remote.HintOf(err), "hactl reboot") {
		t.Errorf("%v; hint %q", err, remote.HintOf(err))
	}
	for name, h := range w.hosts {
		if name != "master-2" && h.boots != 1 {
			t.Errorf("%s was rebooted", name)
		}
	}
	w.hosts["master-2"].off, w.hosts["master-2"].stays = false, false
	must(t, w.run(o))
	must(t, w.nodes.Merge("master-3", `{"spec":{"unschedulable":true}}`))
	if wrong := w.ended(); wrong != "" {
		t.Error(wrong)
	}
}

// A host that an earlier run reboots is waited for; another one that is silent is not.
func TestRebootWaitsForAHostThatIsOnItsWayBack(t *testing.T) {
	t.Parallel()
	w := newRebootWorld(t, 3, 1)
	for name, h := range w.hosts {
		if name != "worker-1" {
			h.mark = "1\nmaster-1 master-2 master-3\n"
		}
	}
	s := w.session()
	back := s.hosts["master-2"]
	delete(s.hosts, "master-2")
	delete(s.hosts, "worker-1")
	s.down = map[string]error{}
	asked := 0
	connect := func(_ context.Context, hosts []*inventory.Host) {
		if asked++; len(hosts) != 1 || hosts[0].Name != "master-2" {
			t.Errorf("connects to %v", hosts)
		}
		if asked == 3 {
			s.hosts["master-2"] = back
		}
	}
	must(t, everyHostOnce.awaitBegun(t.Context(), s, connect))
	if asked != 3 {
		t.Errorf("tried %d times", asked)
	}
	s.hosts["master-2"] = nil
	o := everyHostOnce
	o.Skip = []string{"master-2"}
	must(t, o.awaitBegun(t.Context(), s, func(context.Context, []*inventory.Host) { t.Error("a host that is left out is waited for") }))
}

// Masters that the cluster does not work without are refused; so is one whose apiserver
// is the last that is ready.
func TestRebootOfTheOnlyMasterTakesPermission(t *testing.T) {
	t.Parallel()
	w := newRebootWorld(t, 1, 1)
	w.pods = nil
	err := w.run(RebootOptions{Hosts: []string{"master-1"}, Drain: time.Minute, Return: time.Minute})
	if err == nil || !strings.Contains(remote.HintOf(err), "--accept-downtime") || w.hosts["master-1"].boots != 1 {
		t.Errorf("%v", err)
	}
	must(t, w.run(RebootOptions{Hosts: []string{"worker-1"}, Drain: time.Minute, Return: time.Minute}))
	if w.hosts["worker-1"].boots != 2 || w.hosts["master-1"].boots != 1 {
		t.Error("the worker alone was named")
	}
}
