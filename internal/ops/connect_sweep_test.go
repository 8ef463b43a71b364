//go:build sweep

package ops

import (
	"testing"

	"hactl/internal/remote"
)

// The call at which the process dies is counted over all hosts; it takes effect
// or not, as asked.
func TestSweepDiesAtTheCall(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		a, b := remote.NewFake("a", nil), remote.NewFake("b", nil)
		c := &callCounter{die: 2, after: after}
		var had []int
		c.kill = func() { had = append(had, len(a.Calls())+len(b.Calls())) }
		for _, h := range []*remote.Fake{a, b} {
			if err := (&dyingHost{Host: h, calls: c}).Put(t.Context(), remote.File{Path: "/x"}); err != nil {
				t.Fatal(err)
			}
		}
		want := 1
		if after {
			want = 2
		}
		if len(had) == 0 || had[0] != want {
			t.Errorf("after=%v: died with %v calls done, want %d", after, had, want)
		}
	}
	if _, ok := dieAtCall(func(string) string { return "7+" })(remote.NewFake("a", nil)).(*dyingHost); !ok {
		t.Error("the variable is not read")
	}
}
