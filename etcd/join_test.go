package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/fakehost"
	"hactl/internal/goldentest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/pki"
	"hactl/pki/pkitest"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

// machine is m3 of a fake cluster, with a disk on which scripts run. What its systemd says
// of etcd, the cluster follows.
type machine struct {
	*tunnel
	f    *fakeEtcd
	disk *fakehost.FolderHost
	did  []string // what was asked, but looks
	die  int      // the call before which hactl dies, from 1 on; 0: none
	n    int
}

// startsAgain is a start of etcd on m3: as a new member of the others, and in no other way.
const startsAgain = `grep -q STATE=existing /etc/etcd/bootstrap.env &&
grep -q =m1=https://192.0.2.1:2380,m2=https://192.0.2.2:2380,m3=https://192.0.2.3:2380 /etc/etcd/bootstrap.env &&
mkdir -p /data/member/wal && : >/data/member/wal/0.wal`

// running is there while etcd runs.
const running = "/state/units/etcd.service.pid"

const looks = " look; look for an etcd member; look at etcd.service; wait for the member's log; "

func (h *machine) call(what string, f func() error) error {
	if err := h.lives(); err != nil {
		return err
	}
	if !strings.Contains(looks, " "+what+"; ") {
		h.did = append(h.did, what)
	}
	err := f()
	h.follow()
	return err
}

// lives counts the calls that may change something: those to the machine, and
// changes of the members.
func (h *machine) lives() error {
	if h.n++; h.die > 0 && h.n >= h.die {
		return &remote.UnreachableError{Host: h.name, Op: "run", Err: errors.New("hactl is dead")}
	}
	return nil
}

// Run implements remote.Host.
func (h *machine) Run(ctx context.Context, c remote.Cmd) (res *remote.Result, err error) {
	err = h.call(c.Title, func() error {
		res, err = h.disk.Run(ctx, c)
		return err
	})
	if res == nil {
		res = &remote.Result{}
	}
	return res, err
}

// Put implements remote.Host.
func (h *machine) Put(ctx context.Context, files ...remote.File) error {
	return h.call("write "+files[0].Path, func() error { return h.disk.Put(ctx, files...) })
}

func (h *machine) has(path string) bool { return h.disk.Has(path) }

// gone has a file or a folder be gone.
func (h *machine) gone(t *testing.T, path string) {
	t.Helper()
	must(t, os.RemoveAll(h.disk.On(path)))
}

// follow makes the cluster's m3 what the machine's is: down, or up as whatever
// member is listed under its address.
func (h *machine) follow() {
	if !h.has(running) {
		h.fail(errors.New("connection refused"))
		h.f.set(func() {
			if m := h.f.at(h.name); m != nil {
				m.up = false
			}
		})
		return
	}
	h.fail(nil)
	h.f.set(func() {
		if m := h.f.at(h.name); m != nil {
			m.entry.Name, m.up = h.name, true
			h.f.third.entry = m.entry // the server that is dialled is this member now
			h.f.third.up = true
			h.f.members[slices.Index(h.f.members, m)] = h.f.third
		}
	})
}

// at is the member that is listed under the name or the address of m3.
func (f *fakeEtcd) at(name string) *fakeMember {
	for _, m := range f.members {
		if m.entry.Name == name || slices.Contains(m.entry.PeerURLs, f.third.entry.PeerURLs[0]) {
			return m
		}
	}
	return nil
}

// joinWorld is m1 and m2, healthy, and m3, an established member that runs.
type joinWorld struct {
	p *Plan
	f *fakeEtcd
	m *pki.Material
	h *machine
}

func newJoinWorld(t *testing.T) *joinWorld {
	t.Helper()
	inv := masters(t, 3)
	inv.Etcd.DataDir = "/data"
	w := &joinWorld{m: pkitest.Material(t, inv)}
	w.f = &fakeEtcd{t: t, leader: 1, keys: map[string]string{}}
	for i := 1; i <= 3; i++ {
		w.f.start(w.m, fmt.Sprintf("m%d", i), uint64(i))
	}
	w.f.third = w.f.members[2]
	w.p = &Plan{Inv: inv, PKI: w.m, Program: "/opt/hactl/etcd/v3.6.16-01/etcd"}
	w.h = &machine{tunnel: w.f.third.host, f: w.f, disk: fakehost.NewFolderHost(t, "m3")}
	w.f.before = w.h.lives
	unit, config, err := w.p.unit(inv.Masters()[2])
	if err != nil {
		t.Fatal(err)
	}
	w.h.disk.Unit("etcd.service", string(unit), startsAgain, false)
	for path, content := range map[string]string{
		running: "100\n", "/state/units/etcd.service.enabled": "", "/proc/100/comm": "etcd\n", "/proc/100/environ": plan.ConfigEnv + "=" + config + "\x00",
		"/run/hactl-started/etcd.service": fmt.Sprintf("%x  %s\n", sha256.Sum256(unit), unitFile),
		"/data/member/wal/0.wal":          "", "/data/member/snap/db": "", establishedFile: w.p.Token() + "\n", bootstrapFile: "ETCD_INITIAL_CLUSTER_STATE=new\n",
		"/state/owners" + establishedFile + ".is": "etcd:etcd\n",
	} {
		w.h.disk.Write(path, content, 0o644)
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *joinWorld) dial(ctx context.Context) (*Cluster, error) {
	config, err := w.m.TLSConfig()
	if err != nil {
		return nil, err
	}
	var members []Member
	for _, name := range []string{"m1", "m2"} {
		members = append(members, Member{Name: name, Host: w.f.member(name).host})
	}
	c, err := Dial(ctx, append(members, Member{Name: "m3", Host: w.h}), config)
	if err == nil {
		c.poll, c.patience = 20*time.Millisecond, 100*time.Millisecond
	}
	return c, err
}

// plan looks at m3's steps in the order of a bring-up.
func (w *joinWorld) plan(t *testing.T) (*plan.Plan, plan.Hosts, error) {
	t.Helper()
	m3 := w.p.Inv.Masters()[2]
	established := Disk{Data: true, Established: w.p.Token()}
	d, err := observe(t.Context(), w.p.Inv, w.h)
	if err != nil {
		return nil, nil, err
	}
	w.p.Disks = map[string]Disk{"m1": established, "m2": established, "m3": d}
	if err := w.p.Validate(); err != nil {
		return nil, nil, err
	}
	start, err := w.p.Start(m3, w.dial)
	must(t, err)
	steps := append(append(w.p.Join(m3, w.dial), start), w.p.Promote(m3, w.dial)...)
	hosts := plan.Hosts{"m3": w.h}
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "etcd members", Serial: true, Steps: steps}, {Name: "etcd quorum", Steps: []plan.Step{w.p.Quorum(m3, w.dial)}}}, hosts, plan.Discard)
	return p, hosts, err
}

func (w *joinWorld) up(t *testing.T) error {
	t.Helper()
	p, hosts, err := w.plan(t)
	if err != nil {
		return err
	}
	_, err = p.Apply(t.Context(), hosts, plan.Discard, nil)
	return err
}

// wrong says what m3 lacks to be what it was, and what is still pending.
func (w *joinWorld) wrong(t *testing.T) (out []string) {
	t.Helper()
	p, _, err := w.plan(t)
	if err != nil || p.Err() != nil {
		return []string{fmt.Sprint(err, p.Err())}
	}
	for _, it := range p.Pending() {
		out = append(out, string(it.Step.ID)+" would "+it.Change.Summary)
	}
	c, err := w.dial(t.Context())
	must(t, err)
	defer c.Close()
	if err := c.WaitAll(t.Context(), 10*time.Second, nil); err != nil {
		out = append(out, err.Error())
	}
	s := c.Status(t.Context())
	if s.Healthy != 3 || s.Voters != 3 || len(s.Listed) != 3 || s.Member("m3").ID == 3 || !w.h.has(establishedFile) {
		out = append(out, fmt.Sprintf("%d of %d voters healthy, members %v, m3 is %+v", s.Healthy, s.Voters, s.Listed, s.Member("m3")))
	}
	return out
}

// lost are the ways in which a member's data goes while /etc/etcd stays.
var lost = map[string]func(t *testing.T, w *joinWorld){
	"stopped, the disk replaced": func(t *testing.T, w *joinWorld) {
		t.Helper()
		w.h.gone(t, running)
		w.h.gone(t, "/data")
	},
	"wiped while etcd runs": func(t *testing.T, w *joinWorld) {
		t.Helper()
		w.h.gone(t, "/data/member")
	},
	"wiped, and etcd made its folders again": func(t *testing.T, w *joinWorld) {
		t.Helper()
		w.h.gone(t, running)
		w.h.gone(t, "/data/member/wal")
	},
	"of one that had joined once": func(t *testing.T, w *joinWorld) {
		t.Helper()
		w.h.gone(t, "/data/member")
		w.h.disk.Write(bootstrapFile, "ETCD_INITIAL_CLUSTER=m3=https://192.0.2.99:2380\nETCD_INITIAL_CLUSTER_STATE=existing\n", 0o644)
	},
}

func TestMasterWhoseDataIsGoneBecomesAVoterAgain(t *testing.T) {
	for name, lose := range lost {
		t.Run(name, func(t *testing.T) {
			w := newJoinWorld(t)
			lose(t, w)
			w.h.follow()
			kept := w.h.has("/data/member/snap/db")
			p, _, err := w.plan(t)
			must(t, err)
			if it := p.Pending(); len(it) == 0 || it[0].Change.Op != plan.Delete || !strings.HasPrefix(it[0].Change.Summary, "remove the stale etcd member m3") ||
				strings.Contains(it[0].Change.Summary, "put aside") != kept {
				t.Errorf("the plan names nothing: %s, %v", it[0].Change.Summary, p.Err())
			}
			must(t, w.up(t))
			if bad := w.wrong(t); bad != nil {
				t.Error(bad)
			}
			// It must not be able to start as the voter that it was.
			want := []string{"stop what is left of the member", "write " + bootstrapFile, "restart etcd.service", "write " + establishedFile}
			if !slices.Equal(w.h.did, want) {
				t.Errorf("did %q", w.h.did)
			}
			if w.h.has("/data/member.old-1/snap/db") != kept || w.h.has("/data/member/snap/db") {
				t.Error("what was left became part of the new member, or is gone")
			}
		})
	}
}

// Dead before a call is dead after the one before it. When nothing is cut any
// more, all have been tried.
func TestReturnOfAMemberCutAnywhereIsCompletedByTheNextRun(t *testing.T) {
	n := 0
	for cut := true; cut; {
		n++
		w := newJoinWorld(t)
		lost["of one that had joined once"](t, w)
		w.h.follow()
		w.h.die = n
		cut = w.up(t) != nil
		w.h.die = 0
		if err := w.up(t); err != nil {
			t.Fatalf("cut at call %d, did %q: the next run: %v", n, w.h.did, err)
		}
		if bad := w.wrong(t); bad != nil {
			t.Fatalf("cut at call %d, did %q: %v", n, w.h.did, bad)
		}
	}
	t.Logf("cut before each of %d calls", n-1)
	if n < 10 {
		t.Error("too few for this to mean anything")
	}
}

// A member whose files were deleted under it still counts, for as long as it runs.
func TestMemberWithoutDataIsNotStoppedWhenTheOthersNeedIt(t *testing.T) {
	w := newJoinWorld(t)
	w.h.gone(t, "/data/member")
	w.f.kill("m2")
	err := w.up(t)
	var guard *plan.GuardError
	if !errors.As(err, &guard) || !w.h.has(running) || !w.h.has(establishedFile) || len(w.h.did) > 0 {
		t.Errorf("did %q: %v", w.h.did, err)
	}
}

func TestDataThatComesBackIsNotPutAside(t *testing.T) {
	w := newJoinWorld(t)
	_, err := w.h.Run(t.Context(), remote.Cmd{Script: w.p.clearScript()})
	if err == nil || !w.h.has("/data/member/wal/0.wal") || !w.h.has(establishedFile) {
		t.Errorf("a disk that was mounted in between: %v", err)
	}
}

func TestJoinScriptsPassShellcheck(t *testing.T) {
	w := newJoinWorld(t)
	goldentest.Shell(t, map[string]string{"clear": w.p.clearScript(), "joining": w.p.joining().Script, "observe": observeScript("/data")})
}
