package prober

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// ProcessorTime returns a function that tells how long the processes of this host
// called name have run on a processor, or waited for one, since they began: the
// sum over their threads. A stopped process uses none and waits for none. The
// kernel counts a thread's waiting when it ends; of a process with many threads
// one is dealt a processor now and then, however crowded the host is. It fails
// where no process has the name, or the kernel does not count (CONFIG_SCHED_INFO;
// /proc/PID/task/TID/schedstat, see sched-stats in the kernel's documentation).
// Not for use by several at once.
func ProcessorTime(name string) func() (time.Duration, error) {
	var pids []string // as of the last look at all processes
	return func() (time.Duration, error) {
		pids = slices.DeleteFunc(pids, func(pid string) bool { return !called(pid, name) })
		if len(pids) == 0 {
			all, err := entries("/proc")
			if err != nil {
				return 0, err
			}
			pids = slices.DeleteFunc(all, func(pid string) bool { return !called(pid, name) })
		}
		var sum time.Duration
		found := false
		for _, pid := range pids {
			tasks, _ := entries("/proc/" + pid + "/task") // it may have ended
			for _, tid := range tasks {
				file := "/proc/" + pid + "/task/" + tid + "/schedstat"
				b, err := os.ReadFile(file)
				if err != nil {
					continue
				}
				used, err := schedstat(b)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", file, err)
				}
				found = true
				sum += used
			}
		}
		if !found {
			return 0, fmt.Errorf("no process %s, or nothing of it is counted", name)
		}
		return sum, nil
	}
}

// called reports whether the process, if pid is one, has the name.
func called(pid, name string) bool {
	if pid[0] < '0' || pid[0] > '9' {
		return false
	}
	b, err := os.ReadFile("/proc/" + pid + "/comm")
	return err == nil && string(bytes.TrimSpace(b)) == name
}

// entries are the names in a folder. Nothing is asked about each of them, which
// in /proc costs more than everything else.
func entries(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
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
	tried   time.Time // when it was last looked at, be it in vain
	samples []sample  // of the last span
}

type sample struct {
	at   time.Time
	used time.Duration
}

// note takes a sample, unless it tried to less than a tenth of span ago. What
// cannot be read is no work.
func (w *work) note(now time.Time, span time.Duration, processorTime func() (time.Duration, error)) {
	if now.Sub(w.tried) < span/10 {
		return
	}
	w.tried = now
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
