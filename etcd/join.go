package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
	"hactl/inventory"
)

// promoteTimeout bounds how long a learner may take to catch up.
const promoteTimeout = 5 * time.Minute

// dialer connects to the members that are up.
type dialer = func(context.Context) (*Cluster, error)

// Join returns the step that adds a master without data to the running cluster
// as a learner. A member of that name left over from a host that lost its disk
// is removed first, and the plan says so. A master with data needs no step. Of
// the first master that was looked at it returns, before that, the step that
// removes members of masters that are in the inventory no more.
func (p *Plan) Join(m *inventory.Host, dial dialer) []plan.Step {
	var steps []plan.Step
	if m.Name == p.first() {
		steps = append(steps, p.unlistedMembers(m, dial))
	}
	if !p.Joins(m) {
		return steps
	}
	st := plan.Step{ID: id(m, "member"), Host: m.Name, Title: "member", Lane: Lane}
	st.Look = []plan.Look{plan.LookFor(p.joining())}
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		seen, err := plan.Answered(env, p.joining())
		if err != nil {
			return nil, err
		}
		listed, err := p.listed(ctx, m, dial)
		stale := listed != nil && listed.Name != ""
		c := &plan.Change{Op: plan.Create, Summary: "add " + m.Name + " to the etcd cluster as a learner", Acts: []string{"add a learner"},
			Made: []plan.Made{{Kind: "file", Name: bootstrapFile, Former: plan.Former{Absent: true}}}}
		switch {
		case err != nil:
			return nil, err
		case seen.data || seen.prepared && listed != nil && !stale:
			return nil, nil
		case stale:
			c.Op, c.Summary = plan.Delete, "remove the stale etcd member "+m.Name+" (its host has no data any more) and add it anew as a learner"
			c.Acts = append(c.Acts, "remove member "+hex(*listed))
		}
		if seen.remains {
			c.Summary += "; what is left in " + p.memberDir() + " is put aside beside it"
			c.Acts = append(c.Acts, "put "+p.memberDir()+" aside")
		}
		return c, nil
	}
	st.Guard = func(ctx context.Context, env plan.Env) error { return p.mayLeave(ctx, env, m, dial) }
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error { return p.add(ctx, env, m, dial) }
	return append(steps, st)
}

func (p *Plan) memberDir() string { return p.Inv.Etcd.DataDir + "/member" }

// joining is how far a master without data is.
type joining struct {
	data     bool // its member has begun its log
	prepared bool // it was told to join
	remains  bool // there is something of a member, and no log
}

// joinings are the answers to the question for it.
var joinings = map[string]joining{
	"data": {data: true}, "empty clear": {}, "empty remains": {remains: true}, "prepared clear": {prepared: true}, "prepared remains": {prepared: true, remains: true},
}

func (p *Plan) joining() sys.Question[joining] {
	return sys.Question[joining]{
		Title: "look at what is there of an etcd member",
		Script: `if has_log ` + remote.Quote(p.Inv.Etcd.DataDir) + `; then echo data; exit; fi
s=empty r=clear
! grep -qs '^ETCD_INITIAL_CLUSTER_STATE=existing' ` + bootstrapFile + ` || s=prepared
[ ! -e ` + remote.Quote(p.memberDir()) + ` ] || r=remains
echo $s $r`,
		Parse: func(answer string) (joining, error) {
			j, known := joinings[strings.TrimSpace(answer)]
			if !known {
				return j, sys.Unreadable(answer)
			}
			return j, nil
		},
	}
}

// pendingUntilJoined is then until the host's member has begun its log, nil after
// that. It is for a step that looks in sync at plan time and no longer will, once
// the member has been added.
func (p *Plan) pendingUntilJoined(env plan.Env, then *plan.Change) (*plan.Change, error) {
	if seen, err := plan.Answered(env, p.joining()); err != nil || seen.data {
		return nil, err
	}
	return then, nil
}

// mayLeave guards the removal of a stale member. It may be running: etcd goes on
// for a while when its files are deleted under it.
func (p *Plan) mayLeave(ctx context.Context, env plan.Env, m *inventory.Host, dial dialer) error {
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.patiently(ctx, env.Say, func() error { return c.mayLeave(ctx, m) })
}

func (c *Cluster) mayLeave(ctx context.Context, m *inventory.Host) error {
	_, s, err := c.leading(ctx, "remove the stale member "+m.Name)
	if err != nil {
		return err
	}
	for _, e := range s.Listed {
		if !e.of(m) || e.Name == "" {
			continue
		}
		if err := c.SurvivesStopping(ctx, m.Name); err != nil {
			return err
		}
		if err := s.spares("remove the stale member "+m.Name, e); err != nil {
			return err
		}
	}
	return nil
}

// startAnew is the step that starts a member that is about to be added. A member
// that runs at the time of the plan is stopped by then.
func (p *Plan) startAnew(m *inventory.Host, s plan.Service) plan.Step {
	s.Ready = func(ctx context.Context, env plan.Env) error {
		env.Say("waiting up to %s for the new member to begin its log", wait.Bound(ctx, time.Minute))
		_, err := env.Host.Run(ctx, remote.Cmd{Title: "wait for the member's log", Timeout: 70 * time.Second, Script: `LC_ALL=C; export LC_ALL
wait_until 60 ` + remote.Quote("no log in "+p.memberDir()) + ` has_log ` + remote.Quote(p.Inv.Etcd.DataDir)})
		if err != nil && !remote.Unreachable(err) {
			err = remote.Hint(err, "on %s: journalctl -u etcd", m.Name)
		}
		return err
	}
	st := s.Step()
	check := st.Check
	st.Look = append(st.Look, plan.LookFor(p.joining()))
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		c, err := check(ctx, env)
		if err == nil && c == nil {
			c, err = p.pendingUntilJoined(env, plan.Then(plan.Restart, "restart "+s.Unit+": its member begins anew", plan.RestartActs()...))
		}
		return c, err
	}
	return st
}

// listed looks the master up among the members; nil when it is not there. One with
// a name was started once: its log is gone with the disk, so it must not be reused.
func (p *Plan) listed(ctx context.Context, m *inventory.Host, dial dialer) (*Listed, error) {
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
		if e.of(m) {
			return &e, nil
		}
	}
	return nil, nil
}

// clearScript leaves nothing on a host by which its old member could start
// again: it would be a voter that has forgotten what it acknowledged. What lies
// there without a log is not deleted, but must not become part of a new member.
func (p *Plan) clearScript() string {
	return `LC_ALL=C; export LC_ALL
stop_unit etcd.service || exit 1
! has_log ` + remote.Quote(p.Inv.Etcd.DataDir) + ` || { echo "` + p.memberDir() + ` holds a log after all" >&2; exit 1; }
rm -f ` + bootstrapFile + ` ` + establishedFile + ` || exit 1
d=` + remote.Quote(p.memberDir()) + `; [ -e "$d" ] || exit 0
n=1; while [ -e "$d.old-$n" ]; do n=$((n+1)); done; mv "$d" "$d.old-$n"`
}

func (p *Plan) add(ctx context.Context, env plan.Env, m *inventory.Host, dial dialer) error {
	// First: from here on this host is no voter. The others know of the quorum.
	if _, err := env.Host.Run(ctx, remote.Cmd{Title: "stop what is left of the member", Script: p.clearScript(), Timeout: 2 * time.Minute}); err != nil {
		return err
	}
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
	for _, e := range ms {
		switch {
		case !e.of(m):
			cluster += e.Name + "=" + e.PeerURLs[0] + ","
		case e.Name != "":
			if err := c.Remove(ctx, e.ID); err != nil {
				return fmt.Errorf("remove stale member %s: %w", m.Name, err)
			}
		}
	}
	env.Say("adding %s as a learner", m.Name)
	if _, err := c.AddLearner(ctx, PeerURL(m)); err != nil { // one that a cut run has added stays as it is
		return err
	}
	return env.Host.Put(ctx, remote.File{Path: bootstrapFile, Content: p.bootstrapEnv(cluster+m.Name+"="+PeerURL(m), "existing"), Owner: "etcd:etcd"})
}

// Promote returns the step that makes a learner that has caught up a voter.
func (p *Plan) Promote(m *inventory.Host, dial dialer) []plan.Step {
	if d := p.Disks[m.Name]; d.Established != "" && d.Data {
		return nil // it was a voter when its quorum file was written
	}
	st := plan.Step{ID: id(m, "voter"), Host: m.Name, Title: "voter", Lane: Lane}
	st.Look = []plan.Look{plan.LookFor(p.joining())}
	st.Check = func(ctx context.Context, env plan.Env) (*plan.Change, error) {
		seen, err := plan.Answered(env, p.joining())
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
			if e.Name == m.Name && !e.Learner && seen.data {
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
