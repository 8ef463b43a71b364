package ops

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// connectedBut is a session with all hosts of the inventory but those that are down.
func connectedBut(inv *inventory.Inventory, down ...string) *session {
	s := &session{inv: inv, hosts: plan.Hosts{}, down: map[string]error{}}
	for _, h := range inv.Hosts {
		if slices.Contains(down, h.Name) {
			s.down[h.Name] = &remote.UnreachableError{Host: h.Name, Op: "dial", Err: errors.New("no key")}
		} else {
			s.hosts[h.Name] = lockless{name: h.Name}
		}
	}
	return s
}

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
		err := connectedBut(inv, c.down...).everyHost("up", c.skip)
		hint := remote.HintOf(err)
		if got := strings.HasSuffix(hint, "hactl up --skip "+strings.Join(c.down, ",")); exitcode.Of(err) != c.code || got != c.proposed || (hint != "") != c.proposed {
			t.Errorf("%s: code %d, want %d; hint %q, skipping has to be proposed: %v", name, exitcode.Of(err), c.code, hint, c.proposed)
		}
	}
}

// A verb that brings a quorum back goes on without any host that is named as dead, and
// its hint has the flag that it knows.
func TestHostsThatAreDeadAreNamed(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	for name, c := range map[string]struct {
		down, dead []string
		code       int
		hint       string
	}{
		"all there":          {code: exitcode.OK},
		"one is gone":        {down: []string{"master-2"}, code: exitcode.Unknown, hint: "hactl restore --dead master-2"},
		"another one is too": {down: []string{"master-2", "worker-1"}, dead: []string{"worker-1"}, code: exitcode.Unknown, hint: "hactl restore --dead worker-1,master-2"},
		"two are named":      {down: []string{"master-2", "master-3"}, dead: []string{"master-2", "master-3"}, code: exitcode.OK},
		"all masters":        {down: []string{"master-1", "master-2", "master-3"}, dead: []string{"master-1", "master-2", "master-3"}, code: exitcode.Unknown},
	} {
		err := connectedBut(inv, c.down...).everyHostOrDead("restore", c.dead)
		if hint := remote.HintOf(err); exitcode.Of(err) != c.code || !strings.HasSuffix(hint, c.hint) || (hint == "") != (c.hint == "") {
			t.Errorf("%s: code %d, want %d; hint %q, want %q", name, exitcode.Of(err), c.code, hint, c.hint)
		}
	}
}

// Of hosts that are named for a reset, none can be skipped; of all, some can.
func TestResetNamesWhatToDoAboutAHostThatDoesNotAnswer(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	for name, c := range map[string]struct {
		o    ResetOptions
		hint string
	}{
		"all":         {ResetOptions{All: true}, "go on without: hactl reset --all --skip master-2"},
		"named":       {ResetOptions{Hosts: []string{"master-2"}}, "or do not name it"},
		"another one": {ResetOptions{Hosts: []string{"worker-1"}}, ""},
		"all but it":  {ResetOptions{All: true, Options: Options{Skip: []string{"master-2"}}}, ""},
	} {
		err := c.o.reach(connectedBut(inv, "master-2"))
		if hint := remote.HintOf(err); !strings.HasSuffix(hint, c.hint) || (err == nil) != (c.hint == "") {
			t.Errorf("%s: %v, hint %q, want %q", name, err, hint, c.hint)
		}
	}
}
