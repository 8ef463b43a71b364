package etcd

import (
	"context"
	"slices"

	"hactl/internal/plan"
	"hactl/inventory"
)

// RemoveMember returns a step, run on the host of via, that takes the member of old out
// of the cluster. The member of keep stays: it takes the place of old, and may have its
// name or its address. A cluster without such a member is in sync.
func RemoveMember(via, old, keep *inventory.Host, dial func(context.Context) (*Cluster, error)) plan.Step {
	find := func(ctx context.Context, env plan.Env, use func(*Cluster, Listed) error) error {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		var members []Listed
		err = c.patiently(ctx, env.Say, func() error { // a member that led may have died just now
			members, err = c.Members(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(members, func(l Listed) bool { return l.leaves(old, keep) }); i >= 0 {
			return use(c, members[i])
		}
		return nil
	}
	return plan.Step{
		ID: plan.ID("etcd/" + old.Name + "/leaves"), Host: via.Name, Title: "member of " + old.Name, Lane: Lane,
		Check: func(ctx context.Context, env plan.Env) (change *plan.Change, err error) {
			err = find(ctx, env, func(_ *Cluster, l Listed) error {
				change = &plan.Change{Op: plan.Delete, Summary: "remove etcd member " + l.String(), Acts: []string{hex(l)}}
				return nil
			})
			return change, err
		},
		Guard: func(ctx context.Context, env plan.Env) error {
			return find(ctx, env, func(c *Cluster, l Listed) error {
				return c.patiently(ctx, env.Say, func() error { return c.Status(ctx).spares("remove "+old.Name, l) })
			})
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			return find(ctx, env, func(c *Cluster, l Listed) error { return c.Remove(ctx, l.ID) })
		},
	}
}

// leaves tells the member of old from the one of keep, which may have the same name or
// the same address, not both.
func (l Listed) leaves(old, keep *inventory.Host) bool {
	at := func(h *inventory.Host) bool {
		return h.PrivateAddress.IsValid() && slices.Contains(l.PeerURLs, PeerURL(h))
	}
	if old.Name == keep.Name {
		return l.Name == old.Name && !at(keep)
	}
	return l.Name == old.Name || l.Name == "" && at(old) && !at(keep)
}

// MemberOf is the member of that name, or nil.
func (c *Cluster) MemberOf(ctx context.Context, name string) (*Listed, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(members, func(l Listed) bool { return l.Name == name }); i >= 0 {
		return &members[i], nil
	}
	return nil, nil
}

// SparesMember returns nil when the cluster has a quorum without the member that
// [RemoveMember] would remove, or else a hinted [*QuorumError].
func (c *Cluster) SparesMember(ctx context.Context, old, keep *inventory.Host) error {
	return c.patiently(ctx, func(string, ...any) {}, func() error {
		s := c.Status(ctx)
		if i := slices.IndexFunc(s.Listed, func(l Listed) bool { return l.leaves(old, keep) }); i >= 0 {
			return s.spares("remove "+old.Name, s.Listed[i])
		}
		return nil
	})
}
