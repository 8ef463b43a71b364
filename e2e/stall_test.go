//go:build e2e

package e2e

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stalls knows when this machine stood still. On each processor a thread of real-time
// priority, as a host's keepalived has it, sleeps for 20 ms, over and over: where it
// wakes a quarter of a second late or more, adverts were late there, too, whatever the
// hosts did. It is what tells a machine that pauses from a product that is late.
var stalls stallMeter

const noStall = 250 * time.Millisecond

type stallMeter struct {
	mu   sync.Mutex
	seen []stall
}

type stall struct{ from, to time.Time }

// run begins to measure, until the process ends.
func (m *stallMeter) run() {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		panic(err) // the system call is there on every Linux
	}
	for cpu := range 1024 {
		if may.IsSet(cpu) {
			go m.watch(cpu)
		}
	}
}

func (m *stallMeter) watch(cpu int) {
	runtime.LockOSThread()
	var one unix.CPUSet
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return // a processor that went away
	}
	// Where the priority is refused it would find every crowded processor.
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
		fmt.Println("e2e: that this machine stands still is not noticed:", err)
		return
	}
	const step = 20 * time.Millisecond
	for {
		from := time.Now()
		ts := unix.NsecToTimespec(step.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil)
		if to := time.Now(); to.Sub(from) >= noStall {
			m.mu.Lock()
			m.seen = append(m.seen, stall{from, to})
			m.mu.Unlock()
		}
	}
}

// longest is how long this machine stood still at most, of the times that reach into
// that span; 0: it did not.
func (m *stallMeter) longest(t *testing.T, from, to time.Time) time.Duration {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var most time.Duration
	for _, s := range m.seen {
		if s.from.Before(to) && s.to.After(from) {
			most = max(most, s.to.Sub(s.from))
		}
	}
	if most > 0 {
		t.Logf("this machine stood still for %s between %s and %s", most.Round(time.Millisecond), from.Format(time.TimeOnly), to.Format(time.TimeOnly))
	}
	return most
}

// summary is such as "3 times in 40m0s, for 612ms at most".
func (m *stallMeter) summary(begun time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var most time.Duration
	for _, s := range m.seen {
		most = max(most, s.to.Sub(s.from))
	}
	return fmt.Sprintf("%d times in %s, for %s at most", len(m.seen), time.Since(begun).Round(time.Minute), most.Round(time.Millisecond))
}

// A stall counts for each span that it reaches into.
func TestStalls(t *testing.T) {
	var m stallMeter
	begin := time.Now()
	m.seen = []stall{{begin.Add(time.Second), begin.Add(1300 * time.Millisecond)}}
	for _, c := range []struct {
		from, to, want time.Duration
	}{
		{0, 500 * time.Millisecond, 0}, {0, 1100 * time.Millisecond, 300 * time.Millisecond},
		{1200 * time.Millisecond, 5 * time.Second, 300 * time.Millisecond}, {1400 * time.Millisecond, 5 * time.Second, 0},
	} {
		if got := m.longest(t, begin.Add(c.from), begin.Add(c.to)); got != c.want {
			t.Errorf("from %s to %s: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}
