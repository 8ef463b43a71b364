package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/kubeadm"
)

// RebootOptions are the flags of a rolling reboot.
type RebootOptions struct {
	Options
	Hosts          []string      // the hosts to reboot; empty with All or IfRequired
	All            bool          // every host of the inventory
	IfRequired     bool          // of those, the hosts that want a reboot themselves
	AcceptDowntime bool          // reboot masters that the cluster does not work without
	Drain          time.Duration // how long the pods of a host may take to leave
	Return         time.Duration // how long a host may take to come back
}

// Reboot reboots hosts one after the other, each taken out of service before and given
// back after, with a look at the whole cluster between two hosts. A run that was cut is
// completed by the next one: a mark on each host says whether it has rebooted.
func Reboot(ctx context.Context, r Request, o RebootOptions) (*Result, error) {
	return operation{
		verb: "reboot", phases: []phase{{make: o.plan}},
		reach: func(s *session) error {
			if err := s.everyHost("reboot", o.Skip); err == nil {
				return nil
			}
			if err := o.awaitBegun(ctx, s, s.connect); err != nil {
				return err
			}
			return s.everyHost("reboot", o.Skip)
		},
	}.run(ctx, r, o.Options)
}

// awaitBegun waits for the hosts that do not answer because an earlier run, which was
// cut, reboots them: the marks of the others name them. Other hosts are not waited for.
func (o RebootOptions) awaitBegun(ctx context.Context, s *session, connect func(context.Context, []*inventory.Host)) error {
	boots, err := s.lookAtBoots(ctx)
	if err != nil {
		return err
	}
	begun := map[string]bool{}
	for _, b := range boots {
		for _, name := range b.Run {
			begun[name] = true
		}
	}
	away := func() (hosts []*inventory.Host, names []string) {
		for i := range s.inv.Hosts {
			h := &s.inv.Hosts[i]
			if s.hosts[h.Name] == nil && begun[h.Name] && !slices.Contains(o.Skip, h.Name) {
				hosts, names = append(hosts, h), append(names, h.Name)
			}
		}
		return hosts, names
	}
	ctx, cancel := wait.Exactly(ctx, "hosts that an earlier run reboots", o.Return)
	defer cancel()
	hosts, names := away()
	if len(hosts) > 0 {
		s.Note(fmt.Sprintf("waiting up to %s for %s to come back: an earlier run reboots it", o.Return, strings.Join(names, ", ")))
	}
	for len(hosts) > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(cmp.Or(s.pace, time.Second)):
			connect(ctx, hosts)
		}
		hosts, _ = away()
	}
	return nil
}

// plan looks which hosts are due and lists what is done to each of them.
func (o RebootOptions) plan(ctx context.Context, s *session) (*plan.Plan, error) {
	if err := s.loadStore(ctx); err != nil {
		return nil, err
	}
	boots, err := s.lookAtBoots(ctx)
	if err != nil {
		return nil, err
	}
	all, due := o.due(s.inv, boots)
	if err := o.refuse(s.inv, due); err != nil {
		return nil, err
	}
	first := state.Look(ctx, s.verified(false), state.Etcd, state.VIP, state.APIServers, state.Nodes)
	gate := state.NewGate(s.verified(false), first)
	var note, forget []plan.Step
	roll := &plan.Roll{
		Hosts: func(ctx context.Context) ([]string, error) {
			return state.Look(ctx, s.verified(false), state.Etcd, state.VIP).Order(due), nil
		},
		Gate: s.gate(gate),
	}
	for _, h := range due {
		note = append(note, noteBoot(h, all))
		roll.TakeOut = append(roll.TakeOut, s.takeOut(h, takingOut{
			operation: "reboot", drain: o.Drain, due: stillToReboot, look: []plan.Look{plan.LookFor(bootQuestion)},
			guard: func(ctx context.Context, env plan.Env) error { return s.spared(ctx, env, h, o) },
		})...)
		roll.Steps = append(roll.Steps, s.reboot(h, o, boots[h.Name].Required))
		roll.PutBack = append(roll.PutBack, s.putBack(h, all)...)
	}
	for _, h := range all {
		forget = append(forget, forgetBoot(h))
	}
	if len(due) == 0 {
		return plan.Make(ctx, []plan.Stage{{Name: "forget the boots", Steps: forget}}, s.hosts, s)
	}
	return plan.Make(ctx, []plan.Stage{{Name: "note the boots", Steps: note}, {Name: "reboot", Roll: roll}, {Name: "forget the boots", Steps: forget}}, s.hosts, s)
}

// gateTimeout bounds how long the cluster may take to be as it has to be before the
// next host is taken out.
const gateTimeout = 4 * time.Minute

// due are the hosts of the run, and those of them that are still to be rebooted or given
// back. A run that was cut is completed: its marks name its hosts. All hosts are marked
// before the first reboots; so while no mark says "done", a host without one was not
// marked yet, and afterwards it is done.
func (o RebootOptions) due(inv *inventory.Inventory, boots map[string]boot) (all, due []*inventory.Host) {
	begun, done := map[string]bool{}, false
	for _, b := range boots {
		for _, name := range b.Run {
			begun[name] = true
		}
		done = done || b.Mark == bootDone
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		b, there := boots[h.Name]
		if !there { // left out on request
			continue
		}
		named := slices.Contains(o.Hosts, h.Name)
		fresh := len(begun) == 0 && len(o.Hosts) == 0 && (o.All && !o.IfRequired || o.IfRequired && b.Required != "")
		switch {
		case b.Mark == bootDone, begun[h.Name] && b.Mark == "" && done:
			all = append(all, h)
		case b.Mark != "", begun[h.Name], named, fresh:
			all, due = append(all, h), append(due, h)
		}
	}
	return all, due
}

// refuse names what would be down while a master reboots that has no replacement.
func (o RebootOptions) refuse(inv *inventory.Inventory, due []*inventory.Host) error {
	masters := inv.Masters()
	if len(masters) >= 3 || o.AcceptDowntime {
		return nil
	}
	for _, h := range due {
		if h.Role == inventory.ControlPlane {
			return exitcode.With(exitcode.Unsafe, remote.Hint(
				fmt.Errorf("with %d masters the API and etcd are down while %s reboots", len(masters), h.Name),
				"permit it with --accept-downtime"))
		}
	}
	return nil
}

// noteBoot writes the mark, unless an earlier run did.
func noteBoot(h *inventory.Host, all []*inventory.Host) plan.Step {
	what := "note that " + h.Name + " is to be rebooted"
	return plan.Step{
		ID: bootID(h, "note"), Host: h.Name, Title: "note", Look: []plan.Look{plan.LookFor(bootQuestion)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			b, err := plan.Answered(env, bootQuestion)
			if err != nil || b.Mark != "" {
				return nil, err
			}
			return &plan.Change{Op: plan.Create, Summary: what, Pin: b.ID, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, c *plan.Change) error {
			return writeMark(ctx, env, c.Pin, all)
		},
	}
}

func writeMark(ctx context.Context, env plan.Env, mark string, all []*inventory.Host) error {
	names := make([]string, len(all))
	for i, h := range all {
		names[i] = h.Name
	}
	return env.Host.Put(ctx, remote.File{Path: bootMark, Content: []byte(mark + "\n" + strings.Join(names, " ") + "\n"), Mode: 0o600})
}

// forgetBoot removes the mark once all hosts are back.
func forgetBoot(h *inventory.Host) plan.Step {
	what, done := "forget the boot of "+h.Name, false
	return plan.Step{
		ID: bootID(h, "forget"), Host: h.Name, Title: "forget", Look: []plan.Look{plan.LookFor(bootQuestion)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			b, err := plan.Answered(env, bootQuestion)
			switch {
			case err != nil || done && b.Mark == "":
				return nil, err
			case b.Mark == bootDone:
				return &plan.Change{Op: plan.Delete, Summary: what, Acts: []string{what}}, nil
			}
			return plan.Then(plan.Delete, what, what), nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			done = true
			_, err := env.Host.Run(ctx, remote.Cmd{Title: what, Script: "rm -f " + bootMark})
			return err
		},
	}
}

func bootID(h *inventory.Host, what string) plan.ID { return plan.ID("boot/" + h.Name + "/" + what) }

// stillToReboot is for steps that have nothing to do once the host has rebooted.
func stillToReboot(env plan.Env) (bool, error) {
	b, err := plan.Answered(env, bootQuestion)
	return !b.rebooted() && b.Mark != bootDone, err
}

// spared refuses to stop a master without which the cluster does not serve.
func (s *session) spared(ctx context.Context, env plan.Env, h *inventory.Host, o RebootOptions) error {
	if h.Role != inventory.ControlPlane || len(s.inv.Masters()) < 3 && o.AcceptDowntime {
		return nil
	}
	c, err := s.dialEtcd(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SurvivesStopping(ctx, h.Name); err != nil {
		return err
	}
	return (kubeadm.Cluster{Inv: s.inv, PKI: s.material}).Spare(ctx, env, h)
}

// reboot is the step that reboots the host and waits until it is back.
func (s *session) reboot(h *inventory.Host, o RebootOptions, why string) plan.Step {
	what := "reboot"
	summary := what
	if why != "" {
		summary += " (" + why + ")"
	}
	var before boot
	return plan.Step{
		ID: bootID(h, "reboot"), Host: h.Name, Title: "reboot", Look: []plan.Look{plan.LookFor(bootQuestion)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			b, err := plan.Answered(env, bootQuestion)
			if err != nil || b.rebooted() || b.Mark == bootDone {
				return nil, err
			}
			return &plan.Change{Op: plan.Restart, Summary: summary, Acts: []string{what}}, nil
		},
		Guard: func(ctx context.Context, env plan.Env) error {
			b, err := remote.Ask(ctx, env.Host, bootQuestion, 10*time.Second)
			if err == nil && !b.pending() {
				err = errors.New("the host does not say that it is to be rebooted")
			}
			if before = b; err != nil {
				return err
			}
			return s.spared(ctx, env, h, o)
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			_, err := env.Host.Run(ctx, remote.Cmd{Title: "reboot", Script: "(sleep 0.3; systemctl reboot -i) >/dev/null 2>&1 &"})
			return err
		},
		Ready: func(ctx context.Context, env plan.Env) error {
			if err := awaitBoot(ctx, env, before.ID, o.Return); err != nil {
				return exitcode.With(exitcode.Unhealthy, err)
			}
			return nil
		},
	}
}

// putBack gives the host back, and then marks it as done.
func (s *session) putBack(h *inventory.Host, all []*inventory.Host) []plan.Step {
	what := "note that " + h.Name + " is back"
	done := plan.Step{
		ID: bootID(h, "back"), Host: h.Name, Title: "back", Look: []plan.Look{plan.LookFor(bootQuestion)}, Then: plan.Then(plan.Update, what, what),
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			b, err := plan.Answered(env, bootQuestion)
			if err != nil || !b.rebooted() {
				return nil, err
			}
			return &plan.Change{Op: plan.Update, Summary: what, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			return writeMark(ctx, env, bootDone, all)
		},
	}
	return []plan.Step{s.control.Uncordon(h), done}
}
