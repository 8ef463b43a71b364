package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/etcd"
	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/kubeadm"
)

// ReplaceOptions are the flags of a replacement.
type ReplaceOptions struct {
	Options
	Old   string        // name of the host that leaves
	New   string        // of the inventory; empty: the new machine has the name of the old one
	Dead  bool          // the old host is off for good: hactl does not ask whether it is
	Drain time.Duration // how long the pods of an old host that answers may take to leave
}

// replacement is a host that takes the place of another one. The two may have the same
// name, the same address, or neither in common.
type replacement struct {
	ReplaceOptions
	file *inventory.Inventory // as it was read
	want *inventory.Inventory // without the old host
	rest *inventory.Inventory // with neither: the hosts that stay
	// old is the host that leaves. Its address is invalid where the cluster knows no host
	// of that name any more.
	old, new *inventory.Host
	listed   bool      // the old host has an entry of its own in the inventory
	asked    time.Time // when other hosts were first asked whether the old one is dead
	// connect is [session.connect].
	connect func(context.Context, *session, []*inventory.Host)
}

// Replace puts a host in the place of another one, which may be dead. The new host is
// prepared fully, before anything of the old one is removed; then the old one is taken
// out, its member leaves etcd and its Node is deleted; then every host is brought to what
// the inventory says without it. A run that was cut is completed by the next one.
func Replace(ctx context.Context, r Request, o ReplaceOptions) (*Result, error) {
	rp, err := newReplacement(r.Inv, o)
	if err != nil {
		return &Result{}, err
	}
	apart := ""
	if rp.listed {
		apart = rp.old.Name
		rp.Skip = append(slices.Clone(rp.Skip), rp.old.Name) // whether it has to answer is for silent to say
	}
	return operation{
		verb: "replace", steady: rp.rest, apart: apart, connect: rp.meet,
		phases: []phase{
			{make: rp.prepare},
			{name: "look at " + rp.old.Name, make: rp.takeOut, before: func(ctx context.Context, s *session) error {
				if rp.sameName() {
					return nil
				}
				return s.recordRemoved(ctx, rp.old.Name)
			}},
			{name: "look at all hosts", make: rp.join},
		},
		finish: rp.finish,
	}.run(ctx, r, rp.Options)
}

// newReplacement finds the hosts of a replacement in the inventory.
func newReplacement(inv *inventory.Inventory, o ReplaceOptions) (*replacement, error) {
	rp := &replacement{ReplaceOptions: o, file: inv, want: inv, new: inv.Host(cmp.Or(o.New, o.Old)), connect: func(ctx context.Context, s *session, hosts []*inventory.Host) { s.connect(ctx, hosts) }}
	if rp.new == nil {
		return nil, exitcode.With(exitcode.Usage, remote.Hint(fmt.Errorf("%s is not in %s", cmp.Or(o.New, o.Old), inv.Path), "add the new host to it, with its role and address"))
	}
	if rp.old = inv.Host(o.Old); rp.old != nil && !rp.sameName() {
		rp.listed = true
		if rp.old.Role != rp.new.Role {
			return nil, exitcode.With(exitcode.Usage, fmt.Errorf("%s is a %s, and %s a %s", rp.old.Name, rp.old.Role, rp.new.Name, rp.new.Role))
		}
		var err error
		if rp.want, err = inv.Without(o.Old, drill.BoundNames()...); err != nil {
			return nil, err
		}
	} else {
		old := *rp.new
		old.Name, old.PrivateAddress = o.Old, netip.Addr{}
		rp.old = &old
	}
	rest := *inv
	rest.Hosts = slices.DeleteFunc(slices.Clone(inv.Hosts), func(h inventory.Host) bool { return h.Name == rp.old.Name || h.Name == rp.new.Name })
	rp.rest = &rest
	if len(rest.Masters()) == 0 {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("no master would be left while %s is replaced", rp.old.Name),
			"bring the new master in beside it with hactl up, then hactl remove %s; if it is lost: hactl restore", rp.old.Name))
	}
	return rp, nil
}

func (rp *replacement) sameName() bool { return rp.old.Name == rp.new.Name }

// answers reports whether the old host is there to be taken out.
func (rp *replacement) answers(s *session) bool { return rp.listed && s.hosts[rp.old.Name] != nil }

// prepare plans everything on the new host that nothing else waits for: packages,
// programs, certificates, containerd and all images. For a dry run it plans the rest, too.
func (rp *replacement) prepare(ctx context.Context, s *session) (*plan.Plan, error) {
	s.inv = rp.want
	m, created, err := s.preview(ctx, signing{verb: "replace " + strings.Join(slices.Compact([]string{rp.old.Name, rp.new.Name}), " "), dry: rp.DryRun})
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	if !s.established() {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(errors.New("the cluster has not run yet"), "hactl up"))
	}
	if err := rp.mayGo(ctx, s); err != nil {
		return nil, err
	}
	stages, err := rp.preparing(ctx, s)
	if err != nil {
		return nil, err
	}
	var p *plan.Plan
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return rp.silent(gctx, s) }) // takes seconds, and the look changes nothing
	g.Go(func() (err error) { p, err = rp.lookAtNew(gctx, s, stages); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(created) > 0 && p.Err() == nil && !rp.DryRun {
		return p, s.store.Keep(ctx, m)
	}
	return p, nil
}

// lookAtNew plans the preparation, and has the preflight judge the hosts where something is
// to be done. For a dry run it only plans.
func (rp *replacement) lookAtNew(ctx context.Context, s *session, stages []plan.Stage) (*plan.Plan, error) {
	if rp.DryRun {
		s.inv = rp.file // the old host may lead etcd
	}
	p, err := plan.Make(ctx, stages, s.hosts, s)
	if err != nil {
		return nil, err
	}
	p.Record = s.recordMade
	if err := kubeadm.Refused(p); err != nil || p.Err() != nil || rp.DryRun || len(p.Pending()) == 0 {
		return p, err
	}
	if rp.answers(s) { // it may hold the VIP
		s.inv = rp.file
		s.preflight = s.preflightOf()
		s.preflight.Leaving = []string{rp.old.Name}
		s.inv = rp.want
	}
	return p, s.mayStart(ctx, rp.Ignore)
}

// preparing are the stages of prepare.
func (rp *replacement) preparing(ctx context.Context, s *session) ([]plan.Stage, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	stages, err := c.preparation(rp.want.Host(rp.new.Name))
	if err != nil || !rp.DryRun {
		return stages, err
	}
	return rp.then(ctx, s, c, stages)
}

// then adds to the stages of the first phase those of the others, as far as they can be
// known before it.
func (rp *replacement) then(ctx context.Context, s *session, c *cluster, stages []plan.Stage) ([]plan.Stage, error) {
	shown := map[plan.ID]bool{}
	for _, st := range stages {
		for _, step := range st.Steps {
			shown[step.ID] = true
		}
	}
	later, err := c.stages()
	if err != nil {
		return nil, err
	}
	stages = append(stages, rp.leaving(ctx, s)...)
	for _, st := range later {
		st.Steps = slices.DeleteFunc(st.Steps, func(step plan.Step) bool { return shown[step.ID] || step.ID == etcd.UnlistedMembersID(step.Host) })
		stages = append(stages, st)
	}
	return stages, nil
}

// takeOut plans how the old host leaves the cluster.
func (rp *replacement) takeOut(ctx context.Context, s *session) (*plan.Plan, error) {
	if err := rp.stillSilent(ctx, s); err != nil {
		return nil, err
	}
	s.giveUp(ctx, rp.answers(s), rp.old, rp.rest)
	return plan.Make(ctx, rp.leaving(ctx, s), s.hosts, s)
}

// leaving are the stages of takeOut. They run on the cluster as it is until then.
func (rp *replacement) leaving(ctx context.Context, s *session) []plan.Stage {
	via := rp.via(s)
	if via == nil || !rp.sameName() && !rp.old.PrivateAddress.IsValid() {
		return nil
	}
	s.inv = rp.rest
	var out []plan.Stage
	if rp.answers(s) {
		now := *rp.file
		now.Hosts = slices.DeleteFunc(slices.Clone(now.Hosts), func(h inventory.Host) bool { return h.Name == rp.new.Name })
		s.inv = &now
		out = append(out, s.leave(ctx, rp.old, "replace", rp.Drain))
	}
	if rp.old.Role == inventory.ControlPlane && rp.gone(s) {
		out = append(out, plan.Stage{Name: "etcd member of " + rp.old.Name, Steps: []plan.Step{etcd.RemoveMember(via, rp.old, rp.new, s.dialEtcd)}})
	}
	if !rp.sameName() || rp.gone(s) {
		out = append(out, plan.Stage{Name: "node of " + rp.old.Name, Steps: []plan.Step{s.control.DeleteNode(via, rp.old.Name)}})
	}
	return out
}

// via is a master that stays, on which what concerns the whole cluster is done.
func (rp *replacement) via(s *session) *inventory.Host {
	for _, m := range rp.rest.Masters() {
		if s.hosts[m.Name] != nil && s.disks[m.Name].Data {
			return m
		}
	}
	return nil
}

// gone reports whether what the cluster has under the name of the old host is not of the
// new one, which may have the same name: a host that has its member, or has joined, is no
// new machine.
func (rp *replacement) gone(s *session) bool {
	if !rp.sameName() {
		return true
	}
	if rp.new.Role == inventory.ControlPlane {
		return !s.disks[rp.new.Name].Data
	}
	return s.facts[rp.new.Name].KubeletCA == ""
}

// join plans the whole bring-up without the old host.
func (rp *replacement) join(ctx context.Context, s *session) (*plan.Plan, error) {
	s.inv = rp.want
	return s.makePlan(ctx, func(context.Context) error { return nil })
}

func (rp *replacement) finish(_ context.Context, s *session, res *Result) error {
	res.LeftOut = slices.DeleteFunc(slices.Clone(res.LeftOut), func(name string) bool { return rp.listed && name == rp.old.Name })
	if !rp.listed {
		return nil
	}
	if rp.answers(s) {
		res.Next = append(res.Next, fmt.Sprintf("hactl reset %s, to make that host as it was before hactl", rp.old.Name))
	}
	res.Next = append(res.Next, fmt.Sprintf("delete %s from %s", rp.old.Name, rp.file.Path))
	return nil
}

// mayGo refuses a replacement that is not safe: of a master without which etcd has no
// quorum, and of a host that answers as a dead one. Whether one that does not answer is
// silent for others, too, is for [replacement.silent] to say.
func (rp *replacement) mayGo(ctx context.Context, s *session) error {
	if err := rp.find(ctx, s); err != nil {
		return err
	}
	if rp.answers(s) && rp.Dead {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s answers: it is not dead", rp.old.Name), "leave --dead out"))
	}
	if !rp.gone(s) {
		s.Note(rp.new.Name + " is part of the cluster already: nothing of it is removed, and what is missing there is made; to put another host in its place: hactl replace " + rp.old.Name + " NEW")
	}
	if rp.old.Role != inventory.ControlPlane || !rp.gone(s) {
		return nil
	}
	c, err := s.dialEtcd(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SparesMember(ctx, rp.old, rp.new); err != nil {
		return exitcode.With(exitcode.Unsafe, err)
	}
	return nil
}

// find asks the cluster for the address of an old host that has no entry of its own in
// the inventory.
func (rp *replacement) find(ctx context.Context, s *session) error {
	if rp.listed {
		return nil
	}
	addr, err := rp.memberAddress(ctx, s)
	if err != nil {
		return err
	}
	if !addr.IsValid() {
		if addr, err = rp.nodeAddress(ctx, s); err != nil {
			return err
		}
	}
	rp.old.PrivateAddress = addr
	if addr.IsValid() || rp.sameName() || slices.Contains(s.material.Identity.Removed, rp.old.Name) {
		return nil
	}
	return exitcode.With(exitcode.Usage, remote.Hint(fmt.Errorf("no host %s is in %s or in the cluster", rp.old.Name, rp.file.Path), "hactl status shows the hosts of the cluster"))
}

func (rp *replacement) memberAddress(ctx context.Context, s *session) (netip.Addr, error) {
	if rp.old.Role != inventory.ControlPlane {
		return netip.Addr{}, nil
	}
	c, err := s.dialEtcd(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	l, err := c.MemberOf(ctx, rp.old.Name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask etcd for the member of %s: %w", rp.old.Name, err)
	}
	if l == nil || len(l.PeerURLs) == 0 {
		return netip.Addr{}, nil
	}
	at, err := url.Parse(l.PeerURLs[0])
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the address of the member of %s: %w", rp.old.Name, err)
	}
	addr, _ := netip.ParseAddr(at.Hostname())
	return addr, nil
}

func (rp *replacement) nodeAddress(ctx context.Context, s *session) (addr netip.Addr, err error) {
	err = s.control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) error {
		nodes, err := api.Nodes(ctx)
		addr, _ = netip.ParseAddr(nodes[rp.old.Name].Address)
		return err
	})
	if err != nil {
		err = fmt.Errorf("ask for node %s: %w", rp.old.Name, err)
	}
	return addr, err
}

// mustBeDead reports whether the old host has an address at which it could still answer.
func (rp *replacement) mustBeDead() bool {
	return rp.old.PrivateAddress.IsValid() && rp.old.PrivateAddress != rp.new.PrivateAddress
}

// meetAlone is how long the old host has to answer here before others are asked about it.
const meetAlone = time.Second

// meet connects to the old host. One that is dead takes up to twenty seconds to be given up
// here, so the hosts that stay are asked meanwhile: when none of them reaches it either, it is
// not waited for any longer. Where the operator says that it is dead, it has five seconds to
// answer.
func (rp *replacement) meet(ctx context.Context, s *session) {
	others := maps.Clone(s.hosts) // connect adds to s.hosts
	within, giveUp := context.WithCancel(ctx)
	defer giveUp()
	met := make(chan struct{})
	go func() {
		defer close(met)
		rp.connect(within, s, []*inventory.Host{rp.old})
	}()
	select {
	case <-met:
		return
	case <-time.After(cmp.Or(s.pace, meetAlone)):
	}
	switch asked := time.Now(); {
	case rp.Dead:
		defer time.AfterFunc(wait.Bound(ctx, cmp.Or(s.pace, reachTimeout)), giveUp).Stop()
	case rp.mustBeDead() && seemsDead(ctx, others, rp.old, rp.rest) == nil:
		rp.asked = asked
		giveUp()
	}
	<-met
}

// silent asks the hosts that stay whether an old host that does not answer here is silent
// for them, too. It is asked again before anything of it is removed. The operator's --dead
// answers for all.
func (rp *replacement) silent(ctx context.Context, s *session) error {
	if rp.answers(s) || !rp.mustBeDead() || rp.Dead || !rp.asked.IsZero() { // meet has asked
		return nil
	}
	rp.asked = time.Now()
	return rp.unlessHeard(seemsDead(ctx, s.hosts, rp.old, rp.rest))
}

// stillSilent is silent, asked again, and from here, too. All are asked at once: each that
// gets no answer takes seconds.
func (rp *replacement) stillSilent(ctx context.Context, s *session) error {
	if rp.answers(s) || !rp.mustBeDead() || rp.Dead {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(rp.asked.Add(cmp.Or(s.pace, askAgain)))):
	}
	others := maps.Clone(s.hosts) // connect adds to s.hosts
	var here sync.WaitGroup
	if rp.listed {
		here.Go(func() {
			within, cancel := wait.Within(ctx, "a connection to "+rp.old.Name, reachTimeout)
			defer cancel()
			rp.connect(within, s, []*inventory.Host{rp.old})
		})
	}
	err := seemsDead(ctx, others, rp.old, rp.rest)
	here.Wait()
	if rp.answers(s) {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s answers again: it is not dead", rp.old.Name), "hactl replace takes it out as a host that lives, when it is run again"))
	}
	return rp.unlessHeard(err)
}

// unlessHeard says, where another host heard the old one, what to do about it.
func (rp *replacement) unlessHeard(err error) error {
	if exitcode.Of(err) != exitcode.Unsafe {
		return err
	}
	todo := "mend the way to it, or switch it off"
	if !rp.listed {
		todo = "put it back into the inventory beside " + rp.new.Name + ", so that hactl can take it out, or switch it off"
	}
	return remote.Hint(fmt.Errorf("%s is not dead: %w", rp.old.Name, err), "%s; if it is to be replaced as it is: --dead", todo)
}
