package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// WaitQuorum waits until a majority of the voters follow one leader, for
// timeout and the end of the look under way then (three seconds at most). say
// may be nil; it is told who is missing, for how long and why. The error says
// so too.
func (c *Cluster) WaitQuorum(ctx context.Context, timeout time.Duration, say func(format string, args ...any)) error {
	return c.quorumWithin(ctx, wait.Bound(ctx, timeout), say)
}

func (c *Cluster) quorumWithin(ctx context.Context, bound time.Duration, say func(format string, args ...any)) error {
	return c.wait(ctx, bound, say, "a quorum of etcd", func(s *Status) bool { return s.Quorum })
}

// WaitWrite waits until the cluster has a quorum and takes a write ([Cluster.WriteCheck]),
// for timeout at most, stretched for slow hosts. An acknowledged write that is not there ends it at once.
func (c *Cluster) WaitWrite(ctx context.Context, timeout time.Duration, say func(format string, args ...any)) error {
	end := time.Now().Add(wait.Bound(ctx, timeout))
	for said := false; ; {
		if err := c.quorumWithin(ctx, time.Until(end), say); err != nil {
			return err
		}
		err := c.WriteCheck(ctx)
		if err == nil || errors.Is(err, errWriteLost) || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
		if say != nil && !said {
			say("waiting for etcd to take a write (up to %s): %v", wait.Bound(ctx, timeout), err)
			said = true
		}
		time.Sleep(c.poll)
	}
}

// patiently asks again while a quorum is missing: a member that was started just
// now, by this run or the one before, may be about to come back.
func (c *Cluster) patiently(ctx context.Context, say func(format string, args ...any), ask func() error) error {
	end := time.Now().Add(wait.Bound(ctx, c.patience))
	for said := false; ; {
		err := ask()
		var q *QuorumError
		if !errors.As(err, &q) || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
		if !said {
			say("waiting up to %s for the other members: %v", wait.Bound(ctx, c.patience), err)
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.poll):
		}
	}
}

// WaitAll waits until every member is healthy and no alarm is raised. It is
// for what asks every endpoint, such as kubeadm's preflight.
func (c *Cluster) WaitAll(ctx context.Context, timeout time.Duration, say func(format string, args ...any)) error {
	return c.wait(ctx, wait.Bound(ctx, timeout), say, "all etcd members", func(s *Status) bool {
		for _, m := range s.Members {
			if !m.Healthy || len(m.Alarms) > 0 {
				return false
			}
		}
		return s.Quorum
	})
}

// wait waits for bound, which is stretched already.
func (c *Cluster) wait(ctx context.Context, bound time.Duration, say func(string, ...any), what string, done func(*Status) bool) error {
	// The looks have a bound of their own: one that the end of the wait cuts
	// short would report every member as silent.
	end, cancel := wait.Exactly(ctx, what, bound)
	defer cancel()
	w := watch{start: time.Now(), seen: map[string]time.Time{}}
	next := w.start.Add(min(2*time.Second, c.sayEvery))
	tick := time.NewTicker(c.poll)
	defer tick.Stop()
	for {
		s := c.Status(ctx)
		if done(s) {
			return nil
		}
		w.note(s)
		if now := time.Now(); say != nil && now.After(next) {
			next = now.Add(c.sayEvery)
			say("waiting for %s (up to %s): %s", what, bound, w.text(s))
		}
		select {
		case <-tick.C:
		case <-end.Done():
			err := wait.Over(end, fmt.Errorf("%s: %w", w.text(s), end.Err()))
			return remote.Hint(err, "journalctl -u etcd on %s", strings.Join(w.missing(s), ", "))
		}
	}
}

// watch remembers when each member was last healthy.
type watch struct {
	start time.Time
	seen  map[string]time.Time
}

func (w *watch) note(s *Status) {
	for _, m := range s.Members {
		if m.Healthy {
			w.seen[m.Name] = time.Now()
		}
	}
}

func (w *watch) missing(s *Status) []string {
	var out []string
	for _, m := range s.Members {
		if !m.Healthy || len(m.Alarms) > 0 {
			out = append(out, m.Name)
		}
	}
	return out
}

// text is such as "1 of 3 voters healthy, 2 needed; m2 missing for 12s
// (connection refused)".
func (w *watch) text(s *Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d voters healthy, %d needed", s.Healthy, s.Voters, s.Needed())
	for _, m := range s.Members {
		switch {
		case m.Healthy && len(m.Alarms) > 0:
			fmt.Fprintf(&b, "; %s has alarm %s", m.Name, strings.Join(m.Alarms, ", "))
		case m.Healthy:
		case m.Learner && m.Err == nil:
			fmt.Fprintf(&b, "; %s is still a learner", m.Name)
		default:
			since := w.start
			if t, ok := w.seen[m.Name]; ok {
				since = t
			}
			fmt.Fprintf(&b, "; %s missing for %s (%v)", m.Name, time.Since(since).Round(time.Second), m.Err)
		}
	}
	return b.String()
}
