package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// changeTimeout bounds one change of the membership. etcd refuses any until the
// members have been connected to one another for five seconds.
const changeTimeout = 15 * time.Second

// QuorumError says that something was refused because the cluster has no
// quorum, or would have none afterwards.
type QuorumError struct {
	Op      string   // "stop m1"
	Healthy int      // voters that would be left and well
	Voters  int      // of how many
	Missing []string // members that are not healthy, with the reason
}

// Error names the figures and who is missing.
func (e *QuorumError) Error() string {
	s := fmt.Sprintf("refused to %s: it leaves %d of %d etcd voters healthy, a quorum takes %d", e.Op, e.Healthy, e.Voters, e.Voters/2+1)
	if len(e.Missing) > 0 {
		s += "; not healthy: " + strings.Join(e.Missing, ", ")
	}
	return s
}

func (s *Status) refuse(op string, healthy, voters int) error {
	e := &QuorumError{Op: op, Healthy: healthy, Voters: voters}
	for _, m := range s.Members {
		if m.Err != nil {
			e.Missing = append(e.Missing, fmt.Sprintf("%s (%v)", m.Name, m.Err))
		}
	}
	return remote.Hint(e, "hactl status shows every member; bring back those that are not healthy first")
}

// SurvivesStopping returns nil when the cluster keeps its quorum without the
// member of that inventory name, or when stopping it costs nothing: it is the
// only voter, or it certainly serves no client. Otherwise it is a hinted
// [*QuorumError]. A member that could not be looked at counts as serving.
func (c *Cluster) SurvivesStopping(ctx context.Context, name string) error {
	s := c.Status(ctx)
	m := s.Member(name)
	if m == nil {
		return fmt.Errorf("etcd has no member %s in the inventory", name)
	}
	rest := s.Healthy
	if m.Healthy {
		rest--
	}
	switch {
	case rest >= s.Needed():
		return nil
	case m.Healthy && s.Voters == 1:
		return nil // there is no rest that could carry on
	case m.Err != nil && !m.unknown, m.Learner && m.Err == nil:
		return nil
	}
	return s.refuse("stop "+name, rest, s.Voters)
}

// leading returns the connection to the leader of a cluster that has a quorum.
func (c *Cluster) leading(ctx context.Context, op string) (*conn, *Status, error) {
	s := c.Status(ctx)
	if !s.Quorum {
		return nil, s, s.refuse(op, s.Healthy, s.Voters)
	}
	if s.Leader != "" {
		return c.conn(s.Leader), s, nil
	}
	// The leader is no member that we were told of; any other passes it on.
	for _, m := range s.Members {
		if m.Healthy {
			return c.conn(m.Name), s, nil
		}
	}
	return nil, s, errors.New(op + ": no healthy member to ask")
}

// Leader returns the inventory name of the leader.
func (c *Cluster) Leader(ctx context.Context) (string, error) {
	_, s, err := c.leading(ctx, "look for the leader")
	if err != nil {
		return "", err
	}
	if s.Leader == "" {
		return "", errors.New("the etcd leader is not in the inventory")
	}
	return s.Leader, nil
}

// Members returns the member list as a quorum has it.
func (c *Cluster) Members(ctx context.Context) ([]Listed, error) {
	cn, _, err := c.leading(ctx, "list members")
	if err != nil {
		return nil, err
	}
	ctx, cancel := wait.Within(ctx, "a change of etcd's members", changeTimeout)
	defer cancel()
	resp, err := cn.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("read member list from %s: %w", cn.Name, err)
	}
	return listed(resp.Members), nil
}

// settled makes a change, again and again while etcd refuses it because its
// members have not been connected for long enough. A refusal changed nothing;
// any other outcome is final.
func (c *Cluster) settled(ctx context.Context, change func() error) error {
	tick := time.NewTicker(c.poll)
	defer tick.Stop()
	for {
		err := change()
		if !errors.Is(err, rpctypes.ErrUnhealthy) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the members to be connected: %w", err)
		}
	}
}

// AddLearner adds a member that does not vote yet and returns its id. A
// learner that is there already under this peer URL is returned as it is; a
// voter under it is an error.
func (c *Cluster) AddLearner(ctx context.Context, peerURL string) (uint64, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range members {
		if !slices.Contains(m.PeerURLs, peerURL) {
			continue
		}
		if m.Learner {
			return m.ID, nil
		}
		return 0, fmt.Errorf("add learner %s: member %s (%x) already votes under this URL", peerURL, m.Name, m.ID)
	}
	cn, _, err := c.leading(ctx, "add learner "+peerURL)
	if err != nil {
		return 0, err
	}
	ctx, cancel := wait.Within(ctx, "a change of etcd's members", changeTimeout)
	defer cancel()
	var id uint64
	err = c.settled(ctx, func() error {
		resp, err := cn.client.MemberAddAsLearner(ctx, []string{peerURL})
		if err == nil {
			id = resp.Member.ID
		}
		return err
	})
	if err != nil {
		return 0, remote.Hint(fmt.Errorf("add learner %s: %w", peerURL, err), "etcd takes in no member while another is down: hactl status shows which")
	}
	return id, nil
}

// Promote makes a voter of a learner, once the learner has caught up with the
// leader: it waits for that as long as timeout. A member that votes already
// stays as it is.
func (c *Cluster) Promote(ctx context.Context, id uint64, timeout time.Duration, say func(format string, args ...any)) error {
	end, cancel := wait.Within(ctx, fmt.Sprintf("learner %x to catch up", id), timeout)
	defer cancel()
	tick := time.NewTicker(c.poll)
	defer tick.Stop()
	next := time.Now().Add(c.sayEvery)
	for {
		err := c.promote(ctx, id) // bounded by itself
		var q *QuorumError        // one look may find a leader's change
		if err == nil || !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) && !errors.As(err, &q) {
			return err
		}
		if now := time.Now(); say != nil && now.After(next) {
			next = now.Add(c.sayEvery)
			say("waiting up to %s for learner %x to catch up", wait.Bound(ctx, timeout), id)
		}
		select {
		case <-tick.C:
		case <-end.Done():
			return remote.Hint(wait.Over(end, err), "journalctl -u etcd on the new member")
		}
	}
}

func (c *Cluster) promote(ctx context.Context, id uint64) error {
	cn, s, err := c.leading(ctx, fmt.Sprintf("promote learner %x", id))
	if err != nil {
		return err
	}
	for _, l := range s.Listed {
		if l.ID == id && !l.Learner {
			return nil
		}
	}
	ctx, cancel := wait.Within(ctx, "a change of etcd's members", changeTimeout)
	defer cancel()
	err = c.settled(ctx, func() error {
		_, err := cn.client.MemberPromote(ctx, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("promote learner %x: %w", id, err)
	}
	return nil
}

// Remove takes a member out of the cluster for good. It is refused with a
// [*QuorumError] when the members that would be left have no quorum, and when
// it is the last voter. A member that is not in the list is gone already.
func (c *Cluster) Remove(ctx context.Context, id uint64) error {
	op := fmt.Sprintf("remove member %x", id)
	cn, s, err := c.leading(ctx, op)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(s.Listed, func(l Listed) bool { return l.ID == id })
	if i < 0 {
		return nil
	}
	if err := s.spares(op, s.Listed[i]); err != nil {
		return err
	}
	ctx, cancel := wait.Within(ctx, "a change of etcd's members", changeTimeout)
	defer cancel()
	err = c.settled(ctx, func() error {
		_, err := cn.client.MemberRemove(ctx, id)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// SparesRemoving returns nil when the cluster has a quorum without the member of that
// inventory name, counted by the members that would be left; or else a hinted
// [*QuorumError]. A name that is in no member is gone already.
func (c *Cluster) SparesRemoving(ctx context.Context, m *inventory.Host) error {
	s := c.Status(ctx)
	i := slices.IndexFunc(s.Listed, func(l Listed) bool { return l.of(m) })
	if i < 0 {
		return nil
	}
	return s.spares("remove "+m.Name, s.Listed[i])
}

// spares returns nil when the members that are left without these have a quorum.
func (s *Status) spares(op string, gone ...Listed) error {
	voters, healthy := s.Voters, s.Healthy
	for _, l := range gone {
		if !l.Learner {
			voters--
		}
		if slices.ContainsFunc(s.Members, func(m MemberStatus) bool { return m.ID == l.ID && m.Healthy }) {
			healthy--
		}
	}
	if voters == 0 || healthy < voters/2+1 {
		return s.refuse(op, healthy, voters)
	}
	return nil
}

// MoveLeader hands the leadership to the member of that inventory name; it is
// fine when that member leads already.
func (c *Cluster) MoveLeader(ctx context.Context, name string) error {
	cn, s, err := c.leading(ctx, "move the leader to "+name)
	if err != nil {
		return err
	}
	to := s.Member(name)
	switch {
	case to == nil:
		return fmt.Errorf("etcd has no member %s in the inventory", name)
	case s.Leader == name:
		return nil
	case !to.Healthy:
		return fmt.Errorf("move the leader to %s: it is not healthy: %s", name, to.Problem)
	case s.Leader == "":
		return errors.New("move the leader: the present one is not in the inventory")
	}
	ctx, cancel := wait.Within(ctx, "a change of etcd's members", changeTimeout)
	defer cancel()
	if _, err := cn.client.MoveLeader(ctx, to.ID); err != nil {
		return fmt.Errorf("move the leader from %s to %s: %w", s.Leader, name, err)
	}
	return nil
}
