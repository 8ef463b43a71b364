package prober

import (
	"errors"
	"testing"
	"time"
)

func TestAHostWithoutAMajorityIsBackOnlyAfterAWhile(t *testing.T) {
	p := New(Config{Peers: []string{"a", "b"}, Rise: 1, Slow: time.Hour})
	now := time.Unix(1000, 0)
	answers := func(n int) {
		for i, peer := range p.peers {
			var err error
			if i >= n {
				err = errors.New("no answer")
			}
			peer.judge(err)
		}
	}
	for _, step := range []struct {
		what    string
		answers int
		after   time.Duration
		want    int
	}{
		{"cut off", 0, 0, 1},
		{"one of two peers answers again", 1, 0, 1},
		{"not for long enough", 1, settle - time.Millisecond, 1},
		{"for long enough", 1, time.Millisecond, 0},
		{"both answer", 2, time.Second, 0},
		{"cut off again", 0, time.Millisecond, 1},
		{"back again, too short", 2, settle / 2, 1},
		{"gone in between: counted anew", 0, settle, 1},
		{"back", 2, 0, 1},
		{"back for long enough", 2, settle, 0},
	} {
		now = now.Add(step.after)
		answers(step.answers)
		if got := p.minority(now); got != step.want {
			t.Errorf("%s: %d, want %d", step.what, got, step.want)
		}
	}
}
