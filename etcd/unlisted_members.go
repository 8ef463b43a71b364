package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// first is the first master that was looked at: who does what the cluster needs
// once.
func (p *Plan) first() string {
	for _, m := range p.Inv.Masters() {
		if _, ok := p.Disks[m.Name]; ok {
			return m.Name
		}
	}
	return ""
}

// UnlistedMembersID is the step, of the host, that removes members of masters that are in
// the inventory no more.
func UnlistedMembersID(host string) plan.ID { return plan.ID("etcd/" + host + "/unlisted-members") }

// unlistedMembers returns the step that removes members of masters that are in the
// inventory no more. While one of them is there and does not answer, etcd adds
// no other (ErrUnhealthy), so that a dead master cannot be replaced under another
// name. One that answers is not removed: its host may have been taken out
// of the inventory by mistake.
func (p *Plan) unlistedMembers(m *inventory.Host, dial dialer) plan.Step {
	st := plan.Step{ID: UnlistedMembersID(m.Name), Host: m.Name, Title: "members that are not in the inventory", Lane: Lane}
	look := func(ctx context.Context, use func(*Cluster, *Status, []Listed) error) error {
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		s := c.Status(ctx)
		// Without a quorum etcd removes no member. Steps that start members may
		// bring the quorum back, so they go on; verification names unlisted members.
		if out := s.Strangers(p.Inv); len(out) > 0 && s.Quorum {
			return use(c, s, out)
		}
		return nil
	}
	st.Check = func(ctx context.Context, _ plan.Env) (change *plan.Change, err error) {
		err = look(ctx, func(c *Cluster, s *Status, all []Listed) error {
			var does, ids []string
			var refused []error
			for _, l := range all {
				switch answers, err := c.answers(ctx, s, l); {
				case err != nil:
					return fmt.Errorf("look at etcd member %s, which is not in the inventory: %w", l, err)
				case answers:
					refused = append(refused, remote.Hint(fmt.Errorf("etcd member %s is not in the inventory, and runs", l),
						"put it back into %s; or, to take it out for good: systemctl disable --now etcd keepalived on that host, then hactl up", p.Inv.Path))
				}
				does = append(does, fmt.Sprintf("remove etcd member %s: it is not in the inventory and does not answer", l))
				ids = append(ids, hex(l))
			}
			if len(refused) > 0 {
				return &plan.GuardError{Err: errors.Join(refused...)}
			}
			change = &plan.Change{Op: plan.Delete, Summary: strings.Join(does, "; "), Acts: ids}
			return nil
		})
		return change, err
	}
	st.Guard = func(ctx context.Context, _ plan.Env) error {
		return look(ctx, func(_ *Cluster, s *Status, all []Listed) error { return s.spares("remove members", all...) })
	}
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		return look(ctx, func(c *Cluster, _ *Status, all []Listed) error {
			for _, l := range all {
				if !slices.Contains(change.Acts, hex(l)) {
					continue // not asked, and not in the plan
				}
				env.Say("removing etcd member %s", l)
				if err := c.Remove(ctx, l.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return st
}

func hex(l Listed) string { return strconv.FormatUint(l.ID, 16) }

// answers reports whether anything takes a connection where the member serves
// its clients or its peers, asked from every master at once. Silence counts only
// when the master that was asked was there before and after it: three seconds
// without an answer through a session that hangs say nothing, nor does an sshd
// that forwards to no other host.
func (c *Cluster) answers(ctx context.Context, s *Status, l Listed) (bool, error) {
	var addrs []string
	for _, u := range slices.Concat(l.ClientURLs, l.PeerURLs) {
		if at, err := url.Parse(u); err == nil && at.Port() != "" {
			addrs = append(addrs, at.Host)
		}
	}
	if len(addrs) == 0 {
		return false, fmt.Errorf("it has no address")
	}
	dialing, cancel := wait.Within(ctx, "a connection to member "+l.String(), statusTimeout)
	defer cancel()
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		taken  bool
		silent = map[string]bool{}
		last   error
	)
	for _, cn := range c.conns {
		if m := s.Member(cn.Name); m == nil || !m.Reachable {
			continue
		}
		for _, addr := range addrs {
			wg.Go(func() {
				nc, err := cn.Host.Dial(dialing, "tcp", addr)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					last = err
					if !remote.Unreachable(err) || errors.Is(err, context.DeadlineExceeded) {
						silent[cn.Name] = true
					}
					return
				}
				_ = nc.Close()
				taken = true
				cancel() // one is enough
			})
		}
	}
	wg.Wait()
	if taken {
		return true, nil
	}
	after := c.Status(ctx)
	for name := range silent {
		if after.Member(name).Reachable {
			return false, nil
		}
	}
	return false, fmt.Errorf("no master could be asked: %w", last)
}
