package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hactl/internal/fakehost"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"hactl/etcd"
	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki"
)

// voters is etcd's membership in a world of disks. It is a file on the first host's disk, so
// that a cut keeps it as it was.
type voters struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	w *crashWorld
}

// votersFile is below what a state leaves out: ids may differ.
const votersFile = "proc/net/members"

func (v *voters) keeper() *rootHost { return v.w.hosts[0] }

func (v *voters) save(list []*pb.Member) {
	b, _ := json.Marshal(list)
	v.keeper().SetDisk(v.keeper().Disk().With(fakehost.File(votersFile, string(b))))
}

func (v *voters) host(e *pb.Member) *rootHost {
	for i := range v.w.s.inv.Hosts {
		if h := &v.w.s.inv.Hosts[i]; etcd.PeerURL(h) == e.PeerURLs[0] {
			return v.w.hosts[slices.IndexFunc(v.w.hosts, func(r *rootHost) bool { return r.name == h.Name })]
		}
	}
	return nil
}

func (v *voters) runs(e *pb.Member) bool {
	h := v.host(e)
	return h != nil && h.Disk().Has("state/units/etcd.service.pid")
}

// list is the member list. A member gets its name when it starts for the first time.
func (v *voters) list() (list []*pb.Member) {
	if e := v.keeper().Disk().Get(votersFile); e != nil {
		_ = json.Unmarshal([]byte(e.Content), &list)
	}
	for _, e := range list {
		if e.Name == "" && v.runs(e) {
			e.Name = v.host(e).name
		}
	}
	return list
}

func (v *voters) String() string {
	var out []string
	for _, e := range v.list() {
		out = append(out, fmt.Sprintf("%s %s learner=%v", e.Name, e.PeerURLs[0], e.IsLearner))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// Status implements etcd's Maintenance service for the member that was dialled.
func (v *voters) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	p, _ := peer.FromContext(ctx)
	name := p.AuthInfo.(credentials.TLSInfo).State.ServerName
	list := v.list()
	lead := slices.IndexFunc(list, func(e *pb.Member) bool { return !e.IsLearner && v.runs(e) })
	i := slices.IndexFunc(list, func(e *pb.Member) bool { return e.Name == name })
	if i < 0 || lead < 0 {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	return &pb.StatusResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: list[i].ID}, Version: "3.6.16", Leader: list[lead].ID, IsLearner: list[i].IsLearner, RaftIndex: 1, RaftAppliedIndex: 1, RaftTerm: 1}, nil
}

// MemberList implements etcd's Cluster service.
func (v *voters) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{ClusterId: 1}, Members: v.list()}, nil
}

// MemberAdd refuses while a voter is down, as etcd does.
func (v *voters) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	list := v.list()
	if slices.ContainsFunc(list, func(e *pb.Member) bool { return !e.IsLearner && !v.runs(e) }) {
		return nil, rpctypes.ErrGRPCUnhealthy
	}
	id := uint64(1)
	for _, e := range list {
		id = max(id, e.ID+1)
	}
	defer v.w.hosts[0].Turn()("add a member")
	added := &pb.Member{ID: id, PeerURLs: r.PeerURLs, IsLearner: r.IsLearner}
	v.save(append(list, added))
	return &pb.MemberAddResponse{Header: &pb.ResponseHeader{ClusterId: 1}, Member: added}, nil
}

// MemberRemove implements etcd's Cluster service.
func (v *voters) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	defer v.w.hosts[0].Turn()("remove a member")
	v.save(slices.DeleteFunc(v.list(), func(e *pb.Member) bool { return e.ID == r.ID }))
	return &pb.MemberRemoveResponse{Header: &pb.ResponseHeader{ClusterId: 1}}, nil
}

// MemberPromote implements etcd's Cluster service.
func (v *voters) MemberPromote(_ context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	defer v.w.hosts[0].Turn()("promote a member")
	list := v.list()
	for _, e := range list {
		if e.ID == r.ID {
			if !v.runs(e) {
				return nil, rpctypes.ErrGRPCLearnerNotReady
			}
			e.IsLearner = false
		}
	}
	v.save(list)
	return &pb.MemberPromoteResponse{Header: &pb.ResponseHeader{ClusterId: 1}}, nil
}

// serve starts the members of a world.
func (v *voters) serve(t *testing.T, m *pki.Material) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	srv := memberServer(m)
	pb.RegisterClusterServer(srv, v)
	pb.RegisterMaintenanceServer(srv, v)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	for _, h := range v.w.hosts {
		h.serves.etcd = ln.Addr().String()
	}
}

// replaceWorld is a cluster of three masters and a worker that has run, with one more
// machine, and one that is dead.
type replaceWorld struct {
	*crashWorld
	file *inventory.Inventory // with the dead host, or with the new one in its place
	o    ReplaceOptions
	run  func(*replaceWorld, context.Context) error // one run of hactl, phase by phase
	v    *voters
	// prepared is called when the new host is prepared; may be nil.
	prepared func()
}

// known takes from the disks what hosts would say of themselves.
func (w *replaceWorld) known() {
	for _, h := range w.hosts {
		f := w.s.facts[h.name]
		f.KubeletCA, f.Record = "", facts.Record{}
		d := h.Disk()
		if d.Has("etc/kubernetes/kubelet.conf") && !d.Has("etc/kubernetes/hactl-join.yaml") {
			f.KubeletCA = string(w.s.material.KubernetesCA.CertPEM)
		}
		if e := d.Get("var/lib/hactl/host.json"); e != nil {
			_ = json.Unmarshal([]byte(e.Content), &f.Record)
		}
	}
}

// remove is hactl remove of a master that is dead.
func (w *replaceWorld) remove(ctx context.Context) error {
	rest, err := w.file.Without(w.o.Old)
	if err != nil {
		return err
	}
	w.s.inv = rest
	defer func() { w.s.inv = w.file }()
	w.known()
	if err := w.apply(w.makePlan(ctx)); err != nil {
		return err
	}
	forget := w.s.control.DeleteNode(w.s.firstMaster()[0], w.o.Old)
	return w.apply(plan.Make(ctx, []plan.Stage{{Name: "node", Steps: []plan.Step{forget}}}, w.s.hosts, plan.Discard))
}

// replace is hactl replace.
func (w *replaceWorld) replace(ctx context.Context) error {
	rp, err := newReplacement(w.file, w.o)
	if err != nil {
		return err
	}
	rp.connect = func(context.Context, *session, []*inventory.Host) {} // the dead stay silent
	w.s.inv = rp.want
	defer func() { w.s.inv = w.file }()
	w.known()
	c, err := w.cluster(ctx)
	if err != nil {
		return err
	}
	*w.s = *c.session
	if err := errors.Join(rp.mayGo(ctx, w.s), rp.silent(ctx, w.s)); err != nil {
		return err
	}
	stages, err := c.preparation(rp.want.Host(rp.new.Name))
	if err != nil {
		return err
	}
	if err := w.apply(w.planOf(ctx, c, stages)); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if w.prepared != nil {
		w.prepared()
	}
	if err := w.apply(rp.takeOut(ctx, w.s)); err != nil {
		return fmt.Errorf("take out: %w", err)
	}
	w.s.inv = rp.want
	w.known()
	if err := w.apply(w.makePlan(ctx)); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

func (w *replaceWorld) apply(p *plan.Plan, err error) error {
	if err == nil {
		err = p.Err()
	}
	if err == nil {
		_, err = p.Apply(context.Background(), w.s.hosts, plan.Discard, nil)
	}
	return err
}

// unsettled are parts of a state that a run may leave as they are: the mark that kubeadm
// puts on a master's node, and what a join wrote for the members of that moment.
var unsettled = regexp.MustCompile(`(?m)^\S+ state/nodes/master-\S+ .*\n|^\S+ etc/etcd/bootstrap.env .*\n|Name:/etc/etcd/bootstrap.env SHA256:\S*`)

// ended is the state of all hosts, and the members.
func (w *replaceWorld) ended() string {
	return unsettled.ReplaceAllString(w.state(), "") + w.v.String()
}

// at is the world on these disks.
func (w *replaceWorld) at(t *testing.T, sh fakehost.Shell, disks []*fakehost.Disk, o *fakehost.Order) *replaceWorld {
	t.Helper()
	var hosts []*rootHost
	for i, h := range w.hosts {
		hosts = append(hosts, newRootHost(h.name, sh, o, disks[i]))
	}
	c, done := w.on(t, hosts)
	t.Cleanup(done)
	c.s.facts = map[string]*facts.Brief{}
	for name, f := range w.s.facts {
		one := *f
		c.s.facts[name] = &one
	}
	c.s.Console, c.s.pace, c.s.looks = quiet{}, time.Millisecond, 1
	out := &replaceWorld{crashWorld: c, file: w.file, o: w.o, run: w.run}
	out.v = &voters{w: c}
	out.v.serve(t, w.s.material)
	return out
}

// newReplaceWorld brings the cluster up without the new host, and then has the old one die.
func newReplaceWorld(t *testing.T, sh fakehost.Shell, masters int, o ReplaceOptions, run func(*replaceWorld, context.Context) error) *replaceWorld {
	t.Helper()
	all := newCrashWorld(t, masters, 1)
	first := all.fresh(t, sh)
	if o.New != "" {
		rest, err := all.s.inv.Without(o.New)
		must(t, err)
		first.s.inv = rest
	}
	_, err := first.up(t.Context())
	must(t, err)
	first.s.inv = all.s.inv
	w := (&replaceWorld{crashWorld: first, file: all.s.inv, o: o, run: run}).at(t, sh, first.cut(0, "").disks, &fakehost.Order{})
	var list []*pb.Member
	for i, m := range all.s.inv.Masters() {
		if m.Name != o.New {
			list = append(list, &pb.Member{ID: uint64(i + 1), Name: m.Name, PeerURLs: []string{etcd.PeerURL(m)}})
		}
	}
	w.v.save(list)
	w.dies(o.Old)
	return w
}

// silent reports whether the old host is gone for good: no machine was made anew in its
// place.
func (w *replaceWorld) silent() bool { return w.o.New != "" || len(w.file.Masters()) == 4 }

// dies takes a host's disk away. One whose place another machine takes is silent from now on.
func (w *replaceWorld) dies(name string) {
	i := slices.IndexFunc(w.hosts, func(h *rootHost) bool { return h.name == name })
	w.hosts[i].SetDisk(fakehost.Fresh())
	if w.silent() {
		delete(w.s.hosts, name)
	}
}

// preparing are how many cuts of the preparation are resumed. Nothing but the new host
// changes in it, by steps of the bring-up; another test resumes every cut of those.
const preparing = 3

// A replacement, and a removal, that is cut after any change is completed by the next run: the members and
// the disks are as those of the uncut run. The members refuse a new one while a voter is
// down, as etcd does: the old one goes first.
func TestReplaceAndRemoveCutAnywhereAreCompletedByTheNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		masters int
		o       ReplaceOptions
		run     func(*replaceWorld, context.Context) error
	}{
		"a master at its address":     {3, ReplaceOptions{Old: "master-2"}, (*replaceWorld).replace},
		"a master at another address": {4, ReplaceOptions{Old: "master-2", New: "master-4"}, (*replaceWorld).replace},
		"a worker made anew":          {3, ReplaceOptions{Old: "worker-1"}, (*replaceWorld).replace},
		"a dead master is removed":    {4, ReplaceOptions{Old: "master-2"}, (*replaceWorld).remove},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := fakehost.Remembered(t)
			w := newReplaceWorld(t, mem, c.masters, c.o, c.run)
			points := []cutPoint{w.cut(0, "nothing")}
			w.hosts[0].Order().After = func(host, title string) {
				if title != "look" && !strings.HasPrefix(title, "wait for ") && title != "is this host still there" {
					points = append(points, w.cut(len(points), host+" "+title))
				}
			}
			until := 0
			w.prepared = func() { until = len(points) }
			must(t, w.run(w, t.Context()))
			w.hosts[0].Order().After = nil
			want := w.ended()
			t.Logf("%d cuts, %d of them in the preparation; members: %s", len(points), until, w.v)
			if os.Getenv("HACTL_SWEEP") == "" {
				points = slices.DeleteFunc(points, func(p cutPoint) bool { return p.number < until && p.number%max(until/preparing, 1) != 0 })
			}
			for _, at := range resumed(t, points) {
				t.Run(fmt.Sprintf("cut %d after %s", at.number, at.after), func(t *testing.T) {
					t.Parallel()
					again := w.at(t, mem, at.disks, nil)
					if w.silent() {
						delete(again.s.hosts, w.o.Old)
					}
					if err := again.run(again, t.Context()); err != nil {
						t.Fatalf("the next run fails: %v", err)
					}
					if got := again.ended(); got != want {
						t.Errorf("another end state: %s", difference(want, got))
					}
				})
			}
		})
	}
}

// A master that lives, owns the VIP and leads etcd is emptied, its programs stop, then its
// member and its node go. Cut after any change, the next run completes that.
func TestMasterThatLivesIsTakenOutBeforeItsMemberGoes(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 4, 1)
	begin := func(t *testing.T) *rebootWorld {
		w := first.anew(t)
		w.members.list = w.members.list[:3]
		w.hosts["master-4"].api = false
		delete(w.nodes.Store.(kubeapitest.Map), "master-4")
		w.pods["web-0"] = "master-1"
		return w
	}
	run := func(w *rebootWorld) error {
		s := w.session()
		defer func() { s.control.Close() }()
		s.disks = map[string]etcd.Disk{"master-1": {Data: true}, "master-2": {Data: true}, "master-3": {Data: true}, "master-4": {}}
		ctx, cancel := context.WithCancel(w.t.Context())
		defer cancel()
		w.kill = cancel
		must(w.t, s.loadStore(ctx))
		rp, err := newReplacement(w.inv, ReplaceOptions{Old: "master-1", New: "master-4", Drain: time.Minute})
		must(w.t, err)
		p, err := rp.takeOut(ctx, s)
		if err == nil {
			err = p.Err()
		}
		if err == nil {
			_, err = p.Apply(ctx, s.hosts, plan.Discard, nil)
		}
		return err
	}
	want := []string{"patch /api/v1/nodes/master-1", "evict web-0", "etcd: master-3 leads", "master-1: stop the apiserver", "master-1: shut out", "etcd: master-1 leaves", "delete /api/v1/nodes/master-1"}
	for cut := range want {
		w := begin(t)
		if w.cutAt(cut); cut > 0 {
			if err := run(w); err == nil {
				t.Fatalf("cut after %s: it succeeded", want[cut-1])
			}
		}
		w.cutAt(0)
		if err := run(w); err != nil || !slices.Equal(w.changes, want) || w.owner == "master-1" || w.wrong != nil {
			t.Errorf("cut after %d changes: %v; done is %q, wrong %v, the VIP is on %s", cut, err, w.changes, w.wrong, w.owner)
		}
	}
}

// Before the member of a dead master goes, the others are waited for.
func TestMemberOfADeadMasterIsGivenUpBeforeItGoes(t *testing.T) {
	t.Parallel()
	for off, want := range map[bool][]string{true: {"master-2", "master-3"}, false: nil} {
		w := newRebootWorld(t, 4, 0)
		w.members.list = w.members.list[:3]
		s := w.session()
		s.disks = map[string]etcd.Disk{"master-1": {Data: true}, "master-2": {Data: true}, "master-3": {Data: true}, "master-4": {}}
		must(t, s.loadStore(t.Context()))
		if off {
			delete(s.hosts, "master-1")
		}
		rp, err := newReplacement(w.inv, ReplaceOptions{Old: "master-1", New: "master-4", Dead: off, Drain: time.Minute})
		must(t, err)
		p, err := rp.takeOut(t.Context(), s)
		s.control.Close()
		if slices.Sort(w.waited); err != nil || p.Err() != nil || !slices.Equal(w.waited, want) || len(p.Pending()) == 0 {
			t.Errorf("off %t: %q waited; %v, %v", off, w.waited, err, p.Err())
		}
	}
}

// Which hosts a replacement is refused with.
func TestReplacementIsRefused(t *testing.T) {
	t.Parallel()
	inv := inventorytest.Load(t, inventorytest.Text(1, 2, false))
	for _, c := range []struct {
		old, new string
		code     int
		says     string
	}{
		{"worker-1", "worker-9", exitcode.Usage, "worker-9 is not in"},
		{"master-1", "worker-1", exitcode.Usage, "master-1 is a control-plane, and worker-1 a worker"},
		{"master-1", "", exitcode.Unsafe, "no master would be left"},
	} {
		if _, err := newReplacement(inv, ReplaceOptions{Old: c.old, New: c.new}); exitcode.Of(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %v", c.old, c.new, err)
		}
	}
}

// An old host that does not answer here is dead if no other host reaches it, now and a
// while later, or if the operator says so.
func TestHostThatOthersReachIsNotReplaced(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 4, 1)
	for name, c := range map[string]struct {
		off, dead bool
		code      int
	}{
		"it is cut off from here":              {false, false, exitcode.Unsafe},
		"it is cut off, and is to be replaced": {false, true, 0},
		"it is silent":                         {true, false, 0},
	} {
		w := first.anew(t)
		w.hosts["master-1"].off = c.off
		s, rp := w.withoutMaster1(ReplaceOptions{Old: "master-1", New: "master-4", Dead: c.dead})
		for when, ask := range map[string]func(context.Context, *session) error{"first": rp.silent, "again": rp.stillSilent} {
			if err := ask(t.Context(), s); exitcode.Of(err) != c.code {
				t.Errorf("%s, asked %s: %v", name, when, err)
			}
		}
	}
	// It answers again when it is asked the second time.
	w := first.anew(t)
	w.hosts["master-1"].off = true
	s, rp := w.withoutMaster1(ReplaceOptions{Old: "master-1", New: "master-4"})
	back := w.session().hosts["master-1"]
	rp.connect = func(_ context.Context, s *session, _ []*inventory.Host) { s.hosts["master-1"] = back }
	must(t, rp.silent(t.Context(), s))
	if err := rp.stillSilent(t.Context(), s); exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(err.Error(), "answers again") {
		t.Errorf("it came back meanwhile: %v", err)
	}
	// No host can be asked: that is not silence.
	for name := range s.hosts {
		delete(s.hosts, name)
	}
	rp.asked = time.Time{}
	if err := rp.silent(t.Context(), s); exitcode.Of(err) != exitcode.Unknown {
		t.Errorf("no host could be asked: %v", err)
	}
}

// withoutMaster1 is a session without a connection to master-1, and its replacement. Here,
// too, it stays silent.
func (w *rebootWorld) withoutMaster1(o ReplaceOptions) (*session, *replacement) {
	w.t.Helper()
	s := w.session()
	delete(s.hosts, "master-1")
	rp, err := newReplacement(w.inv, o)
	must(w.t, err)
	rp.connect = func(context.Context, *session, []*inventory.Host) {}
	return s, rp
}

// Before anything of a dead host is removed, it is asked from here and from the other hosts
// at the same time: without an answer each of them takes seconds. The question from here is
// bounded as that of the others is, and not by the tries of an ordinary connection.
func TestDeadHostIsAskedFromEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	w := newRebootWorld(t, 4, 1)
	w.hosts["master-1"].off = true
	s, rp := w.withoutMaster1(ReplaceOptions{Old: "master-1", New: "master-4"})
	asked := make(chan struct{})
	var once sync.Once
	s.hosts["master-2"].(*remote.Fake).DialWith(func(context.Context, string, string) (net.Conn, error) {
		once.Do(func() { close(asked) })
		return nil, errors.New("no route to host")
	})
	rp.connect = func(ctx context.Context, _ *session, _ []*inventory.Host) {
		if end, is := ctx.Deadline(); !is || time.Until(end) > reachTimeout {
			t.Errorf("the connection may take until %v", end)
		}
		select {
		case <-asked:
		case <-ctx.Done():
			t.Error("the other hosts were not asked meanwhile")
		}
	}
	must(t, rp.silent(t.Context(), s))
	asked, once = make(chan struct{}), sync.Once{}
	must(t, rp.stillSilent(t.Context(), s))
}

// A dead host is not waited for once no other host reaches it, or the operator says that it is
// dead. One that others reach has as long as any host to answer here.
func TestDeadHostIsNotWaitedForLongerThanOthersAsk(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 4, 1)
	for name, c := range map[string]struct{ off, dead, givenUp, asked bool }{
		"no host reaches it":       {off: true, givenUp: true, asked: true},
		"the operator says so":     {dead: true, givenUp: true},
		"others reach it, it does": {},
	} {
		w := first.anew(t)
		w.hosts["master-1"].off = c.off
		s, rp := w.withoutMaster1(ReplaceOptions{Old: "master-1", New: "master-4", Dead: c.dead})
		back, givenUp := w.session().hosts["master-1"], false
		rp.connect = func(ctx context.Context, s *session, _ []*inventory.Host) {
			bound := 10 * time.Second // what only a hang takes
			if !c.givenUp {
				bound = 100 * time.Millisecond
			}
			select {
			case <-ctx.Done():
				givenUp = true
			case <-time.After(bound):
				s.hosts["master-1"] = back
			}
		}
		rp.meet(t.Context(), s)
		if givenUp != c.givenUp || rp.answers(s) == c.givenUp || rp.asked.IsZero() == c.asked {
			t.Errorf("%s: given up %v, answers %v, asked at %v", name, givenUp, rp.answers(s), rp.asked)
		}
	}
}
