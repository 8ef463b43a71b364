package drill

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// seeds is how many seeds a test takes: n, or HACTL_DRILL_SEEDS.
func seeds(t *testing.T, n int) int {
	t.Helper()
	if more, err := strconv.Atoi(os.Getenv("HACTL_DRILL_SEEDS")); err == nil {
		return more
	}
	return n
}

// world is a cluster that exists as numbers only: the VIP goes from m1 to m2 at the
// fault, hosts and this process stand still now and then.
type world struct {
	*rand.Rand
	fault, end time.Duration
	outage     time.Duration // what the fault costs clients on a machine that never stands still
	late       bool          // the VIP is on m2 at once, and is not reached before the outage is over
	stalls     map[string][]Span
	echo       bool // the hosts have an echo
	pace       time.Duration
}

// newWorld has stalls of the whole machine, of hosts and of this process.
func newWorld(seed uint64, outage func(*rand.Rand) time.Duration) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 16)), fault: 2 * s1, stalls: map[string][]Span{}}
	w.end = w.fault + 3*s1
	w.outage, w.late, w.echo = outage(w.Rand), w.IntN(2) == 0, w.IntN(4) > 0
	w.pace = time.Duration(20+w.IntN(30)) * ms
	for range w.IntN(8) {
		s := w.stall()
		for _, host := range []string{"", "m2", "m3"} {
			w.stalls[host] = append(w.stalls[host], s)
		}
	}
	for _, host := range []string{"m2", "m3"} {
		for range w.IntN(4) {
			w.stalls[host] = append(w.stalls[host], w.stall())
		}
		w.stalls[host] = union(w.stalls[host])
	}
	w.stalls[""] = union(w.stalls[""])
	return w
}

func (w *world) stall() Span {
	at := time.Duration(w.Int64N(int64(w.end)))
	return Span{at, at + time.Duration(20+w.IntN(400))*ms}
}

// after is when something on the host that is due at a time happens.
func (w *world) after(host string, at time.Duration) time.Duration {
	for _, s := range w.stalls[host] {
		if s.From <= at && at < s.To {
			at = s.To
		}
	}
	return at
}

// passed is when the host has worked for d since from: it does nothing in a stall.
func (w *world) passed(host string, from, d time.Duration) time.Duration {
	for d > 0 {
		step := min(d, ms)
		if from += step; w.after(host, from) == from {
			d -= step
		}
	}
	return from
}

// sent is one request: when it is answered and whether in time.
func (w *world) sent(host string, at time.Duration, reached func(time.Duration) bool) Sample {
	start := w.after("", at)
	end := w.after("", w.after(host, start+time.Duration(1+w.IntN(4))*ms))
	if !reached(start) || end-start > s1 {
		return Sample{Start: start, End: start + s1}
	}
	return Sample{start, end, true}
}

func (w *world) track(name string, role Role, host string, pace time.Duration, reached func(time.Duration) bool) Track {
	t := Track{Name: name, Role: role, Host: host, Pace: pace}
	for at := time.Duration(w.Int64N(int64(pace))); at < w.end; at += pace {
		answering := host
		if host == "" {
			if answering = "m2"; at < w.fault {
				answering = "m3" // of m1 as of any other that is not hit
			}
		}
		t.Samples = append(t.Samples, w.sent(answering, at, reached))
	}
	slices.SortStableFunc(t.Samples, func(a, b Sample) int { return int(a.End - b.End) })
	return t
}

// observe is what a drill sees of it.
func (w *world) observe() *Observations {
	back := w.passed("m2", w.fault, w.outage)
	moved := back
	if w.late {
		moved = min(back, w.fault+50*ms)
	}
	always := func(time.Duration) bool { return true }
	o := &Observations{Fault: w.fault, Proved: w.fault + 50*ms, UndoBegan: w.end, Undone: w.end, Healed: w.end, End: w.end, Deadline: s1,
		Stalls: w.stalls[""], Victims: []string{"m1"}, Owners: map[string][]Span{"m1": {{0, w.fault}}, "m2": {{moved, w.end}}}}
	o.Tracks = append(o.Tracks, w.track(vipReady, Judged, "", w.pace, func(at time.Duration) bool { return at < w.fault || at >= back }))
	for _, host := range []string{"m2", "m3"} {
		o.Tracks = append(o.Tracks, w.track(host+readyNew, Control, host, 2*w.pace, always))
		if w.echo {
			o.Tracks = append(o.Tracks, w.track(host+"/echo", Echo, host, 2*w.pace, always))
		}
	}
	return o
}

// Whatever hosts and this process do, a cluster within its bound has not missed it, and
// one that takes twice as long has not met it.
func TestNoiseMakesNoMissAndHidesNone(t *testing.T) {
	t.Parallel()
	const bound = 500 * ms
	check := gap(vipReady, bound)
	for name, c := range map[string]struct {
		outage func(*rand.Rand) time.Duration
		never  string
	}{
		"healthy": {func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(bound))) }, Missed},
		"broken":  {func(r *rand.Rand) time.Duration { return 2*bound + time.Duration(r.Int64N(int64(s1))) }, Met},
	} {
		const workers = 4
		n := seeds(t, 5000)
		for part := range workers {
			t.Run(fmt.Sprintf("%s %d", name, part+1), func(t *testing.T) {
				t.Parallel()
				verdicts := map[string]int{}
				for seed := part; seed < n; seed += workers {
					w := newWorld(uint64(seed), c.outage)
					v := check.judge(w.observe())
					verdicts[v.Verdict]++
					if v.Verdict == c.never {
						t.Errorf("seed %d: an outage of %v, late %t: %+v", seed, w.outage, w.late, v)
					}
				}
				t.Logf("%v", verdicts)
			})
		}
	}
}

// On a machine that never stands still nothing is unclear but what lies within the
// resolution of the bound.
func TestCalmMachineIsClear(t *testing.T) {
	t.Parallel()
	const bound = 500 * ms
	for seed := range 300 {
		w := newWorld(uint64(seed), func(r *rand.Rand) time.Duration { return time.Duration(r.Int64N(int64(2 * bound))) })
		clear(w.stalls)
		o := w.observe()
		v := gap(vipReady, bound).judge(o)
		res := 2 * o.resolution(o.track(vipReady))
		want := Unclear
		switch {
		case w.outage > bound+res:
			want = Missed
		case w.outage <= bound-res:
			want = Met
		}
		if v.Verdict != want && want != Unclear || v.Verdict == Met && w.outage > bound {
			t.Errorf("seed %d: an outage of %v: %+v", seed, w.outage, v)
		}
	}
}
