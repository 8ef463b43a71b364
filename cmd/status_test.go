package cmd

import (
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/state"
)

func TestStatusCodePutsBadBeforeUnknown(t *testing.T) {
	for want, states := range map[int][]state.State{
		exitcode.OK: {state.OK, state.OK}, exitcode.Unknown: {state.OK, state.Unknown},
		exitcode.Unhealthy: {state.Unknown, state.Bad, state.OK},
	} {
		rep := &state.Report{}
		for _, s := range states {
			rep.Checks = append(rep.Checks, state.Check{State: s})
		}
		if got := exitcode.Of(statusCode(rep)); got != want {
			t.Errorf("%v: %d, want %d", states, got, want)
		}
	}
}

func TestGuardRefusalExitsAsUnsafe(t *testing.T) {
	err := &plan.StepError{ID: "etcd/master-1/service", Err: &plan.GuardError{Err: plan.ErrChanged}}
	if got := exitcode.Of(err); got != exitcode.Unsafe {
		t.Errorf("%d", got)
	}
}
