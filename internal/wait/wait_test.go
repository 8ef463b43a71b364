package wait_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/wait"
)

func TestBoundsAreAsLongAsTheFactorSays(t *testing.T) {
	for factor, want := range map[int]time.Duration{-3: time.Second, 0: time.Second, 1: time.Second, 4: 4 * time.Second} {
		if got := wait.Bound(wait.Slow(t.Context(), factor), time.Second); got != want {
			t.Errorf("factor %d: a second is %s, want %s", factor, got, want)
		}
	}
	if got := wait.Bound(t.Context(), time.Second); got != time.Second {
		t.Errorf("without a factor a second is %s", got)
	}
}

func TestAWaitEndsAfterItsStretchedBoundAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := wait.Within(context.WithoutCancel(wait.Slow(t.Context(), 3)), "the kubelet", time.Minute)
		defer cancel()
		<-ctx.Done()
		if took := time.Since(start); took != 3*time.Minute {
			t.Errorf("the wait took %s", took)
		}
		err := wait.Over(ctx, errors.New("connection refused"))
		if got := err.Error(); got != "wait for the kubelet (3m0s): connection refused" {
			t.Errorf("the error is %q", got)
		}
		if !wait.RanOut(err) || !wait.RanOut(context.Cause(ctx)) || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Error("a wait that is over is not known as one")
		}
	})
}

func TestABoundThatAPersonGaveIsNotStretched(t *testing.T) {
	ctx, cancel := wait.Exactly(wait.Slow(t.Context(), 20), "pods to leave", time.Hour)
	defer cancel()
	if end, _ := ctx.Deadline(); time.Until(end) > time.Hour {
		t.Errorf("the wait ends in %s", time.Until(end))
	}
}

func TestScriptsMultiplyByTheirEnvironment(t *testing.T) {
	for env, want := range map[string]string{"": "30 30", wait.Env + "=1": "30 30", wait.Env + "=4": "120 120"} {
		c := exec.CommandContext(t.Context(), "sh", "-c", "echo "+wait.Times(30)+" $((30*"+wait.Shell+"))")
		c.Env = []string{env}
		out, err := c.Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("with %q a script gets %q, %v; want %s", env, out, err, want)
		}
	}
}

func TestAProgramOnAHostReadsTheFactor(t *testing.T) {
	for text, want := range map[string]int{"": 1, "x": 1, "-1": 1, "4": 4, "900": 20} {
		if got := wait.FromEnvironment(func(string) string { return text }); got != want {
			t.Errorf("%q is the factor %d, want %d", text, got, want)
		}
	}
}

func TestAScriptThatWaitedTooLongIsKnown(t *testing.T) {
	for text, want := range map[string]bool{
		"etcd did not start within 120 s": true, "not all set within 20 s: missing: 10.0.0.0/8": true,
		"no such file": false, "expires within 30 days": false,
	} {
		if wait.Said(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
