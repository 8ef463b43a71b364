package cmd

import (
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/verify"
)

func TestStatusCodePutsBadBeforeUnknown(t *testing.T) {
	for want, states := range map[int][]verify.State{
		exitcode.OK: {verify.OK, verify.OK}, exitcode.Unknown: {verify.OK, verify.Unknown},
		exitcode.Unhealthy: {verify.Unknown, verify.Bad, verify.OK},
	} {
		rep := &verify.Report{}
		for _, s := range states {
			rep.Checks = append(rep.Checks, verify.Check{State: s})
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
