package cmd

import (
	"testing"

	"hactl/internal/plan"
	"hactl/internal/verify"
)

func TestStatusCodePutsBadBeforeUnknown(t *testing.T) {
	for want, states := range map[int][]verify.State{
		ExitOK: {verify.OK, verify.OK}, ExitUnknown: {verify.OK, verify.Unknown},
		ExitUnhealthy: {verify.Unknown, verify.Bad, verify.OK},
	} {
		rep := &verify.Report{}
		for _, s := range states {
			rep.Checks = append(rep.Checks, verify.Check{State: s})
		}
		if got := codeOf(statusCode(rep)); got != want {
			t.Errorf("%v: %d, want %d", states, got, want)
		}
	}
}

func TestGuardRefusalExitsAsUnsafe(t *testing.T) {
	err := &plan.StepError{ID: "etcd/master-1/service", Err: &plan.GuardError{Err: plan.ErrChanged}}
	if got := codeOf(err); got != ExitUnsafe {
		t.Errorf("%d", got)
	}
}
