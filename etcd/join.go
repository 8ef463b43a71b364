package etcd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// promoteTimeout bounds how long a learner may take to catch up.
const promoteTimeout = 5 * time.Minute

// dialer connects to the members that are up.
type dialer = func(context.Context) (*Cluster, error)

// Join returns the step that adds a master without data to the running cluster
// as a learner. A member of that name left over from a host that lost its disk
// is removed first, and the plan says so. A master with data needs no step.
func (p *Plan) Join(m *inventory.Host, dial dialer) []plan.Step {
	if !p.Joins(m) {
		return nil
	}
	st := plan.Step{ID: id(m, "member"), Host: m.Name, Title: "member", Lane: Lane}
	st.Look = []plan.Look{p.joining()}
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		a, err := env.Saw("etcd joining")
		if err != nil {
			return nil, err
		}
		stale, listed, err := p.listed(ctx, m, dial)
		switch {
		case err != nil:
			return nil, err
		case a.Out == "data" || a.Out == "prepared" && listed && !stale:
			return nil, nil
		case stale:
			return &plan.Change{Op: plan.Delete, Summary: "remove the stale etcd member " + m.Name + " (its host has no data any more) and add it anew as a learner"}, nil
		}
		return &plan.Change{Op: plan.Create, Summary: "add " + m.Name + " to the etcd cluster as a learner"}, nil
	}
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error { return p.add(ctx, env, m, dial) }
	return []plan.Step{st}
}

// joining asks how far a master without data is: "data" once its member has
// begun, "prepared", or "empty".
func (p *Plan) joining() plan.Look {
	return plan.Look{Key: "etcd joining", Script: `[ -d ` + remote.Quote(p.Inv.Etcd.DataDir+"/member") + ` ] && echo data || { grep -qs '^ETCD_INITIAL_CLUSTER_STATE=existing' ` + bootstrapFile + ` && echo prepared || echo empty; }`}
}

// listed looks the master up among the members. stale means that the member
// was started once: its log is gone with the disk, so it must not be reused.
func (p *Plan) listed(ctx context.Context, m *inventory.Host, dial dialer) (stale, listed bool, err error) {
	c, err := dial(ctx)
	if err != nil {
		return false, false, err
	}
	defer c.Close()
	ms, err := c.Members(ctx)
	if err != nil {
		return false, false, fmt.Errorf("read member list: %w", err)
	}
	for _, e := range ms {
		if e.Name == m.Name || len(e.PeerURLs) > 0 && e.PeerURLs[0] == PeerURL(m) {
			return e.Name != "", true, nil
		}
	}
	return false, false, nil
}

func (p *Plan) add(ctx context.Context, env plan.Env, m *inventory.Host, dial dialer) error {
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ms, err := c.Members(ctx)
	if err != nil {
		return fmt.Errorf("read member list: %w", err)
	}
	cluster := ""
	present := false
	for _, e := range ms {
		url := e.PeerURLs[0]
		switch {
		case url != PeerURL(m) && e.Name != m.Name:
			cluster += e.Name + "=" + url + ","
		case e.Name != "":
			if err := c.Remove(ctx, e.ID); err != nil {
				return fmt.Errorf("remove stale member %s: %w", m.Name, err)
			}
		default:
			present = true // added by a run that was cut off before it started
		}
	}
	if !present {
		env.Say("adding %s as a learner", m.Name)
		if _, err := c.AddLearner(ctx, PeerURL(m)); err != nil {
			return fmt.Errorf("add learner: %w", err)
		}
	}
	return env.Host.Put(ctx, remote.File{Path: bootstrapFile, Content: p.bootstrapEnv(cluster+m.Name+"="+PeerURL(m), "existing"), Owner: "etcd:etcd"})
}

// Promote returns the step that makes a learner that has caught up a voter.
func (p *Plan) Promote(m *inventory.Host, dial dialer) []plan.Step {
	if p.Disks[m.Name].Established != "" {
		return nil // it was a voter when its quorum file was written
	}
	st := plan.Step{ID: id(m, "voter"), Host: m.Name, Title: "voter", Lane: Lane}
	st.Look = []plan.Look{p.joining()}
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		a, err := env.Saw("etcd joining")
		if err != nil {
			return nil, err
		}
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		ms, err := c.Members(ctx)
		if err != nil {
			return nil, fmt.Errorf("read member list: %w", err)
		}
		for _, e := range ms {
			// A voter without data is the stale member of a host that was replaced.
			if e.Name == m.Name && !e.Learner && a.Out == "data" {
				return nil, nil
			}
		}
		return &plan.Change{Op: plan.Update, Summary: "promote learner " + m.Name + " to a voter once it has caught up"}, nil
	}
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		ms, err := c.Members(ctx)
		if err != nil {
			return fmt.Errorf("read member list: %w", err)
		}
		for _, e := range ms {
			if slices.Contains(e.PeerURLs, PeerURL(m)) {
				return c.Promote(ctx, e.ID, promoteTimeout, env.Say)
			}
		}
		return fmt.Errorf("%s is not in the member list", m.Name)
	}
	return []plan.Step{st}
}
