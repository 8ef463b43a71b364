package drill

import (
	"context"
	"math/rand/v2"
	"time"
)

// simStall is a time in which a host, or with "" the whole machine, does nothing.
type simStall struct {
	host     string
	from, to time.Time
}

// stallAtRandom plans stalls for a while from now on: of the machine, and of hosts.
func (s *sim) stallAtRandom(r *rand.Rand, during time.Duration) {
	for _, host := range []string{"", "", "", "master-1", "master-2", "master-3"} {
		for range int(during / (4 * s1)) {
			if r.IntN(2) == 0 {
				continue
			}
			from := time.Now().Add(time.Duration(r.Int64N(int64(during))))
			s.stalls = append(s.stalls, simStall{host, from, from.Add(time.Duration(20+r.IntN(250)) * ms)})
		}
	}
}

// stalledUntil is when the host, if it stands still now, goes on.
func (s *sim) stalledUntil(host string) (time.Time, bool) {
	now := time.Now()
	for _, st := range s.stalls {
		if (st.host == "" || st.host == host) && !now.Before(st.from) && now.Before(st.to) {
			return st.to, true
		}
	}
	return now, false
}

// await returns once the host does not stand still, or with the context's error.
func (s *sim) await(ctx context.Context, host string) error {
	for {
		until, stalled := s.stalledUntil(host)
		if !stalled {
			return nil
		}
		if !pause(ctx, time.Until(until)) {
			return ctx.Err()
		}
	}
}

// clock is this process's own: it notes the stalls of the whole machine.
func (s *sim) clock(ctx context.Context, zero time.Time, stalled func(Span)) {
	for _, st := range s.stalls {
		if st.host == "" && pause(ctx, time.Until(st.to)) {
			stalled(Span{st.from.Sub(zero), st.to.Sub(zero)})
		}
	}
}

// handOver takes the VIP away and gives it to another host once that has worked for d.
func (s *sim) handOver(d time.Duration, to string) {
	s.own()
	go func() {
		for left := d; left > 0; left -= 5 * ms {
			time.Sleep(5 * ms)
			_ = s.await(context.Background(), to)
		}
		s.own(to)
	}()
}

// lose has a quarter of what is meant fail from now on.
func (s *sim) lose(of **rand.Rand, r *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*of = r
}
