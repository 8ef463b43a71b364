package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// taken is a cluster of n members; so many masters of them are in the inventory.
func taken(t *testing.T, n, left int) (*fakeEtcd, *Plan, dialer) {
	t.Helper()
	m := material(t, n)
	f := &fakeEtcd{t: t, leader: 1, keys: map[string]string{}}
	for i := 1; i <= n; i++ {
		f.start(m, "m"+string(rune('0'+i)), uint64(i))
		f.members[i-1].host.away = errors.New("ssh: rejected: connect failed (Connection refused)")
	}
	p := &Plan{Inv: masters(t, left), PKI: m, Disks: map[string]Disk{}}
	for _, h := range p.Inv.Masters() {
		p.Disks[h.Name] = Disk{Data: true, Established: "x"}
	}
	all := f.members
	return f, p, func(ctx context.Context) (*Cluster, error) {
		config, err := m.TLSConfig()
		if err != nil {
			return nil, err
		}
		var members []Member
		for _, fm := range all[:left] {
			if _, connected := p.Disks[fm.host.name]; connected {
				members = append(members, Member{Name: fm.host.name, Host: fm.host})
			}
		}
		c, err := Dial(ctx, members, config)
		if err == nil {
			c.poll, c.patience = 20*time.Millisecond, 100*time.Millisecond
		}
		return c, err
	}
}

// stepsOf are what Join returns for all masters, looked at, on hosts that say
// nothing.
func stepsOf(t *testing.T, p *Plan, dial dialer) (*plan.Plan, plan.Hosts) {
	t.Helper()
	var steps []plan.Step
	hosts := plan.Hosts{}
	for _, m := range p.Inv.Masters() {
		if _, connected := p.Disks[m.Name]; !connected {
			continue
		}
		steps = append(steps, p.Join(m, dial)...)
		hosts[m.Name] = remote.NewFake(m.Name, nil)
	}
	out, err := plan.Make(t.Context(), []plan.Stage{{Name: "etcd members", Serial: true, Steps: steps}}, hosts, plan.Discard)
	must(t, err)
	return out, hosts
}

func TestDeadMemberThatLeftTheInventoryIsRemovedByThePlan(t *testing.T) {
	f, p, dial := taken(t, 5, 3)
	f.kill("m4")
	f.kill("m5")
	made, hosts := stepsOf(t, p, dial)
	const want = "remove etcd member m4 (https://192.0.2.4:2380): it is not in the inventory and does not answer; " +
		"remove etcd member m5 (https://192.0.2.5:2380): it is not in the inventory and does not answer"
	if it := made.Pending(); len(it) != 1 || it[0].Change.Op != plan.Delete || it[0].Change.Summary != want {
		t.Fatalf("%v, %v", it, made.Err())
	}
	if _, err := made.Apply(t.Context(), hosts, plan.Discard, nil); err != nil {
		t.Fatal(err)
	}
	if len(f.members) != 3 {
		t.Errorf("%d members", len(f.members))
	}
	if again, _ := stepsOf(t, p, dial); len(again.Pending()) > 0 || again.Err() != nil {
		t.Errorf("%v, %v", again.Pending(), again.Err())
	}
}

func TestMembersAreRemovedOnlyWhenTheyAreNobodys(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(f *fakeEtcd, p *Plan)
		err   string // part of it; "" is in sync
		code  int
	}{
		"none left": {func(_ *fakeEtcd, p *Plan) { p.Inv = mastersOf(p.Inv, 5) }, "", 0},
		"skipped masters are not strangers": {func(f *fakeEtcd, p *Plan) {
			p.Inv = mastersOf(p.Inv, 5)
			f.kill("m4")
			f.kill("m1")
			delete(p.Disks, "m1")
		}, "", 0},
		"it runs, and one master can tell": {func(f *fakeEtcd, _ *Plan) { f.member("m3").host.away = nil }, "etcd member m4 (https://192.0.2.4:2380) is not in the inventory, and runs", 7},
		"sshd forwards to no other host": {func(f *fakeEtcd, _ *Plan) {
			for _, m := range f.members {
				m.host.away = &remote.UnreachableError{Host: m.host.name, Op: "dial", Err: errors.New("administratively prohibited")}
			}
		}, "no master could be asked", 0},
		"no quorum: first the members come up": {func(f *fakeEtcd, _ *Plan) { f.kill("m2"); f.kill("m3"); f.kill("m4") }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, p, dial := taken(t, 5, 3)
			c.spoil(f, p)
			made, _ := stepsOf(t, p, dial)
			err := made.Err()
			var coder interface{ ExitCode() int }
			if len(made.Pending()) > 0 || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || errors.As(err, &coder) != (c.code != 0) {
				t.Fatalf("%v, %v", made.Pending(), err)
			}
			if c.code != 0 && (coder.ExitCode() != c.code || !strings.Contains(hints(err), "systemctl disable --now etcd keepalived")) {
				t.Errorf("exit code %d, hints %q", coder.ExitCode(), hints(err))
			}
			if len(f.members) != 5 {
				t.Errorf("%d members", len(f.members))
			}
		})
	}
}

// mastersOf is the inventory with m1 to m<n>.
func mastersOf(inv *inventory.Inventory, n int) *inventory.Inventory {
	more := *inv
	for i := len(inv.Hosts); i < n; i++ {
		h := inv.Hosts[0]
		h.Name, h.PrivateAddress = "m"+string(rune('1'+i)), h.PrivateAddress.Next()
		for range i - 1 {
			h.PrivateAddress = h.PrivateAddress.Next()
		}
		more.Hosts = append(more.Hosts, h)
	}
	return &more
}

// hints are those of every error of a tree.
func hints(err error) string {
	out := remote.HintOf(err)
	switch e := err.(type) { //nolint:errorlint // each level is taken apart
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			out += hints(sub)
		}
	case interface{ Unwrap() error }:
		if sub := e.Unwrap(); sub != nil {
			out += hints(sub)
		}
	}
	return out
}

// A silent member is dead only when a master that was up all the time reports it.
func TestSilenceOfAMemberCountsFromAMasterThatIsThere(t *testing.T) {
	f, _, dial := taken(t, 3, 1)
	c, err := dial(t.Context())
	must(t, err)
	defer c.Close()
	s := c.Status(t.Context())
	l := s.Listed[2]
	silent := &remote.UnreachableError{Host: "m1", Op: "dial", Err: context.DeadlineExceeded}
	f.member("m1").host.away = silent
	if answers, err := c.answers(t.Context(), s, l); answers || err != nil {
		t.Errorf("%t, %v", answers, err)
	}
	f.member("m1").server.Stop()
	if answers, err := c.answers(t.Context(), s, l); answers || err == nil {
		t.Errorf("asked through a session that is lost: %t, %v", answers, err)
	}
}

func TestOnlyOneMasterLooksForStrangers(t *testing.T) {
	p := &Plan{Inv: masters(t, 3), Disks: map[string]Disk{"m2": {Data: true, Established: "x"}, "m3": {Data: true, Established: "x"}}}
	n := 0
	for _, m := range p.Inv.Masters() {
		if st := p.Join(m, nil); p.Disks[m.Name].Data && len(st) > 0 {
			n++
			if m.Name != "m2" || st[0].ID != "etcd/m2/unlisted-members" {
				t.Errorf("%s: %s", m.Name, st[0].ID)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d of them", n)
	}
}
