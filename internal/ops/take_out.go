package ops

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/remote"
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
	// etcdRuns says that the member of the host goes on meanwhile: it may lead.
	etcdRuns bool
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
	if len(s.inv.Masters()) > 1 && !how.etcdRuns {
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
	ctx, cancel := context.WithTimeout(ctx, vipMoves)
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
			return remote.Hint(fmt.Errorf("the VIP did not move from %s within %s: held by %s", h.Name, vipMoves, orNone(owners)), "hactl status shows which masters could hold it")
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
