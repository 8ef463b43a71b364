package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hactl/internal/plan"
	"hactl/internal/wait"
	"hactl/inventory"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Leads asks the member of that name alone whether it says that it leads. It is
// one request, cheap enough to be asked many times a second.
func (c *Cluster) Leads(ctx context.Context, name string) (bool, error) {
	cn := c.conn(name)
	if cn == nil {
		return false, fmt.Errorf("no etcd member is called %s", name)
	}
	resp, err := pb.NewMaintenanceClient(cn.client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		cause, _ := cn.explain(ctx, err)
		return false, cause
	}
	return resp.Leader != 0 && resp.Leader == resp.Header.GetMemberId(), nil
}

// leaderKnown bounds how long [Cluster.withLeader] waits: an election takes a second or
// two, and a member on a busy host may miss one look.
const leaderKnown = 20 * time.Second

// withLeader is the status once a leader is known. That none is known does not say that a
// certain member does not lead.
func (c *Cluster) withLeader(ctx context.Context) (*Status, error) {
	for end := time.Now().Add(wait.Bound(ctx, leaderKnown)); ; {
		s := c.Status(ctx)
		switch {
		case s.Leader != "":
			return s, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !time.Now().Before(end):
			return nil, &wait.OverError{What: "the leader of etcd", Bound: wait.Bound(ctx, leaderKnown), Err: errors.New("no member of the inventory says that it leads")}
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// MoveLeadership returns the step of a roll that has another member lead before the
// host of m stops. It is in sync when m does not lead.
func MoveLeadership(m *inventory.Host, dial func(context.Context) (*Cluster, error)) plan.Step {
	what := "have another member lead etcd"
	leads := func(ctx context.Context) (is bool, to string, err error) {
		c, err := dial(ctx)
		if err != nil {
			return false, "", err
		}
		defer c.Close()
		s, err := c.withLeader(ctx)
		if err != nil || s.Leader != m.Name {
			return false, "", err
		}
		for _, other := range s.Members {
			if other.Healthy && other.Name != m.Name {
				to = other.Name
			}
		}
		return true, to, nil
	}
	return plan.Step{
		ID: id(m, "leadership"), Host: m.Name, Title: "leadership", Then: plan.Then(plan.Do, what+", if this one leads", what),
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			is, _, err := leads(ctx)
			if err != nil || !is {
				return nil, err
			}
			return &plan.Change{Op: plan.Do, Summary: what, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			is, to, err := leads(ctx)
			switch {
			case err != nil || !is:
				return err
			case to == "":
				return fmt.Errorf("etcd: %s leads, and no other member is healthy", m.Name)
			}
			c, err := dial(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			env.Say("etcd: %s leads from now on", to)
			return c.MoveLeader(ctx, to)
		},
	}
}
