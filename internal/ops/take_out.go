package ops

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/keepalived"
	"hactl/kubeadm"
)

// takingOut is how an operation takes a host out of service.
type takingOut struct {
	operation string        // is in the mark on the node and in the ids of steps
	drain     time.Duration // how long the pods of the host may take to leave
	// due says whether the host has still to be emptied; it may read the answer to look.
	due  func(plan.Env) (bool, error)
	look []plan.Look
	// guard refuses to stop the apiserver.
	guard func(context.Context, plan.Env) error
}

// takeOut empties the host: no new pods, no pods, no leadership, no VIP.
func (s *session) takeOut(h *inventory.Host, how takingOut) []plan.Step {
	drain := s.control.Drain(h, how.drain, how.due)
	drain.Look = append(drain.Look, how.look...)
	steps := []plan.Step{s.control.Cordon(h, how.operation), drain}
	if h.Role != inventory.ControlPlane {
		return steps
	}
	if len(s.inv.Masters()) > 1 {
		steps = append(steps, etcd.MoveLeadership(h, s.dialEtcd))
	}
	return append(steps, s.stopAPIServer(h, how))
}

// stopAPIServer ends the apiserver gracefully: the VIP moves while it still serves, so
// that its clients lose no request.
func (s *session) stopAPIServer(h *inventory.Host, how takingOut) plan.Step {
	look, run := kubeadm.StopAPIServer()
	what := "stop the kubelet and the apiserver, and have another master hold the VIP"
	st := plan.Script{
		ID: plan.ID(how.operation + "/" + h.Name + "/apiserver"), Host: h.Name, Title: "apiserver", Look: look, Summary: what, Run: run,
		Timeout: 2 * time.Minute, Acts: func(string) []string { return []string{what} },
	}.Step()
	st.Then = plan.Then(plan.Do, what, what)
	st.Look = append(st.Look, how.look...)
	check := st.Check
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		if due, err := how.due(env); err != nil || !due {
			return nil, err
		}
		return check(ctx, env)
	}
	st.Guard = how.guard
	st.Ready = func(ctx context.Context, env plan.Env) error {
		if len(s.inv.Masters()) == 1 {
			return nil
		}
		return s.awaitOwner(ctx, env, h)
	}
	return st
}

// vipMoves bounds how long the VIP may take to be on another master.
const vipMoves = 30 * time.Second

// awaitOwner waits until exactly one master other than h holds the VIP.
func (s *session) awaitOwner(ctx context.Context, env plan.Env, h *inventory.Host) error {
	ctx, cancel := wait.Within(ctx, "the VIP to move from "+h.Name, vipMoves)
	defer cancel()
	for {
		var owners []string
		for _, m := range keepalived.Look(ctx, s.inv, s.hosts) {
			if m.Holds {
				owners = append(owners, m.Host)
			}
		}
		if len(owners) == 1 && owners[0] != h.Name {
			env.Say("%s holds the VIP", owners[0])
			return nil
		}
		select {
		case <-ctx.Done():
			return remote.Hint(wait.Over(ctx, fmt.Errorf("it is held by %s", orNone(owners))), "hactl status shows which masters could hold it")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "no master"
	}
	return strings.Join(names, ", ")
}

// handsOver has a step that starts the kubelet of a master anew end the apiserver
// gracefully first, so that the VIP moves while it still serves. A kubelet of another
// minor starts the containers of static pods again by itself, at once and without that.
// Where the apiserver does not end, no other master takes the VIP, or the run is
// interrupted, the kubelet is started again.
func (c *cluster) handsOver(h *inventory.Host, st plan.Step) plan.Step {
	guard, apply := st.Guard, st.Apply
	st.Guard = func(ctx context.Context, env plan.Env) error {
		if err := c.nodes().Spare(ctx, env, h); err != nil || guard == nil {
			return err
		}
		return guard(ctx, env)
	}
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		env.Say("ending the apiserver, which the new kubelet would start again")
		_, run := kubeadm.StopAPIServer()
		_, err := env.Host.Run(ctx, remote.Cmd{Title: "stop the kubelet and the apiserver", Script: run, Timeout: 2 * time.Minute})
		if err == nil && len(c.inv.Masters()) > 1 {
			err = c.awaitOwner(ctx, env, h)
		}
		if err != nil {
			lasting, cancel := wait.Within(context.WithoutCancel(ctx), "the start of the kubelet", time.Minute)
			defer cancel()
			_, back := env.Host.Run(lasting, remote.Cmd{Title: "start the kubelet again", Script: "systemctl start kubelet.service"})
			return errors.Join(err, back)
		}
		return apply(ctx, env, change)
	}
	return st
}
