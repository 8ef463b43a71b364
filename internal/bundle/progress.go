package bundle

import (
	"fmt"
	"sync"
	"time"
)

// State is where the making of one artifact stands.
type State string

// The states of an artifact while a bundle is filled.
const (
	Started State = "started"
	Running State = "running" // every second while it is at work
	Done    State = "done"
	Kept    State = "kept"    // was there already, hash checked
	Waiting State = "waiting" // for another hactl that fills the same folder
)

// Event is one piece of progress. Callbacks get one at a time.
type Event struct {
	Name     string // of the artifact
	N, Total int    // "3 of 18"
	State    State
	Elapsed  time.Duration // on this artifact
	Size     int64         // bytes, once done
	Detail   string        // last line of the tool at work, bytes fetched; may be empty
}

// String is the event as one plain line.
func (e Event) String() string {
	s := fmt.Sprintf("%2d/%d %s", e.N, e.Total, e.Name)
	switch e.State {
	case Started:
	case Done:
		s += fmt.Sprintf(": done in %s, %.1f MB", e.Elapsed.Round(100*time.Millisecond), float64(e.Size)/1e6)
	case Kept:
		s += ": already there"
	case Running, Waiting:
		s += fmt.Sprintf(": %s, %s", e.State, e.Elapsed.Round(time.Second))
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

// heartbeat is the time between two reports on an artifact at work.
const heartbeat = time.Second

// watch reports one artifact while it is made. The note function that it
// returns is called with news from any goroutine; stop ends the heartbeat.
func watch(e Event, report func(Event)) (note func(string), stop func()) {
	start, done := time.Now(), make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	report(e)
	wg.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			mu.Lock()
			now := e
			mu.Unlock()
			now.State, now.Elapsed = Running, time.Since(start)
			report(now)
		}
	})
	note = func(s string) {
		mu.Lock()
		defer mu.Unlock()
		e.Detail = s
	}
	return note, func() { close(done); wg.Wait() }
}
