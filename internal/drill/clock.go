package drill

import (
	"context"
	"runtime"
	"time"
)

// clockFunc tells when this process stood still, until ctx ends.
type clockFunc func(ctx context.Context, zero time.Time, stalled func(Span))

// clock is the cluster's, or this process's own.
func (c *Cluster) clock() clockFunc {
	if c.ownClock != nil {
		return c.ownClock
	}
	return watchClock
}

// The clock wakes up every tick. One that it wakes up late by more than late was a
// stall: shorter ones are below what requests can tell.
const (
	tick = 5 * time.Millisecond
	late = 15 * time.Millisecond
)

// watchClock sleeps on a thread of its own and looks how late it wakes up.
func watchClock(ctx context.Context, zero time.Time, stalled func(Span)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for ctx.Err() == nil {
		due := time.Now().Add(tick)
		time.Sleep(tick)
		if now := time.Now(); now.Sub(due) > late {
			stalled(Span{due.Sub(zero), now.Sub(zero)})
		}
	}
}
