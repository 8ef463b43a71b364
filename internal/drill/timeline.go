package drill

import (
	"sync"
	"time"
)

// timeline is when what happened in a run, counted from its start. What its phases and
// watches write is read beside them.
type timeline struct {
	zero time.Time
	wg   sync.WaitGroup // the watches

	mu        sync.Mutex
	fault     time.Duration
	proved    time.Duration
	undoBegan time.Duration
	undone    time.Duration
	healed    time.Duration
	end       time.Duration
	found     map[string]time.Duration // by check: when what it waits for was there
	blind     map[string]error         // by master: its watch of the VIP was lost
	stalls    []Span                   // this process stood still
}

func newTimeline() timeline {
	return timeline{zero: time.Now(), found: map[string]time.Duration{}, blind: map[string]error{}}
}

// mark notes the time of something once.
func (t *timeline) mark(at *time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*at = time.Since(t.zero)
}

// find notes when what a check waits for was there.
func (t *timeline) find(check string, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault > 0 && at >= t.fault {
		t.found[check] = at
	}
}

// stalled notes that this process stood still.
func (t *timeline) stalled(s Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stalls = append(t.stalls, s)
}
