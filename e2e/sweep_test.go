//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"hactl/internal/lab"
)

// TestSweepEveryCut brings bare hosts up once for every call that hactl makes,
// cut there: before the call and after it. It takes hours, so it runs only with
// HACTL_SWEEP=1; HACTL_SWEEP_FROM is the first call, HACTL_SWEEP_MASTERS (1)
// the number of masters.
func TestSweepEveryCut(t *testing.T) {
	if os.Getenv("HACTL_SWEEP") != "1" {
		t.Skip("runs with HACTL_SWEEP=1 (make sweep)")
	}
	masters, tried := sweepNumber(t, "HACTL_SWEEP_MASTERS", 1), 0
	defer func() { t.Logf("cut points tried: %d", tried) }()
	for n := sweepNumber(t, "HACTL_SWEEP_FROM", 1); ; n++ {
		reached := false
		for _, when := range []string{"", "+"} {
			at := strconv.Itoa(n) + when
			t.Run(sweepName(at), func(t *testing.T) {
				c := lab.Config{Name: named("sweep"), Masters: masters}
				if _, err := lab.Down(context.Background(), c.Name, ""); err != nil { // of a sweep that was ended
					t.Fatal(err)
				}
				reached = newRig(t, c).cutOnce(t, at) || reached
			})
			tried++
		}
		switch {
		case t.Failed() && !reached:
			t.Fatalf("stopped at call %d", n)
		case !reached:
			t.Logf("a bring-up makes %d calls", n-1)
			return
		}
	}
}

func sweepNumber(t *testing.T, env string, otherwise int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatal(fmt.Errorf("%s=%q is not a number above 0", env, v))
	}
	return n
}
