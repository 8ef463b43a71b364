package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/inventory"
	"hactl/kubeadm"
)

// RemoveOptions are the flags of a removal.
type RemoveOptions struct {
	Options
	Host  string        // of the inventory
	Dead  bool          // the host is off for good: it need not answer
	Drain time.Duration // how long its pods may take to leave
}

// Remove takes a host out of the cluster for good: its pods, etcd's leadership and the
// VIP move away, its programs stop, then the hosts that stay are brought to what the
// inventory says without it, one after another, and its Node is deleted. The host keeps
// its files. A run that was cut is completed by the next one.
func Remove(ctx context.Context, r Request, o RemoveOptions) (*Result, error) {
	leaving := *r.Inv.Host(o.Host)
	if len(r.Inv.Masters()) == 1 && leaving.Role == inventory.ControlPlane {
		return &Result{}, exitcode.With(exitcode.Unsafe, fmt.Errorf("%s is the only master", o.Host))
	}
	rest, err := r.Inv.Without(o.Host, drill.BoundNames()...)
	if err != nil {
		return &Result{}, err
	}
	o.Skip = append(o.Skip, o.Host) // whether it has to answer is for mayLeave to say
	return operation{
		verb: "remove", steady: rest,
		phases: []phase{
			{
				make: func(ctx context.Context, s *session) (*plan.Plan, error) { return s.planLeave(ctx, &leaving, rest, o) },
				before: func(ctx context.Context, s *session) error {
					s.giveUp(ctx, s.hosts[o.Host] != nil, &leaving, rest)
					return s.recordRemoved(ctx, o.Host)
				},
			},
			{name: "look at the hosts that stay", make: func(ctx context.Context, s *session) (*plan.Plan, error) {
				s.inv = rest
				return s.makePlan(ctx, func(context.Context) error { return nil })
			}},
			{name: "look at the node", make: func(ctx context.Context, s *session) (*plan.Plan, error) {
				forget := s.control.DeleteNode(s.firstMaster()[0], o.Host)
				return plan.Make(ctx, []plan.Stage{{Name: "node", Steps: []plan.Step{forget}}}, s.hosts, s)
			}},
		},
		finish: func(_ context.Context, s *session, res *Result) error {
			res.LeftOut = slices.DeleteFunc(slices.Clone(res.LeftOut), func(name string) bool { return name == o.Host })
			res.Next = append(res.Next, fmt.Sprintf("delete %s from %s", o.Host, s.inv.Path))
			return nil
		},
	}.run(ctx, r, o.Options)
}

// planLeave plans what happens on the host that leaves.
func (s *session) planLeave(ctx context.Context, h *inventory.Host, rest *inventory.Inventory, o RemoveOptions) (*plan.Plan, error) {
	if err := s.loadStore(ctx); err != nil {
		return nil, err
	}
	if err := s.mayLeave(ctx, h, rest, o); err != nil {
		return nil, err
	}
	if s.hosts[h.Name] == nil {
		return plan.Make(ctx, nil, s.hosts, s)
	}
	return plan.Make(ctx, []plan.Stage{s.leave(ctx, h, "remove", o.Drain)}, s.hosts, s)
}

// leave is the stage that empties a host and stops its programs for good.
func (s *session) leave(ctx context.Context, h *inventory.Host, operation string, drain time.Duration) plan.Stage {
	c := s.verified(false)
	c.Skip = append(slices.Clone(c.Skip), h.Name) // it may lead and hold the VIP, and need not be well
	gate := state.NewGate(c, state.Look(ctx, c, state.Nodes))
	return plan.Stage{Name: "take " + h.Name + " out", Roll: &plan.Roll{
		Hosts: func(context.Context) ([]string, error) { return []string{h.Name}, nil },
		TakeOut: s.takeOut(h, takingOut{
			operation: operation, drain: drain,
			due: func(plan.Env) (bool, error) { return true, nil },
			guard: func(ctx context.Context, env plan.Env) error {
				return (kubeadm.Cluster{Inv: s.inv, PKI: s.material}).Spare(ctx, env, h)
			},
		}),
		Steps: []plan.Step{shutOut(h)},
		Gate:  s.gate(gate),
	}}
}

// mayLeave refuses to remove a master without which etcd has no quorum, and a host that
// does not answer unless the operator says that it is dead and no other host hears it.
func (s *session) mayLeave(ctx context.Context, h *inventory.Host, rest *inventory.Inventory, o RemoveOptions) error {
	if s.hosts[h.Name] == nil {
		if err := s.seemsDeadTwice(ctx, h, rest); err != nil {
			return remote.Hint(err, "it is not dead: switch it off, or mend the way to it")
		}
		if !o.Dead {
			return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s does not answer: %w", h.Name, s.down[h.Name]), "if it is off for good, say so with --dead"))
		}
	} else if o.Dead {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s answers: it is not dead", h.Name), "leave --dead out"))
	}
	if h.Role != inventory.ControlPlane {
		return nil
	}
	c, err := s.dialEtcd(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SparesRemoving(ctx, h); err != nil {
		return exitcode.With(exitcode.Unsafe, err)
	}
	return nil
}

// unitsOf are the units that hactl runs on a host of the role. A worker may have an etcd
// or a keepalived of another's.
func unitsOf(r inventory.Role) string {
	if r == inventory.ControlPlane {
		return "kubelet keepalived hactl-prober hactl-network hactl-snapshot.timer etcd"
	}
	return "kubelet hactl-network"
}

// etcdEnds bounds how long etcd may take to end on a host that leaves, in seconds. It gives
// requests five and two elections more; in two of three replacements on lab hosts it did not end
// at all, and systemd killed it after 90 s.
const etcdEnds = 15

// endEtcd is shell that tells etcd to end, while its clients turn to other members, and then
// waits for it. One that does not end is killed: its member leaves the cluster, and the others
// have the quorum. On a worker it is empty: an etcd there is another's.
func endEtcd(r inventory.Role) (begin, end string) {
	if r != inventory.ControlPlane {
		return "", ""
	}
	return "! is_loaded etcd || systemctl stop --no-block etcd\n", fmt.Sprintf(`is_loaded etcd || exit 0
wait_until %d "etcd did not end" is_stopped etcd.service || systemctl kill -s KILL etcd.service
systemctl disable --now etcd
`, etcdEnds)
}

// shutOut stops what hactl runs on a host, now and at its next boot. Files stay.
func shutOut(h *inventory.Host) plan.Step {
	units := unitsOf(h.Role)
	begin, end := endEtcd(h.Role)
	return plan.Script{
		ID: plan.ID("remove/" + h.Name + "/programs"), Host: h.Name, Title: "programs", Op: plan.Delete,
		Look: `r=
for u in ` + units + `; do
  is_loaded "$u" || continue
  ! is_running "$u" && ! is_enabled "$u" || r="$r $u"
done
[ -z "$(ctr -n k8s.io tasks ls -q 2>/dev/null)" ] || r="$r containers"
[ -z "$r" ] && echo ok || echo "run:$r"`,
		Summary: "stop the programs of the cluster, now and at every boot", Acts: plan.EachOf,
		Run: "set -e\n" + begin + `for u in ` + strings.TrimSuffix(units, " etcd") + `; do
  ! is_loaded "$u" || systemctl disable --now "$u"
done
for t in $(ctr -n k8s.io tasks ls -q 2>/dev/null); do ctr -n k8s.io tasks kill -a -s KILL "$t" || :; done
ended() {
  t=$(ctr -n k8s.io tasks ls -q 2>/dev/null); [ -n "$t" ] || return 0
  for t in $t; do ctr -n k8s.io tasks rm -f "$t" >/dev/null 2>&1 || :; done; return 1
}
wait_until 20 "the containers did not end" ended
` + end, Timeout: 2 * time.Minute,
	}.Step()
}

// recordRemoved notes in the store that the host is taken out.
func (s *session) recordRemoved(ctx context.Context, name string) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	id := s.material.Identity
	if slices.Contains(id.Removed, name) {
		return nil
	}
	id.Removed = append(slices.Clone(id.Removed), name)
	if err := s.store.Record(ctx, id); err != nil {
		return err
	}
	s.material.Identity = id
	return nil
}

// refuseRemoved refuses an inventory with hosts that were removed from the cluster.
func (s *session) refuseRemoved() error {
	var errs []error
	for _, name := range s.material.Identity.Removed {
		if s.inv.Host(name) != nil && !slices.Contains(s.bringBack, name) {
			errs = append(errs, fmt.Errorf("%s was removed from the cluster, and is in the inventory", name))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return exitcode.With(exitcode.Unsafe, remote.Hint(errors.Join(errs...),
		"delete it from %s; if hactl remove was interrupted, run it again first; to bring the host in again: hactl up --bring-back HOST", s.inv.Path))
}

// forgetRemoved drops from the store what the inventory has again, or no longer has.
func (s *session) forgetRemoved(ctx context.Context) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	if len(s.material.Identity.Removed) == 0 {
		return nil
	}
	id := s.material.Identity
	id.Removed = nil
	if err := s.store.Record(ctx, id); err != nil {
		return err
	}
	s.material.Identity = id
	return nil
}
