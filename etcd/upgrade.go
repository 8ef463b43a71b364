package etcd

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"

	"hactl/internal/plan"
)

// WayBack is for the start of a member with another minor of etcd. One that does not come
// up goes back to the version of before only as long as that is possible: with the last
// member of a newer minor the version of the cluster rises, and an older etcd does not
// start any more.
func (p *Plan) WayBack(st plan.Step, dial dialer) plan.Step {
	check := st.Check
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		c, err := check(ctx, env)
		if err != nil || c == nil || c.Revert == nil {
			return c, err
		}
		revert := c.Revert
		c.Revert = func(ctx context.Context, env plan.Env) error {
			if err := p.mayGoBack(ctx, dial); err != nil {
				return err
			}
			return revert(ctx, env)
		}
		return c, nil
	}
	return st
}

// mayGoBack is an error when all members have the wanted minor.
func (p *Plan) mayGoBack(ctx context.Context, dial dialer) error {
	want := semver.MajorMinor(p.Inv.Versions.Etcd)
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, m := range c.Status(ctx).Members {
		if m.Version == "" || semver.MajorMinor("v"+strings.TrimPrefix(m.Version, "v")) != want {
			return nil // the cluster's version is that of its oldest member
		}
	}
	return fmt.Errorf("every member has etcd %s, and so has the data: there is no way back by programs", want)
}
