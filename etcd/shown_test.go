package etcd

import (
	"errors"
	"slices"
	"testing"

	"hactl/internal/plan"
)

// What the plan showed of a member is what is done: the steps are looked at again
// when their turn comes.
func TestMemberThatChangedSinceThePlanIsLeftAlone(t *testing.T) {
	t.Parallel()
	emptied := lost["stopped, the disk replaced"]
	for name, c := range map[string]struct {
		before, between func(*testing.T, *joinWorld)
		refused         bool
	}{
		"nothing changed": {before: emptied, between: func(*testing.T, *joinWorld) {}},
		"the stale member was removed by hand": {before: emptied, between: func(_ *testing.T, w *joinWorld) {
			w.f.set(func() {
				w.f.members = slices.DeleteFunc(w.f.members, func(m *fakeMember) bool { return m.entry.Name == "m3" })
			})
		}},
		"the stale member is another one": {before: emptied, refused: true, between: func(_ *testing.T, w *joinWorld) {
			w.f.set(func() { w.f.at("m3").entry.ID = 9 })
		}},
		"a stale member where none was": {refused: true,
			before: func(t *testing.T, w *joinWorld) {
				t.Helper()
				emptied(t, w)
				w.f.set(func() { w.f.at("m3").entry.Name = "" })
			},
			between: func(_ *testing.T, w *joinWorld) { w.f.set(func() { w.f.third.entry.Name = "m3" }) }},
		"remains of a member": {before: emptied, refused: true, between: func(t *testing.T, w *joinWorld) {
			t.Helper()
			w.h.disk.Write("/data/member/snap/db", "", 0o644)
		}},
		"the quorum of another cluster": {refused: true,
			before: func(t *testing.T, w *joinWorld) { t.Helper(); w.h.gone(t, establishedFile) },
			between: func(t *testing.T, w *joinWorld) {
				t.Helper()
				w.h.disk.Write(establishedFile, "another-cluster\n", 0o644)
			}},
		"a quorum that was noted meanwhile": {
			before: func(t *testing.T, w *joinWorld) { t.Helper(); w.h.gone(t, establishedFile) },
			between: func(t *testing.T, w *joinWorld) {
				t.Helper()
				w.h.disk.Write(establishedFile, w.p.Token()+"\n", 0o644)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newJoinWorld(t)
			c.before(t, w)
			w.h.follow()
			p, hosts, err := w.plan(t)
			must(t, err)
			must(t, p.Err())
			if len(p.Pending()) == 0 {
				t.Fatal("nothing is pending: the world shows nothing")
			}
			c.between(t, w)
			_, err = p.Apply(t.Context(), hosts, plan.Discard, nil)
			if errors.Is(err, plan.ErrChanged) != c.refused || !c.refused && err != nil {
				t.Errorf("%v", err)
			}
			if c.refused && len(w.h.did) > 0 {
				t.Errorf("did %q", w.h.did)
			}
		})
	}
}

// The voter, the quorum file and the service of a member that is about to be added
// look in sync while its old process runs.
func TestStepsThatTheJoinMakesNecessaryAreShownAsThen(t *testing.T) {
	t.Parallel()
	w := newJoinWorld(t)
	lost["wiped while etcd runs"](t, w)
	w.h.follow()
	p, _, err := w.plan(t)
	must(t, err)
	var then []plan.ID
	for _, it := range p.Pending() {
		if it.Change.Then {
			then = append(then, it.Step.ID)
		}
	}
	if !slices.Equal(then, []plan.ID{"etcd/m3/service", "etcd/m3/quorum"}) {
		t.Errorf("%v", then)
	}
}
