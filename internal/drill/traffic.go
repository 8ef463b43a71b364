package drill

import (
	"context"
	"slices"
	"sync"
	"time"
)

// probe sends one request; seq counts from 0 within its stream.
type probe func(ctx context.Context, seq int) error

// Sample is one request of a stream. Times count from the start of the run.
type Sample struct {
	Start, End time.Duration
	OK         bool
}

// Stream is a probe and what came of it. Requests are sent by the clock and
// never wait for one another: a slow one cannot hide a gap.
type Stream struct {
	Name  string
	probe probe
	role  Role
	host  string // that answers; "" for what has no fixed host
	every int    // intervals between two requests, at least 1
	cost  float64
	slots int  // requests that may wait for an answer at the same time
	must  bool // it has to flow before the fault

	mu      sync.Mutex
	samples []Sample
	lastErr error
}

// maxInFlight bounds the requests of one stream that wait for an answer; the
// next ones count as failed without being sent.
const maxInFlight = 200

// beside is how many times less often than the judged streams the controls are sent:
// the drill must not be the load that it measures, and a control that is asked too
// seldom does not see the stall that the judged streams see.
const beside = 2

// Traffic is the set of streams of one run.
type Traffic struct {
	Streams  []*Stream
	zero     time.Time
	interval time.Duration
	deadline time.Duration
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

func newTraffic(zero time.Time, interval, deadline time.Duration) *Traffic {
	return &Traffic{zero: zero, interval: interval, deadline: deadline}
}

// Costs of requests in processor time, of all hosts and this process together, relative to
// a question for readiness on a new connection. A write goes to every member of etcd.
const (
	costAsk   = 1
	costRead  = 1.2
	costWrite = 3
	costPut   = 2
	costKept  = 0.5 // of what the same takes on a new connection
	costEcho  = 0.2
)

// cost is the processor time of all requests of one interval, in costs.
func (t *Traffic) cost() float64 {
	sum := 0.0
	for _, s := range t.Streams {
		sum += s.cost / float64(s.every)
	}
	return sum
}

// add adds a stream that may be judged.
func (t *Traffic) add(name string, every int, cost float64, p probe) {
	t.Streams = append(t.Streams, &Stream{Name: name, probe: p, every: every, cost: cost, slots: maxInFlight, must: true})
}

// addKept adds a stream on one kept connection, which is reported and never judged.
// Requests on it would queue behind one another, so the next one is sent after the
// answer to the last: a gap between successes is seen all the same.
func (t *Traffic) addKept(name string, cost float64, p probe) {
	t.Streams = append(t.Streams, &Stream{Name: name, probe: p, every: seldom, cost: cost * costKept, slots: 1})
}

// addControl adds a stream to one host's apiserver.
func (t *Traffic) addControl(name, host string, p probe) {
	t.Streams = append(t.Streams, &Stream{Name: name, role: Control, host: host, probe: p, every: beside, cost: costAsk, slots: maxInFlight})
}

// addEcho adds a stream of answers of a host's sshd. Like those on a kept connection,
// they wait for one another.
func (t *Traffic) addEcho(name, host string, p probe) {
	t.Streams = append(t.Streams, &Stream{Name: name, role: Echo, host: host, probe: p, every: beside, cost: costEcho, slots: 1})
}

// start begins all streams, spread over one interval.
func (t *Traffic) start(ctx context.Context) {
	ctx, t.stop = context.WithCancel(ctx)
	for i, s := range t.Streams {
		first := t.interval * time.Duration(s.every*i) / time.Duration(len(t.Streams))
		t.wg.Go(func() {
			if pause(ctx, first) {
				t.tick(ctx, s)
			}
		})
	}
}

// finish ends the streams and waits for the requests on their way.
func (t *Traffic) finish() {
	if t.stop != nil {
		t.stop()
	}
	t.wg.Wait()
}

func (t *Traffic) tick(ctx context.Context, s *Stream) {
	ticker := time.NewTicker(t.interval * time.Duration(s.every))
	defer ticker.Stop()
	slots := make(chan struct{}, s.slots)
	var wg sync.WaitGroup
	defer wg.Wait()
	for seq := 0; ; seq++ {
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				t.request(ctx, s, seq)
				<-slots
			})
		default:
			if s.slots == 1 {
				break
			}
			now := time.Since(t.zero)
			s.record(Sample{Start: now, End: now}, context.DeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// request outlives the end of the traffic by its deadline, so that the last
// answers are counted as what they are.
func (t *Traffic) request(ctx context.Context, s *Stream, seq int) {
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.deadline)
	defer cancel()
	start := time.Since(t.zero)
	err := s.probe(ctx, seq)
	s.record(Sample{Start: start, End: time.Since(t.zero), OK: err == nil}, err)
}

func (s *Stream) record(x Sample, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, x)
	if err != nil {
		s.lastErr = err
	}
}

// Samples returns what is known by now, in the order in which it ended.
func (s *Stream) Samples() []Sample {
	s.mu.Lock()
	out := slices.Clone(s.samples)
	s.mu.Unlock()
	slices.SortStableFunc(out, func(a, b Sample) int { return int(a.End - b.End) })
	return out
}

// err returns the stream's latest error.
func (s *Stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// flowing reports whether the stream's latest request succeeded.
func (s *Stream) flowing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.samples) > 2 && s.samples[len(s.samples)-1].OK
}
