package drill

import (
	"slices"
	"sync"
	"time"
)

// holderLog records which hosts hold something (the VIP, etcd's leadership) when.
type holderLog struct {
	mu    sync.Mutex
	now   map[string]bool
	spans map[string][]Span // closed ones; an open one ends at open
	since map[string]time.Duration
	last  map[string]time.Duration // time of the latest change
	heard map[string]bool          // hosts that were reported on
}

func newHolderLog() *holderLog {
	return &holderLog{now: map[string]bool{}, spans: map[string][]Span{}, since: map[string]time.Duration{}, last: map[string]time.Duration{}, heard: map[string]bool{}}
}

// set notes that from at on host holds it or does not. Reports that change
// nothing, or that are older than what is known, are dropped.
func (l *holderLog) set(host string, at time.Duration, holds bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at = max(at, 0)
	l.heard[host] = true
	if l.now[host] == holds || at < l.last[host] {
		return
	}
	l.last[host] = at
	if holds {
		l.now[host], l.since[host] = true, at
		return
	}
	l.now[host] = false
	l.spans[host] = append(l.spans[host], Span{l.since[host], at})
}

// hears reports whether there was a report on the host.
func (l *holderLog) hears(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[host]
}

// until returns all spans by host, open ones ending at end.
func (l *holderLog) until(end time.Duration) map[string][]Span {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string][]Span{}
	for host, s := range l.spans {
		out[host] = slices.Clone(s)
	}
	for host, holds := range l.now {
		if holds {
			out[host] = append(out[host], Span{l.since[host], max(end, l.since[host])})
		}
	}
	return out
}

// holders returns the hosts that hold it now, sorted.
func (l *holderLog) holders() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for host, holds := range l.now {
		if holds {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return out
}

// longest is the longest stretch in [from, to] in which the number of holders
// satisfies want.
func longest(spans map[string][]Span, from, to time.Duration, want func(n int) bool) Span {
	edges := []time.Duration{from, to}
	for _, ss := range spans {
		for _, s := range ss {
			edges = append(edges, min(max(s.From, from), to), min(max(s.To, from), to))
		}
	}
	slices.Sort(edges)
	worst, run := Span{from, from}, Span{from, from}
	for i := 1; i < len(edges); i++ {
		if edges[i] == edges[i-1] {
			continue
		}
		if !want(holdersAt(spans, edges[i-1])) {
			run = Span{edges[i], edges[i]}
			continue
		}
		run.To = edges[i]
		if run.Len() > worst.Len() {
			worst = run
		}
	}
	return worst
}

func holdersAt(spans map[string][]Span, at time.Duration) int {
	n := 0
	for _, ss := range spans {
		if slices.ContainsFunc(ss, func(s Span) bool { return s.From <= at && at < s.To }) {
			n++
		}
	}
	return n
}

// moves are the times in [from, to] at which another host began to hold it.
func moves(spans map[string][]Span, from, to time.Duration) []time.Duration {
	var out []time.Duration
	for _, ss := range spans {
		for _, s := range ss {
			if s.From > from && s.From <= to {
				out = append(out, s.From)
			}
		}
	}
	return out
}

// lastHolderLost reports whether the host that took over last before from did not hold
// without a break until to. A host that was cut off does not report, and counts as holding.
func lastHolderLost(spans map[string][]Span, from, to time.Duration) bool {
	var last Span
	for _, ss := range spans {
		for _, s := range ss {
			if s.From <= from && s.To > from && s.From >= last.From {
				last = s
			}
		}
	}
	return last.To < to
}
