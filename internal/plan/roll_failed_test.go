package plan

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// A host whose step fails is put back and into service again, and no other is begun.
func TestHostWhoseStepFailsIsPutBackAndGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		st := r.stage()
		roll := st[0].Roll
		roll.PutBackFailed = true
		roll.Gate.Look = func(context.Context, []string) error { return nil } // a cordoned host serves
		for i := range roll.Steps {
			if s := &roll.Steps[i]; s.ID == "m3/restart" {
				s.Ready = func(context.Context, Env) error { return errors.New("it does not come up: no such flag") }
			}
		}
		_, err := mustMake(t, st, r.hosts()).Apply(t.Context(), r.hosts(), Discard, nil)
		var h *HostError
		if !errors.As(err, &h) || h.Host != "m3" || h.ExitCode() != 5 || !slices.Equal(h.Done, []string{"m2"}) || !slices.Equal(h.Left, []string{"m1"}) {
			t.Fatalf("%v", err)
		}
		if !strings.Contains(err.Error(), "no such flag; m3 was put back, and the cluster is as it was; done: m2; not begun: m1") {
			t.Error(err)
		}
		if *r.nodes["m3"] != (node{file: 1, runs: 1}) || r.nodes["m1"].file != 1 {
			t.Errorf("m3 %+v, m1 %+v: %v", r.nodes["m3"], r.nodes["m1"], r.log)
		}
	})
}

// What was refused before it was begun is not made undone: only the file that was written
// before goes back.
func TestHostWhoseGuardRefusesGetsItsFileBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		st := r.stage()
		roll := st[0].Roll
		roll.PutBackFailed = true
		roll.Gate.Look = func(context.Context, []string) error { return nil }
		for i := range roll.Steps {
			if s := &roll.Steps[i]; s.ID == "m2/restart" {
				s.Guard = func(context.Context, Env) error { return errors.New("no quorum without it") }
			}
		}
		_, err := mustMake(t, st, r.hosts()).Apply(t.Context(), r.hosts(), Discard, nil)
		var h *HostError
		if !errors.As(err, &h) || h.ExitCode() != 7 || *r.nodes["m2"] != (node{file: 1, runs: 1}) || slices.Contains(r.log, "back m2/restart") {
			t.Errorf("%v: %v", err, r.log)
		}
	})
}

// A run ends after as many turns as were asked for.
func TestRollEndsWhereItIsAskedTo(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		st := r.stage()
		st[0].Roll.After = func(_ context.Context, hosts []string) error {
			if slices.Equal(hosts, []string{"m3"}) {
				return ErrEnough
			}
			return nil
		}
		_, err := mustMake(t, st, r.hosts()).Apply(t.Context(), r.hosts(), Discard, nil)
		if !errors.Is(err, ErrEnough) || r.nodes["m3"].runs != 2 || r.nodes["m1"].runs != 1 {
			t.Errorf("%v: %v", err, r.log)
		}
	})
}

// Hosts of a batch are worked on side by side, and the gate looks after each batch.
func TestBatchIsSideBySide(t *testing.T) {
	bubble(t, func(t *testing.T, r *rolled) {
		both := make(chan struct{}, 2)
		var after [][]string
		roll := &Roll{
			Hosts: func(context.Context) ([]string, error) { return r.order, nil },
			Gate:  Gate{Within: 10 * time.Second, Look: r.look}, Batch: 2,
			After: func(_ context.Context, hosts []string) error { after = append(after, hosts); return nil },
		}
		for _, h := range r.order {
			roll.Steps = append(roll.Steps, Step{
				ID: ID(h + "/step"), Host: h, Title: "step",
				Check: func(context.Context, Env) (*Change, error) {
					if r.nodes[h].runs == 2 {
						return nil, nil
					}
					return &Change{Op: Do, Summary: "step"}, nil
				},
				Apply: func(context.Context, Env, *Change) error {
					r.nodes[h].runs = 2
					if h == r.order[2] { // alone
						return nil
					}
					both <- struct{}{}
					for range 1000 {
						if len(both) == 2 {
							return nil
						}
						time.Sleep(time.Millisecond)
					}
					return errors.New("the other host is not worked on")
				},
			})
		}
		_, err := mustMake(t, []Stage{{Name: "roll", Roll: roll}}, r.hosts()).Apply(t.Context(), r.hosts(), Discard, nil)
		if err != nil || len(after) != 2 || len(after[0]) != 2 || len(after[1]) != 1 {
			t.Errorf("%v: %v", after, err)
		}
	})
}
