package ops

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/fakehost"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// without is the inventory without a host, and that host.
func (w *rebootWorld) without(name string) (rest *inventory.Inventory, h *inventory.Host) {
	r := *w.inv
	r.Hosts = slices.DeleteFunc(slices.Clone(r.Hosts), func(h inventory.Host) bool { return h.Name == name })
	return &r, w.inv.Host(name)
}

// leave runs the phase that works on the host that leaves.
func (w *rebootWorld) leave(name string, o RemoveOptions) error {
	s := w.session()
	for _, h := range w.inv.Hosts {
		if w.hosts[h.Name].off {
			delete(s.hosts, h.Name)
			s.down = map[string]error{h.Name: context.DeadlineExceeded}
		}
	}
	rest, h := w.without(name)
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.kill = cancel
	defer func() { s.control.Close() }()
	p, err := s.planLeave(ctx, h, rest, o)
	if err == nil {
		err = p.Err()
	}
	if err == nil {
		_, err = p.Apply(ctx, s.hosts, plan.Discard, nil)
	}
	return err
}

// The leader and owner of the VIP is emptied before its programs stop; cut anywhere, the
// next run completes that.
func TestHostThatLeavesIsEmptiedFirst(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 3, 1)
	o := RemoveOptions{Drain: time.Minute}
	w := first.anew(t)
	w.pods["web-0"] = "master-1"
	must(t, w.leave("master-1", o))
	want := []string{"patch /api/v1/nodes/master-1", "evict web-0", "etcd: master-3 leads", "master-1: stop the apiserver", "master-1: shut out"}
	if !slices.Equal(w.changes, want) || w.owner == "master-1" || w.wrong != nil {
		t.Errorf("done is %q, wrong %v, the VIP is on %s", w.changes, w.wrong, w.owner)
	}
	for cut := 1; cut < len(want); cut++ {
		c := first.anew(t)
		c.pods["web-0"] = "master-1"
		c.cutAt(cut)
		if err := c.leave("master-1", o); err == nil {
			t.Fatalf("cut after %s: it succeeded", want[cut-1])
		}
		c.cutAt(0)
		if err := c.leave("master-1", o); err != nil || !c.hosts["master-1"].out || c.owner == "master-1" || !slices.Equal(c.changes, want) {
			t.Errorf("cut after %s: %v; done is %q", want[cut-1], err, c.changes)
		}
	}
}

// A host that does not answer is not dead because of that.
func TestDeadHostIsRemovedOnlyWhenTold(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 3, 1)
	for name, c := range map[string]struct {
		off, dead bool
		hint      string // of the refusal; empty: none
	}{
		"it answers":                    {false, false, ""},
		"it answers, and is named dead": {false, true, "leave --dead out"},
		"it is silent":                  {true, false, "--dead"},
		"it is named dead":              {true, true, ""},
	} {
		w := first.anew(t)
		w.hosts["worker-1"].off = c.off
		err := w.leave("worker-1", RemoveOptions{Dead: c.dead, Drain: time.Minute})
		if c.hint == "" && err != nil || c.hint != "" && (exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(remote.HintOf(err), c.hint)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The masters that stay are waited for before the member of a dead one leaves, and before
// nothing else.
func TestOnlyTheMemberOfADeadMasterIsGivenUpFirst(t *testing.T) {
	t.Parallel()
	first := newRebootWorld(t, 3, 1)
	for name, c := range map[string]struct {
		host string
		off  bool
		want []string
	}{
		"a dead master":         {"master-2", true, []string{"master-1", "master-3"}},
		"a master that answers": {"master-2", false, nil},
		"a dead worker":         {"worker-1", true, nil},
	} {
		w := first.anew(t)
		s := w.session()
		rest, h := w.without(c.host)
		s.giveUp(t.Context(), !c.off, h, rest)
		if slices.Sort(w.waited); !slices.Equal(w.waited, c.want) {
			t.Errorf("%s: %q waited", name, w.waited)
		}
	}
}

// What was removed is not brought in again by accident.
func TestRemovedHostIsRefusedUntilItLeavesTheInventory(t *testing.T) {
	t.Parallel()
	w := newRebootWorld(t, 3, 1)
	s := w.session()
	must(t, s.loadStore(t.Context()))
	must(t, s.recordRemoved(t.Context(), "worker-1"))
	again := w.session()
	must(t, again.loadStore(t.Context()))
	if err := again.refuseRemoved(); exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(remote.HintOf(err), "--bring-back") {
		t.Errorf("%v", err)
	}
	again.bringBack = []string{"worker-1"}
	must(t, again.refuseRemoved())
	again.bringBack = nil
	again.inv, _ = w.without("worker-1")
	must(t, again.refuseRemoved())
	must(t, again.forgetRemoved(t.Context()))
	last := w.session()
	must(t, last.loadStore(t.Context()))
	must(t, last.refuseRemoved())
}

// etcd on a master that leaves is told to end first, and has ended when the step is done. One
// that does not end is killed. An etcd on a worker is another's, and is left alone.
func TestEtcdOfAMasterThatLeavesEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		role      inventory.Role
		ends, had bool
		want      []string // what is done to etcd
	}{
		"it ends":        {inventory.ControlPlane, true, true, []string{"stop --no-block etcd", "disable --now etcd"}},
		"it hangs":       {inventory.ControlPlane, false, true, []string{"stop --no-block etcd", "kill -s KILL etcd.service", "disable --now etcd"}},
		"there is none":  {inventory.ControlPlane, true, false, nil},
		"another's etcd": {inventory.Worker, true, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := fakehost.NewFolderHost(t, "host")
			d.Program("sleep", ":")
			d.Program("systemctl", `case "$*" in
*LoadState*etcd*) [ -e /state/etcd ] && echo loaded || echo not-found ;;
*LoadState*) echo loaded ;;
*ActiveState*) echo inactive; ! grep -qx running /state/etcd 2>/dev/null || echo deactivating ;;
*etcd*) echo "$*" >>/state/done ;;
esac
case "$*" in "stop --no-block etcd") [ ! -e /state/ends ] || echo stopped >/state/etcd ;; "kill -s KILL etcd.service") echo stopped >/state/etcd ;; esac`)
			if c.had {
				d.Write("/state/etcd", "running\n", 0o644)
			}
			if c.ends {
				d.Write("/state/ends", "", 0o644)
			}
			step := shutOut(&inventory.Host{Name: "host", Role: c.role})
			h := remote.NewFake("host", func(c remote.Call) (*remote.Result, error) { return d.Run(t.Context(), c.Cmd) })
			must(t, step.Apply(t.Context(), plan.Env{Host: h}, &plan.Change{}))
			if done := strings.Split(strings.TrimSpace(d.Content("/state/done")), "\n"); !slices.Equal(slices.DeleteFunc(done, func(l string) bool { return l == "" }), c.want) {
				t.Errorf("done is %q, want %q", done, c.want)
			}
		})
	}
}
