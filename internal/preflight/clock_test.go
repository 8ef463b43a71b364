package preflight

import (
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
)

// A host that was busy once is asked again; a line that is always slow stays one
// that tells nothing.
func TestRoughClockIsAskedAgain(t *testing.T) {
	const ahead = 3 * time.Second
	for name, c := range map[string]struct {
		took   []time.Duration // of each answer, half there and half back
		first  time.Duration   // error of the first measurement
		asked  int
		within time.Duration
	}{
		"good at once":         {nil, 200 * time.Millisecond, 0, 200 * time.Millisecond},
		"busy once":            {[]time.Duration{20 * time.Millisecond}, 600 * time.Millisecond, 1, 10 * time.Millisecond},
		"busy for a while":     {[]time.Duration{2 * time.Second, time.Second, 100 * time.Millisecond}, 600 * time.Millisecond, 3, 50 * time.Millisecond},
		"slow, and stays slow": {[]time.Duration{time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 0}, time.Second, 4, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				to := remote.NewFake("master-1", func(remote.Call) (*remote.Result, error) {
					took := c.took[asked]
					asked++
					time.Sleep(took / 2)
					at := systest.Clock(time.Now().Add(ahead))
					time.Sleep(took / 2)
					return &remote.Result{Stdout: []byte(at)}, nil
				})
				h := host{Facts: &facts.Facts{ClockError: time.Minute}, Probe: &probe{Clock: clock{Offset: ahead, Error: c.first}}}
				askTime(t.Context(), h, to)
				if k := h.clock(); asked != c.asked || k.Offset != ahead || k.Error != c.within {
					t.Errorf("asked %d times, now %v give or take %v", asked, k.Offset, k.Error)
				}
			})
		})
	}
}

func TestTimeThatIsNoneIsNotBelieved(t *testing.T) {
	to := remote.NewFake("master-1", func(remote.Call) (*remote.Result, error) {
		return &remote.Result{Stdout: []byte("1700000000.%N\n")}, nil
	})
	h := host{Facts: &facts.Facts{ClockError: time.Minute}, Probe: &probe{Clock: clock{Error: time.Second}}}
	if askTime(t.Context(), h, to); h.clock() != (clock{Error: time.Second}) {
		t.Errorf("%+v", h.clock())
	}
}
