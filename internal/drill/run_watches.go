package drill

import (
	"context"
	"fmt"
	"time"
)

// begin starts watches and traffic. The returned function ends both.
func (r *runner) begin(ctx context.Context) (finish func()) {
	finish = r.watched(ctx)
	r.traffic.start(ctx)
	return finish
}

// watched starts the watches. The returned function ends them, and traffic before.
func (r *runner) watched(ctx context.Context) (finish func()) {
	watching, endWatch := context.WithCancel(ctx)
	r.watching = watching
	r.watch(watching)
	return func() {
		r.mark(&r.end)
		r.traffic.finish()
		for _, c := range r.kept {
			c.CloseIdleConnections()
		}
		endWatch()
		r.wg.Wait()
	}
}

func (r *runner) watch(ctx context.Context) {
	r.wg.Go(func() { r.c.clock()(ctx, r.zero, r.stalled) })
	if r.operation {
		return // which may need the hosts' sessions, and restarts them
	}
	bound := time.Minute + r.sc.Hold + 2*r.sc.Recover // stretched where it is used
	for _, m := range r.c.Masters() {
		r.wg.Go(func() {
			watchVIP(ctx, m, r.c.VIP, r.zero, bound, r.owners, func(heard time.Duration, err error) { r.watchLost(m, heard, err) })
		})
	}
	r.wg.Go(func() { watchLeader(ctx, r.c, r.zero, r.leaders) })
	if r.obs.Frame != nil {
		r.wg.Go(func() {
			for pause(ctx, 250*time.Millisecond) {
				r.obs.Frame(r.frame())
			}
		})
	}
}

// watchLost is for a master whose watch of the VIP broke. If the master was powered off
// on purpose, its ownership ends at its last report; otherwise the run has a blind spot
// and fails.
func (r *runner) watchLost(m *Member, heard time.Duration, err error) {
	for _, k := range r.injections {
		if k.Member == m && k.Fault.Power {
			r.owners.set(m.Name, heard, false)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blind[m.Name] = fmt.Errorf("the watch of the VIP on %s was lost: %w", m.Name, err)
}

// follow starts the waits of checks for something that comes back. What was there
// before the fault has not come back.
func (r *runner) follow() {
	for _, c := range r.sc.Checks {
		if c.follow == nil {
			continue
		}
		wait := c.follow(r, c)
		r.wg.Go(func() {
			if at, ok := wait(); ok {
				r.find(c.Name(), at)
			}
		})
	}
}
