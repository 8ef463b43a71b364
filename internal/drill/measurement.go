package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Measurement is what clients noticed of an operation. Requests are those through the
// VIP, each on a new connection, that were sent since the operation began and until two
// seconds after its end. Gaps are times without any success of one kind of them.
type Measurement struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// FailedByOperation of the failed ones are not explained by the machine: no two
	// apiservers or hosts that the operation did not touch at that moment were slow, and
	// this process did not stand still.
	FailedByOperation int     `json:"failed_by_operation"`
	GapMS             float64 `json:"largest_gap_ms"`
	// OperationGapMS is the largest that a gap is without the time in which the machine
	// was slow; 0 when none is longer than requests can tell.
	OperationGapMS float64  `json:"operation_gap_ms"`
	ResolutionMS   float64  `json:"resolution_ms"` // what requests can tell, at least
	Acknowledged   int      `json:"writes_acknowledged"`
	Lost           int      `json:"writes_lost"`
	LostWrites     []string `json:"lost,omitempty"`
	// ReadBack is false when a master or etcd could not be asked for the writes: Lost
	// is then what is missing where there was an answer.
	ReadBack   bool           `json:"read_back"`
	IntervalMS float64        `json:"interval_ms"`
	From       string         `json:"from"` // where the requests came from
	TookMS     float64        `json:"took_ms"`
	StoodMS    float64        `json:"machine_slow_ms"` // of it, the machine was slow or stood still
	Streams    []StreamReport `json:"streams"`
	Problems   []string       `json:"problems,omitempty"`
}

// String is the line that an operation ends with.
func (m *Measurement) String() string {
	failed := fmt.Sprintf("%d of %d requests failed", m.Failed, m.Requests)
	if m.Failed > 0 {
		failed += fmt.Sprintf(" (%d by the operation)", m.FailedByOperation)
	}
	gap := fmt.Sprintf("largest gap %.0f ms", m.GapMS)
	if m.GapMS > m.ResolutionMS {
		gap += fmt.Sprintf(" (%.0f by the operation)", m.OperationGapMS)
	}
	lost := fmt.Sprintf("%d lost", m.Lost)
	if !m.ReadBack {
		lost += ", not all read back"
	}
	return strings.Join([]string{failed, gap, fmt.Sprintf("%d writes acknowledged", m.Acknowledged), lost}, ", ")
}

// requests are the streams that a Measurement counts.
var requests = []string{vipReady, vipRead, vipWrite}

// measureOperation judges what was observed of an operation, from its begin (Fault) to
// the end. It is a pure function of the observations.
func measureOperation(o *Observations) *Measurement {
	o.Touched = touched(o)
	n := o.noise()
	machine := n.shared
	m := &Measurement{
		TookMS:  millis(o.Undone - o.Fault),
		StoodMS: millis(within(machine, Span{o.Fault, o.End})),
	}
	for i := range o.Tracks {
		t := &o.Tracks[i]
		m.Streams = append(m.Streams, o.streamReport(t, n, nil))
		if slices.Contains(requests, t.Name) {
			m.add(o, t, machine)
		}
	}
	return m
}

// add counts the requests of one stream.
func (m *Measurement) add(o *Observations, t *Track, machine []Span) {
	for _, s := range t.Samples {
		if s.Start < o.Fault || s.Start > o.End {
			continue
		}
		m.Requests++
		if s.OK {
			continue
		}
		m.Failed++
		if !o.timedOut(s) || within(machine, Span{s.Start, s.End}) < (s.End-s.Start)/2 {
			m.FailedByOperation++
		}
	}
	m.ResolutionMS = max(m.ResolutionMS, millis(o.resolution(t)))
	for _, g := range gaps(t.Samples, o.Fault, o.End, 0) {
		m.GapMS = max(m.GapMS, millis(g.Len()))
		if left := g.Len() - within(machine, g); left > o.resolution(t) {
			m.OperationGapMS = max(m.OperationGapMS, millis(left))
		}
	}
}

// timedOut reports whether a request failed for want of an answer. An error that comes
// at once is no sign of a slow machine.
func (o *Observations) timedOut(s Sample) bool { return !s.OK && s.End-s.Start >= o.Deadline*9/10 }

// rejoin is how long an apiserver that answers again is still taken as touched: it has
// just started.
const rejoin = time.Second

// touched is when the operation was at work on a host, by host: its apiserver or its sshd
// gave errors, or no answers. Only when no answer came from several hosts at the same
// time, it was the machine: an operation takes one host after the other.
func touched(o *Observations) map[string][]Span {
	errors, silent := map[string][]Span{}, map[string][]Span{}
	for i := range o.Tracks {
		t := &o.Tracks[i]
		if t.Host == "" {
			continue
		}
		for _, s := range t.Samples {
			if s.OK {
				continue
			}
			at := Span{s.Start - t.Pace, s.End + rejoin}
			if o.timedOut(s) {
				silent[t.Host] = append(silent[t.Host], at)
			} else {
				errors[t.Host] = append(errors[t.Host], at)
			}
		}
	}
	out := map[string][]Span{}
	for host := range silent {
		var others []Span
		for other, spans := range silent {
			if other != host {
				others = union(others, spans)
			}
		}
		for _, s := range union(silent[host]) {
			if within(others, s) < s.Len()/2 {
				out[host] = append(out[host], s)
			}
		}
	}
	for host, spans := range errors {
		out[host] = union(out[host], spans)
	}
	return out
}
