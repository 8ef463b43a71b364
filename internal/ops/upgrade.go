package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"hactl/etcd"
	"hactl/internal/cage"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/ui"
	"hactl/inventory"
)

// UpgradeOptions are the flags of an upgrade.
type UpgradeOptions struct {
	Options
	Drain          bool          // drain hosts for a patch of Kubernetes, too
	DrainTimeout   time.Duration // how long the pods of a host may take to leave
	Batch          int           // workers side by side
	StopAfter      int           // end after so many turns of hosts; 0: go through
	Soak           time.Duration // between two turns, before the second look at the cluster
	Abort          bool          // walk back to the versions of before
	AcceptDowntime bool          // with one or two masters
	NoTry          bool          // do not try the wanted apiserver before
}

// upgrade is one run.
type upgrade struct {
	UpgradeOptions
	turns  int  // of hosts, so far
	due    bool // something is to be changed
	serves bool // an apiserver is
}

// Upgrade walks a running cluster to the versions in the inventory, part by part and, in
// each, host by host: programs and images first, which changes nothing that runs; then
// etcd, the control plane, what the cluster has once, and containerd and the kubelet of
// each host. Each step is the one by which up keeps that part. A run that was cut is
// completed by the next one.
func Upgrade(ctx context.Context, r Request, o UpgradeOptions) (*Result, error) {
	u := &upgrade{UpgradeOptions: o}
	return operation{
		verb: "upgrade",
		phases: []phase{
			{make: u.plan, before: u.snapshot},
			{name: "look at the rest", make: rest},
		},
		finish: func(_ context.Context, s *session, res *Result) error {
			if o.Abort {
				res.Next = append(res.Next, fmt.Sprintf("write the versions that run into %s: Kubernetes %s, etcd %s, containerd %s", s.inv.Path, s.inv.Versions.Kubernetes, s.inv.Versions.Etcd, s.inv.Versions.Containerd))
			}
			return nil
		},
	}.run(ctx, r, o.Options)
}

// plan looks at the cluster and lists the way to the wanted versions. It refuses with
// everything that is in the way.
func (u *upgrade) plan(ctx context.Context, s *session) (*plan.Plan, error) {
	s.upgrades = true
	if err := s.loadStore(ctx); err != nil {
		return nil, err
	}
	if err := s.refuseRemoved(); err != nil {
		return nil, err
	}
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	if !s.established() {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(errors.New("there is no running cluster to upgrade"), "hactl up makes one, with the versions of %s", s.inv.Path))
	}
	if err := s.chooseVersions(u.Abort); err != nil {
		return nil, err
	}
	c, err := s.cluster()
	if err != nil {
		return nil, exitcode.With(exitcode.Unsafe, err)
	}
	look := s.verified(false)
	gate := state.NewGate(look, state.Look(ctx, look, state.Nodes))
	stages, err := u.stages(c, func(hosts []*inventory.Host, batch int) *plan.Roll { return u.roll(c, gate, hosts, batch) })
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, stages, s.hosts, s)
	if err != nil {
		return nil, err
	}
	p.Record = s.recordMade
	if p.Err() != nil {
		return p, nil
	}
	if u.due = len(p.Pending()) > 0; !u.due {
		return rest(ctx, s)
	}
	u.serves = slices.ContainsFunc(p.Pending(), func(it *plan.Item) bool { return strings.HasSuffix(string(it.Step.ID), "/manifests") })
	return p, u.refuse(ctx, c, gate, p)
}

// rest is whatever else up would do: the records of the hosts, the names of programs, the
// pod network's own version.
func rest(ctx context.Context, s *session) (*plan.Plan, error) {
	return s.makePlan(ctx, func(context.Context) error { return nil })
}

// snapshot saves etcd on this machine before anything is changed.
func (u *upgrade) snapshot(ctx context.Context, s *session) error {
	if !u.due {
		return nil
	}
	saved, err := s.saveSnapshot(ctx, SnapshotDir(s.inv))
	if err != nil {
		return fmt.Errorf("save a snapshot before the upgrade: %w", err)
	}
	s.Note("snapshot before the upgrade: " + saved.File)
	return u.try(ctx, s, &cage.Snapshot{File: saved.File, SHA256: saved.Manifest.Content.SHA256})
}

// try starts the wanted apiserver, with the inventory's flags, on a copy of the cluster's
// data, apart from the cluster: what keeps it from coming up, or an object that it cannot
// read, is known before anything is changed. It needs the room of a second apiserver.
func (u *upgrade) try(ctx context.Context, s *session, snapshot *cage.Snapshot) error {
	if !u.serves || u.NoTry {
		return nil
	}
	c, err := s.cluster()
	if err != nil {
		return err
	}
	h, err := s.rehearsalHost("")
	if err != nil {
		return err
	}
	s.Note(fmt.Sprintf("trying the apiserver of %s on the snapshot, apart from the cluster, on %s", s.inv.Versions.Kubernetes, h.Name()))
	out, err := c.tryAPIServer(ctx, h, snapshot)
	if err != nil {
		return fmt.Errorf("%s: try the apiserver of %s: %w", h.Name(), s.inv.Versions.Kubernetes, err)
	}
	if err := out.Err(); err != nil {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s: the apiserver of %s, tried on a snapshot apart from the cluster: %w", h.Name(), s.inv.Versions.Kubernetes, err),
			"nothing was changed; mend what it names, then run hactl upgrade again"))
	}
	n := 0
	for _, of := range out.Objects {
		n += of
	}
	s.Note(fmt.Sprintf("it was ready after %.0f s and read %s", out.Ready, ui.Count(n, "object")))
	return nil
}

// stages is the way of an upgrade: THE ordered list. roll makes the frame of a part that
// goes host by host.
func (u *upgrade) stages(c *cluster, roll func(hosts []*inventory.Host, batch int) *plan.Roll) ([]plan.Stage, error) {
	nodes := c.joinedHosts(c.all())
	var masters, workers []*inventory.Host
	for _, h := range nodes {
		if c.hosts[h.Name] == nil {
			continue // skipped on request
		}
		if h.Role == inventory.ControlPlane {
			masters = append(masters, h)
		} else {
			workers = append(workers, h)
		}
	}
	b := &builder{connected: c.hosts}
	b.stage("bring programs and images")
	b.each(nodes, c.staged)
	b.roll("etcd members", roll(masters, 1), masters, "etcd", u.etcd(c))
	planes := roll(masters, 1)
	planes.PutBackFailed = false // the step does that by itself
	b.roll("control planes", planes, masters, "apiserver", u.controlPlane(c))
	b.stage("addons")
	b.each(c.firstMaster(), c.addons)
	b.roll("masters", roll(masters, 1), masters, "node", u.node(c))
	b.roll("workers", roll(workers, u.Batch), workers, "node", u.node(c))
	return b.out, b.err
}

// visit is what a roll does with a host.
type visit struct{ takeOut, steps, putBack []plan.Step }

// roll adds a stage that works on these hosts one after another, each marked as taken out
// meanwhile.
func (b *builder) roll(name string, r *plan.Roll, hosts []*inventory.Host, mark string, of func(*inventory.Host) (visit, error)) {
	for _, h := range hosts {
		if b.err != nil {
			return
		}
		v, err := of(h)
		b.err = err
		out, back := plan.OutMark(h.Name, mark)
		r.TakeOut = append(append(r.TakeOut, out), v.takeOut...)
		for _, st := range v.steps {
			st.Lane = "" // one after another
			r.Steps = append(r.Steps, unwell(st))
		}
		r.PutBack = append(append(r.PutBack, v.putBack...), back)
	}
	b.out = append(b.out, plan.Stage{Name: name, Roll: r})
}

// unwell gives the error of a component that does not come up its exit code.
func unwell(st plan.Step) plan.Step {
	coded := func(err error) error {
		if err == nil || exitcode.Of(err) != exitcode.Error {
			return err
		}
		return exitcode.With(exitcode.Unhealthy, err)
	}
	apply, ready := st.Apply, st.Ready
	if apply != nil {
		st.Apply = func(ctx context.Context, env plan.Env, c *plan.Change) error { return coded(apply(ctx, env, c)) }
	}
	if ready != nil {
		st.Ready = func(ctx context.Context, env plan.Env) error { return coded(ready(ctx, env)) }
	}
	return st
}

// roll is the frame of each part of the way.
func (u *upgrade) roll(c *cluster, gate *state.Gate, hosts []*inventory.Host, batch int) *plan.Roll {
	return &plan.Roll{
		Hosts: func(ctx context.Context) ([]string, error) {
			return state.Look(ctx, c.verified(false), state.Etcd, state.VIP).Order(hosts), nil
		},
		Gate:          c.gate(gate),
		Batch:         batch,
		PutBackFailed: true,
		After:         func(ctx context.Context, names []string) error { return u.after(ctx, c.session, gate, names) },
	}
}

// after waits between two turns, and ends the run after as many as were asked for.
func (u *upgrade) after(ctx context.Context, s *session, gate *state.Gate, names []string) error {
	if u.turns++; u.StopAfter > 0 && u.turns >= u.StopAfter {
		return fmt.Errorf("%w: %d, the last was %s", plan.ErrEnough, u.turns, strings.Join(names, ", "))
	}
	if u.Soak == 0 {
		return nil
	}
	s.Note(fmt.Sprintf("soaking for %s after %s", u.Soak, strings.Join(names, ", ")))
	select {
	case <-ctx.Done():
		return plan.ErrStopped
	case <-s.Stop():
		return plan.ErrStopped
	case <-time.After(u.Soak):
	}
	if err := gate.Look(ctx, nil); err != nil {
		return exitcode.With(exitcode.Unhealthy, fmt.Errorf("after %s of soaking: %w", u.Soak, err))
	}
	return nil
}

// staged is what is brought to a host beforehand.
func (c *cluster) staged(h *inventory.Host) ([]plan.Step, error) {
	m := c.machine(h)
	return append(m.Programs(), m.FirstImages(), m.OtherImages()), nil
}

// etcd is the turn of a member.
func (u *upgrade) etcd(c *cluster) func(*inventory.Host) (visit, error) {
	return func(h *inventory.Host) (v visit, err error) {
		if len(c.inv.Masters()) > 1 {
			v.takeOut = []plan.Step{etcd.MoveLeadership(h, c.dialEtcd)}
		}
		p := c.etcdPlan()
		unit, err := p.Unit(h)
		if err != nil {
			return v, err
		}
		start, err := p.Start(h, c.dialEtcd)
		if c.changesMinor(1) {
			start = p.WayBack(start, c.dialEtcd)
		}
		v.steps = []plan.Step{unit, start}
		return v, err
	}
}

// controlPlane is the turn of a master's apiserver, and of the controller manager and the
// scheduler that work with it.
func (u *upgrade) controlPlane(c *cluster) func(*inventory.Host) (visit, error) {
	return func(h *inventory.Host) (v visit, err error) {
		k := c.nodes()
		k.SettingsLater = true
		if v.steps, err = k.Configuration(h); err != nil {
			return v, err
		}
		st, err := k.Manifests(h)
		v.steps = append(v.steps, st)
		return v, err
	}
}

func (c *cluster) addons(h *inventory.Host) ([]plan.Step, error) {
	return []plan.Step{c.nodes().Addons(h, c.control)}, nil
}

// node is the turn of a host's containerd and kubelet.
func (u *upgrade) node(c *cluster) func(*inventory.Host) (visit, error) {
	return func(h *inventory.Host) (v visit, err error) {
		if u.drains(c.session) {
			v.takeOut = []plan.Step{c.control.Cordon(h, "upgrade"), c.control.Drain(h, u.DrainTimeout, func(plan.Env) (bool, error) { return true, nil })}
			v.putBack = []plan.Step{c.control.Uncordon(h)}
		}
		runtime, err := c.machine(h).Runtime()
		if err != nil {
			return v, err
		}
		settings, err := c.nodes().KubeletSettings(h)
		if err != nil {
			return v, err
		}
		unit, err := c.nodes().KubeletUnit(h)
		if err != nil {
			return v, err
		}
		kubelet, err := c.nodes().Kubelet(h)
		if h.Role == inventory.ControlPlane && c.changesMinor(0) {
			kubelet = c.handsOver(h, kubelet)
		}
		for i, st := range runtime {
			if st.File == nil {
				runtime[i] = c.nodes().KeepNodeReady(h, c.control, st)
			}
		}
		kubelet = c.control.AwaitVersion(h, c.inv.Versions.Kubernetes, c.nodes().KeepNodeReady(h, c.control, kubelet))
		v.steps = slices.Concat(c.machine(h).Plugins(), runtime, []plan.Step{settings, unit, kubelet})
		return v, err
	}
}

// drains reports whether hosts are emptied before their kubelets change: for another
// minor always.
func (u *upgrade) drains(s *session) bool { return u.Drain || s.changesMinor(0) }

// changesMinor reports whether a host has another minor of that part of versionOf than the
// wanted one.
func (s *session) changesMinor(part int) bool {
	want := semver.MajorMinor(*versionOf[part].wanted(&s.inv.Versions))
	for v := range s.running(part) {
		if semver.MajorMinor(v) != want {
			return true
		}
	}
	return false
}
