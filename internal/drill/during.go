package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hactl/internal/remote"
)

// DuringOptions are what the caller of [During] chooses. The zero value is good.
type DuringOptions struct {
	Interval time.Duration     // between two requests of a kind, 5ms to 1s; 0: calibrated, which takes six seconds
	Pace     *Pace             // what the calibration finds and goes by; nil: found anew
	Deadline time.Duration     // of one request; 0: a second
	Say      func(text string) // is told what is done before and after the operation; may be nil
}

// Pace is how much a request costs the busiest machine, as one calibration found it. The
// zero value is not found yet. The phases of one operation share a Pace, so that a run
// calibrates once and not before each of its phases.
type Pace struct {
	found bool
	unit  float64 // see [Drill]
}

// During calls operation while requests are sent, and measures what clients notice of
// it: new connections through the VIP that ask whether the apiserver is ready, read and
// write, and writes to etcd. Every acknowledged write is read back from every master
// and from etcd afterwards. No program runs on the hosts for it, but for the calibration.
//
// A nil Measurement means that the requests could not be started (the cluster answers
// none, say), and that operation was not called; the error tells why. Otherwise operation
// was called once, and the error is the one that it returned. When ctx has ended by then,
// writes are not read back. What was written is removed in any case.
func During(ctx context.Context, c *Cluster, o DuringOptions, operation func(context.Context) error) (*Measurement, error) {
	r, err := newOperation(ctx, c, o)
	if err != nil {
		return nil, notMeasured(err)
	}
	finish := r.begin(ctx)
	if err := r.warm(ctx); err != nil {
		finish()
		return nil, notMeasured(errors.Join(err, r.cleared(ctx)))
	}
	r.obs.say("measuring: a request every %d ms", r.opt.Interval.Milliseconds())
	r.mark(&r.fault)
	err = operation(ctx)
	r.mark(&r.undone)
	pause(ctx, r.opt.tail)
	finish()
	r.obs.say("measuring: reading %d writes back", r.ledger.count())
	m := measureOperation(r.observe())
	m.From, m.IntervalMS = r.from, millis(r.opt.Interval)
	for i, s := range r.traffic.Streams {
		if err := s.err(); err != nil {
			m.Streams[i].LastErr = err.Error()
		}
	}
	r.readBackTo(ctx, m)
	return m, err
}

func notMeasured(err error) error {
	return remote.Hint(fmt.Errorf("measure the operation: %w", err), "look at hactl status; without --measure it is done and nothing is measured")
}

// newOperation makes the run of an operation and what its requests need.
func newOperation(ctx context.Context, c *Cluster, o DuringOptions) (*runner, error) {
	opt := Options{Interval: o.Interval, Deadline: o.Deadline, Settle: 30 * time.Second}
	opt.fill()
	obs := Observer{Say: o.Say}
	d := &Drill{Cluster: c, Options: opt, operation: true}
	if opt.Interval == 0 {
		if err := d.keepPace(ctx, o.Pace, obs); err != nil {
			return nil, wrap("calibrate", err)
		}
	}
	r, err := newRunner(c, &opt, obs, Scenario{Name: "operation", Checks: usual(true)})
	if err != nil {
		return nil, err
	}
	r.operation, r.unit = true, d.unit
	if r.dial, r.from, err = c.route(ctx, nil); err != nil {
		return nil, err
	}
	if r.from != thisMachine {
		r.dial, r.from = c.throughAny(), "through ssh to the hosts"
	}
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	r.zero = time.Now()
	r.buildTraffic()
	return r, nil
}

// keepPace takes the pace that was found before, or calibrates and notes what it finds.
func (d *Drill) keepPace(ctx context.Context, p *Pace, obs Observer) error {
	if p != nil && p.found {
		d.unit = p.unit
		return nil
	}
	obs.say("measuring: calibrating how often requests are sent")
	if _, err := d.calibrate(ctx); err != nil {
		return err
	}
	if p != nil {
		*p = Pace{found: true, unit: d.unit}
	}
	return nil
}

// readBackTo asks for all acknowledged writes and removes them.
func (r *runner) readBackTo(ctx context.Context, m *Measurement) {
	m.Acknowledged = r.ledger.count()
	note := func(err error) {
		if err != nil {
			m.Problems = append(m.Problems, err.Error())
		}
	}
	if ctx.Err() == nil {
		lost, err := r.ledger.readBack(ctx, r.c, r.dial)
		m.Lost, m.LostWrites, m.ReadBack = len(lost), lost, err == nil
		note(err)
	}
	note(r.cleared(ctx))
}

// cleared removes what was written, also when ctx has ended.
func (r *runner) cleared(ctx context.Context) error {
	ctx, cancel := lasting(ctx)
	defer cancel()
	return r.clear(ctx)
}
