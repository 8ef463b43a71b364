package ops

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/plan/plantest"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory"
)

// keys is the store of an etcd, as far as an operation writes to it.
type keys struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	mu      sync.Mutex
	content map[string][]byte
}

func (k *keys) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.content[string(r.Key)] = r.Value
	return &pb.PutResponse{Header: &pb.ResponseHeader{}}, nil
}

func (k *keys) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := &pb.RangeResponse{Header: &pb.ResponseHeader{}}
	if v, ok := k.content[string(r.Key)]; ok {
		out.Kvs, out.Count = []*mvccpb.KeyValue{{Key: r.Key, Value: v}}, 1
	}
	return out, nil
}

func (k *keys) DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{}}, nil
}

func (k *keys) LeaseGrant(context.Context, *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{}, ID: 1, TTL: 60}, nil
}

func (k *keys) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{Header: &pb.ResponseHeader{}}, nil
}

// restoreWorld is a cluster whose masters can be restored: the real phases and steps, on
// hosts that answer what these ask.
type restoreWorld struct {
	*rebootWorld
	at map[string]*restoreHost
	x  *restore // of the run that is going on
}

// restoreHost is what a host is at this moment.
type restoreHost struct {
	mark        string // of the restore that is under way
	fenced      bool
	data, etcd  string // token of the data, and of the member that runs; "" when none does
	before      bool   // the data of before was moved aside
	control     bool   // kubelet, control plane and keepalived run
	established string
	restarted   string // a worker's kubelet, for this token
}

const restoredSum = "0123"

func (w *rebootWorld) toRestore(t *testing.T) *restoreWorld {
	t.Helper()
	out := &restoreWorld{rebootWorld: w.anew(t), at: map[string]*restoreHost{}}
	token := w.material.Identity.Token()
	for i := range w.inv.Hosts {
		h := &restoreHost{control: true}
		if w.inv.Hosts[i].Role == inventory.ControlPlane {
			h.data, h.etcd, h.established = token, token, token
		}
		out.at[w.inv.Hosts[i].Name] = h
	}
	return out
}

// run is a run of hactl from the moment at which the snapshot was verified. Its identity
// is what the store has.
func (w *restoreWorld) run(of *etcd.Plan) error {
	s := &session{Console: quiet{}, inv: w.inv, store: w.store, hosts: plan.Hosts{}, identity: new(sync.Mutex), material: of.PKI}
	for name := range w.at {
		f := remote.NewFake(name, func(c remote.Call) (*remote.Result, error) { return w.call(name, c) })
		f.DialWith(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.dial(ctx, network, name, addr)
		})
		s.hosts[name] = f
	}
	s.secrets(of.PKI)
	defer func() { s.control.Close() }()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.kill = cancel
	begun, err := etcd.UnderWay(ctx, w.inv.Masters(), s.hosts)
	if err == nil {
		s.disks, err = etcd.Observe(ctx, w.inv, s.hosts)
	}
	if err != nil {
		return err
	}
	material := *of.PKI
	x := &restore{plan: &etcd.Restore{Plan: &etcd.Plan{Inv: w.inv, PKI: &material, Disks: s.disks}, Masters: w.inv.Masters(), SHA256: restoredSum, Of: 1, Etcdutl: "etcdutl"}}
	if x.resumed = resumes(begun, material.Identity.Token(), restoredSum); !x.resumed {
		material.Identity.Generation++
	}
	w.x = x
	for i, make := range []func(context.Context, *session) (*plan.Plan, error){x.stop, x.swap, x.start} {
		p, err := make(ctx, s)
		if err == nil {
			err = p.Err()
		}
		if err == nil && i == 0 {
			// Before a host is of the new generation, the store is.
			if err = w.change("store: generation"); err == nil {
				*of.PKI, s.material = material, &material
			}
		}
		if err == nil {
			_, err = p.Apply(ctx, s.hosts, plan.Discard, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *restoreWorld) dial(ctx context.Context, network, from, addr string) (net.Conn, error) {
	w.mu.Lock()
	to := ""
	_, port, _ := net.SplitHostPort(addr)
	switch h := w.at[from]; {
	case w.dead():
	case port == "2379" && h.etcd != "":
		to = w.etcd
	case port == "6443" && h.control:
		to = w.api.Listener.Addr().String()
	}
	w.mu.Unlock()
	if to == "" {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// call answers what a restore asks of a host.
func (w *restoreWorld) call(name string, c remote.Call) (*remote.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead() {
		return nil, &remote.UnreachableError{Host: name, Op: c.Kind, Err: fmt.Errorf("no answer")}
	}
	h := w.at[name]
	if c.Kind == "send" || c.Kind == "dial" {
		return nil, nil
	}
	if c.Kind == "put" {
		if w.change(name+": established") == nil {
			h.established = strings.TrimSpace(string(c.Files[0].Content))
		}
		return nil, nil
	}
	if out, is := plantest.Looks(c.Cmd.Script, func(look string) plan.Answer { return w.look(name, look) }); is {
		return &remote.Result{Stdout: []byte(out)}, nil
	}
	switch c.Cmd.Title {
	case "look for a restore that is under way":
		if h.mark == "" {
			return &remote.Result{Stdout: []byte("none\n")}, nil
		}
		return &remote.Result{Stdout: []byte("begun " + h.mark + "\n")}, nil
	case "look for room":
		return &remote.Result{Stdout: []byte(systest.Free(1 << 40))}, nil
	case "look for an etcd member":
		out := "end\n"
		if h.established != "" {
			out = "established " + h.established + "\n" + out
		}
		if h.data != "" {
			out = "data\n" + out
		}
		return &remote.Result{Stdout: []byte(out)}, nil
	}
	act, is := map[string]string{"fence": "fence", "restore the snapshot": "swap", "start etcd": "start etcd", "restored": "over", "kubelet": "restart the kubelet", "control plane": "start the control plane"}[c.Cmd.Title]
	if act == "start the control plane" && strings.Contains(c.Cmd.Script, "systemctl stop") {
		act = "stop the control plane"
	}
	if !is {
		w.t.Errorf("%s is to run %q", name, c.Cmd.Title)
	}
	if w.change(name+": "+act) == nil {
		w.act(name, act)
	}
	return nil, nil
}

// act changes the host, and holds what must never be.
func (w *restoreWorld) act(name, act string) {
	h, token := w.at[name], w.x.plan.Token()
	switch act {
	case "stop the control plane":
		h.control = false
	case "fence":
		h.mark, h.fenced, h.etcd = token+" "+restoredSum, true, ""
	case "swap":
		if h.etcd != "" || h.control || !h.fenced {
			w.wrong = append(w.wrong, name+": the data is exchanged under a process")
		}
		h.data, h.before = token, true
	case "start etcd":
		h.fenced, h.etcd = false, h.data
	case "start the control plane":
		h.control = true
	case "restart the kubelet":
		h.restarted = token
	case "over":
		h.mark = ""
	}
	running := map[string]bool{}
	for _, o := range w.at {
		if o.etcd != "" {
			running[o.etcd] = true
		}
	}
	if len(running) > 1 {
		w.wrong = append(w.wrong, fmt.Sprintf("after %s of %s members of %v run", act, name, slices.Sorted(maps.Keys(running))))
	}
}

// look answers a look of a step, by which step it is.
func (w *restoreWorld) look(name, script string) plan.Answer {
	h, r, m := w.at[name], w.x.plan, w.inv.Host(name)
	k := w.x.nodes(&session{inv: w.inv})
	is := func(st plan.Step) bool {
		return strings.TrimSuffix(st.Look[0].Script, "\n") == strings.TrimSuffix(script, "\n")
	}
	say := func(ok bool, other string) plan.Answer {
		return plan.Answer{Out: map[bool]string{true: "ok", false: other}[ok]}
	}
	swapped := h.before && h.data == r.Token()
	switch {
	case is(k.StopControlPlane(m)):
		return say(!h.control, "running: kubelet")
	case is(r.Fence(m)):
		return say(h.mark == r.Token()+" "+restoredSum && (swapped || h.fenced && h.etcd == ""), "etcd may start")
	case is(r.Swap(m)):
		return say(swapped, "not restored")
	case is(r.Unfence(m)):
		return say(!h.fenced && h.etcd != "", "etcd is stopped")
	case is(k.StartControlPlane(m)):
		return say(h.control, "stopped: kubelet")
	case is(k.RestartKubelet(m)):
		return say(h.restarted == r.Token(), "started before the restore")
	case is(r.Over(m)):
		return say(h.mark == "", "it is under way")
	case is(w.x.quorum(m, nil)):
		return h.establishedFile()
	}
	w.t.Errorf("%s is asked %q", name, script)
	return plan.Answer{Exit: 1}
}

// established answers the look of the file that names the generation.
func (h *restoreHost) establishedFile() plan.Answer {
	if h.established == "" {
		return plan.Answer{Out: "absent"}
	}
	text := h.established + "\n"
	return plan.Answer{Out: fmt.Sprintf("644 etcd:etcd regular file\n%x\n%s", sha256.Sum256([]byte(text)), base64.StdEncoding.EncodeToString([]byte(text)))}
}

// ended says what is not as it has to be after a restore.
func (w *restoreWorld) ended(token string) string {
	out := w.wrong
	for name, h := range w.at {
		want := restoreHost{control: true, restarted: token}
		if strings.HasPrefix(name, "master") {
			want = restoreHost{control: true, data: token, etcd: token, before: true, established: token}
		}
		if *h != want {
			out = append(out, fmt.Sprintf("%s: %+v", name, *h))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// Whatever the change after which a restore is cut, the next run completes it: every
// master has the new data and keeps that of before, and members of two generations never
// run beside one another.
func TestRestoreCutAnywhereIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	for _, masters := range []int{1, 3} {
		t.Run(fmt.Sprintf("masters %d", masters), func(t *testing.T) {
			t.Parallel()
			restoreCutAnywhere(t, masters)
		})
	}
}

func restoreCutAnywhere(t *testing.T, masters int) {
	first := newRebootWorld(t, masters, 1)
	begin := func(t *testing.T) (*restoreWorld, *etcd.Plan) {
		m := *first.material
		return first.toRestore(t), &etcd.Plan{PKI: &m}
	}
	w, of := begin(t)
	must(t, w.run(of))
	if wrong := w.ended(of.Token()); wrong != "" {
		t.Fatalf("the uncut run: %s", wrong)
	}
	if of.PKI.Identity.Generation != first.material.Identity.Generation+1 || w.changes[0] != "store: generation" {
		t.Errorf("generation %d; first %s", of.PKI.Identity.Generation, w.changes[0])
	}
	for _, cut := range resumed(t, cutsOf(w.changes)) {
		t.Run(fmt.Sprintf("%d after %s", cut, w.changes[cut-1]), func(t *testing.T) {
			t.Parallel()
			c, of := begin(t)
			c.cutAt(cut)
			if err := c.run(of); err == nil {
				t.Fatal("the cut run succeeded")
			}
			c.cutAt(0)
			if err := c.run(of); err != nil {
				t.Fatalf("the next run fails: %v", err)
			}
			if wrong := c.ended(of.Token()); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}
