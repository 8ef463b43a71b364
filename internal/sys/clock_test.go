package sys

import (
	"testing"
	"time"
)

func TestTimeOfAHostIsRead(t *testing.T) {
	t.Parallel()
	before := time.Now()
	if at, err := ask(t, Clock()); err != nil || Ahead(at, before, time.Now()) != 0 {
		t.Errorf("%s, %v", at, err)
	}
	for answer, want := range map[string]time.Time{"1700000000.000000001\n": time.Unix(1700000000, 1), "0.250000000": time.Unix(0, 250e6)} {
		if got, err := Clock().Parse(answer); err != nil || !got.Equal(want) {
			t.Errorf("%q: %s, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "1700000000", "1700000000.%N", "1700000000.25000000", "1700000000.1234567890", "-1.000000000", "x.000000000", "1700000000.-00000001", "17000000000.000000000", "1.000000000 1"} {
		if got, err := Clock().Parse(answer); err == nil {
			t.Errorf("%q gives %s", answer, got)
		}
	}
}

func TestClockIsComparedWithBothEndsOfTheQuestion(t *testing.T) {
	t.Parallel()
	zero := time.Unix(1700000000, 0)
	for at, want := range map[time.Duration]time.Duration{-time.Hour: -time.Hour, 0: 0, time.Second: 0, time.Hour: time.Hour - time.Second} {
		if got := Ahead(zero.Add(at), zero, zero.Add(time.Second)); got != want {
			t.Errorf("%s: %s", at, got)
		}
	}
}
