package prober

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ProcessorTime is how long the processes of this host called name have run on a
// processor, or waited for one, since they began: the sum over their threads.
// A stopped process uses none and waits for none; one on a crowded host waits. It
// fails where no process has the name, or the kernel does not count
// (CONFIG_SCHED_INFO; /proc/PID/task/TID/schedstat, see sched-stats in the
// kernel's documentation).
func ProcessorTime(name string) (time.Duration, error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	found := false
	for _, comm := range comms {
		b, err := os.ReadFile(comm)
		if err != nil || string(bytes.TrimSpace(b)) != name {
			continue
		}
		threads, err := filepath.Glob(filepath.Join(filepath.Dir(comm), "task/[0-9]*/schedstat"))
		if err != nil {
			return 0, err
		}
		for _, thread := range threads {
			b, err := os.ReadFile(thread)
			if err != nil {
				continue // it has ended
			}
			used, err := schedstat(b)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", thread, err)
			}
			found = true
			sum += used
		}
	}
	if !found {
		return 0, fmt.Errorf("no process %s", name)
	}
	return sum, nil
}

// schedstat adds the time on a processor and the time waiting for one, the first
// two of its three fields, in nanoseconds.
func schedstat(b []byte) (time.Duration, error) {
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%q is no schedstat", b)
	}
	var sum time.Duration
	for _, f := range fields[:2] {
		ns, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// An owner's apiserver that is silent but at work keeps the address for busyFor
// times Slow: what makes it late passes, and a move would end every connection
// and send all of them to the next one at once. It is at work when it runs, or
// waits to, for busyShare of a processor or more.
const (
	busyFor   = 5
	busyShare = 0.25
)

// work is what an apiserver has done of late. Not for use by several at once.
type work struct {
	samples []sample // of the last span
}

type sample struct {
	at   time.Time
	used time.Duration
}

// note takes a sample, unless the last one is younger than a tenth of span. What
// cannot be read is no work.
func (w *work) note(now time.Time, span time.Duration, processorTime func() (time.Duration, error)) {
	if n := len(w.samples); n > 0 && now.Sub(w.samples[n-1].at) < span/10 {
		return
	}
	used, err := processorTime()
	if err != nil {
		w.samples = nil
		return
	}
	w.samples = append(w.samples, sample{now, used})
	for len(w.samples) > 2 && now.Sub(w.samples[1].at) >= span {
		w.samples = w.samples[1:]
	}
}

// busy reports whether it was at work over the samples; with less than a quarter
// of span between the first and the last nobody knows, and that is a no.
func (w *work) busy(span time.Duration) bool {
	if len(w.samples) < 2 {
		return false
	}
	first, last := w.samples[0], w.samples[len(w.samples)-1]
	over := last.at.Sub(first.at)
	return over >= span/4 && float64(last.used-first.used) >= busyShare*float64(over)
}
