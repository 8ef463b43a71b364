package ops

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// lockless is a host whose lock cannot be had.
type lockless struct {
	remote.Host
	name string
	err  error
}

func (h lockless) Name() string { return h.name }

func (h lockless) Hold(context.Context, string) (func(), error) { return nil, h.err }

// A host that falls silent as the lock is taken was not named.
func TestLockThatCannotBeTakenNamesTheHost(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
		code int
	}{
		"silent": {&remote.UnreachableError{Host: "worker-1", Op: "take the lock", Err: errors.New("no answer for 15s")}, "worker-1: take the lock: no answer for 15s", exitcode.Unknown},
		"held":   {&remote.LockedError{Host: "worker-1", Holder: "ann"}, "worker-1 is locked by ann", exitcode.Locked},
	} {
		t.Run(name, func(t *testing.T) {
			s := &session{inv: &inventory.Inventory{Hosts: []inventory.Host{{Name: "worker-1"}}},
				hosts: plan.Hosts{"worker-1": lockless{name: "worker-1", err: c.err}}}
			_, err := s.lock(t.Context(), "up")
			if err == nil || err.Error() != c.want || strings.Count(err.Error(), "worker-1") != 1 || exitcode.Of(err) != c.code {
				t.Errorf("error %v, code %d", err, exitcode.Of(err))
			}
		})
	}
}
