package ops

import (
	"errors"
	"slices"
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// Going on without a host takes a quorum of masters: where there is none, the
// hint would lead into a refusal.
func TestSkippingIsProposedOnlyWithAQuorum(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	for name, c := range map[string]struct {
		down, skip []string
		code       int
		proposed   bool
	}{
		"all there":              {code: exitcode.OK},
		"a worker is gone":       {down: []string{"worker-1"}, code: exitcode.Unknown, proposed: true},
		"a master is gone":       {down: []string{"master-1"}, code: exitcode.Unknown, proposed: true},
		"two masters are gone":   {down: []string{"master-1", "master-2"}, code: exitcode.Unknown},
		"one more than skipped":  {down: []string{"master-1", "worker-1"}, skip: []string{"master-1"}, code: exitcode.Unknown},
		"what is skipped":        {down: []string{"master-1"}, skip: []string{"master-1"}, code: exitcode.OK},
		"more than may be lost":  {down: []string{"master-1", "master-2"}, skip: []string{"master-1", "master-2"}, code: exitcode.Unsafe},
		"there although skipped": {skip: []string{"master-1"}, code: exitcode.OK},
	} {
		s := &session{inv: inv, hosts: plan.Hosts{}, down: map[string]error{}}
		for _, h := range inv.Hosts {
			if slices.Contains(c.down, h.Name) {
				s.down[h.Name] = &remote.UnreachableError{Host: h.Name, Op: "dial", Err: errors.New("no key")}
			} else {
				s.hosts[h.Name] = lockless{name: h.Name}
			}
		}
		err := s.everyHost("up", c.skip)
		if got := remote.HintOf(err) != ""; exitcode.Of(err) != c.code || got != c.proposed {
			t.Errorf("%s: code %d, want %d; skipping is proposed: %v, want %v", name, exitcode.Of(err), c.code, got, c.proposed)
		}
	}
}
