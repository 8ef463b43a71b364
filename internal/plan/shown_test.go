package plan

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/remote"
)

// turned makes a plan of the step, changes the world, and applies it. did is how
// often the step was applied.
func turned(t *testing.T, s Step, host remote.Host, between func()) (did int, err error) {
	t.Helper()
	apply := s.Apply
	s.Apply = func(ctx context.Context, env Env, c *Change) error {
		did++
		if apply == nil {
			return nil
		}
		return apply(ctx, env, c)
	}
	s.File = nil
	hosts := Hosts{s.Host: host}
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, hosts)
	between()
	_, err = p.Apply(t.Context(), hosts, Discard, nil)
	return did, err
}

func mustRefuse(t *testing.T, did int, err error) {
	t.Helper()
	if !errors.Is(err, ErrChanged) || remote.HintOf(err) == "" || did != 0 {
		t.Errorf("applied %d times, error %v, hint %q", did, err, remote.HintOf(err))
	}
}

func TestScriptWithAnotherAnswerThanWasShownIsNotRun(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	script := func(acts func(string) []string) Step {
		return Script{ID: "s", Host: "m1", Title: "thing", Look: "cat " + state, Summary: "make it", Run: "echo ok >" + state, Acts: acts}.Step()
	}
	for name, c := range map[string]struct {
		acts     func(string) []string
		was, is  string
		did      int
		refused  bool
		reasonIs string
	}{
		"the same":                     {was: "missing: a", is: "missing: a", did: 1},
		"in sync by now":               {was: "missing: a", is: "ok"},
		"another answer":               {was: "missing: a", is: "is 755 root", refused: true, reasonIs: `showed "make it (missing: a)", now it would be "make it (is 755 root)"`},
		"fewer of a list":              {acts: EachOf, was: "missing: a b", is: "missing: b", did: 1},
		"more of a list":               {acts: EachOf, was: "missing: b", is: "missing: a b", refused: true},
		"another value of a parameter": {acts: EachOf, was: "is: net.a=0, net.b=absent", is: "is: net.b=2", did: 1},
		"another parameter":            {acts: EachOf, was: "is: net.a=0", is: "is: net.c=0", refused: true},
		"no list any more":             {acts: EachOf, was: "missing: a", is: "not there", refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, state, c.was+"\n", 0o600)
			did, err := turned(t, script(c.acts), shell(t, "m1"), func() { write(t, state, c.is+"\n", 0o600) })
			if c.refused {
				mustRefuse(t, did, err)
				if !strings.Contains(err.Error(), c.reasonIs) {
					t.Error(err)
				}
				return
			}
			if err != nil || did != c.did {
				t.Errorf("applied %d times, %v", did, err)
			}
		})
	}
}

func TestFileOfAnotherKindThanWasShownIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]func(path string) error{
		"there by now":     {os.Remove, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }},
		"gone by now":      {func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, os.Remove},
		"rewritten by now": {func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) }, func(p string) error { return os.WriteFile(p, []byte("older"), 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, "", 0o600)
			if err := c[0](path); err != nil {
				t.Fatal(err)
			}
			did, err := turned(t, File{ID: "f", Host: "m1", Path: path, Content: []byte("ours"), Owner: me(t)}.Step(), shell(t, "m1"), func() {
				if err := c[1](path); err != nil {
					t.Fatal(err)
				}
			})
			mustRefuse(t, did, err)
		})
	}
}

func TestExecutableOverAnotherThanWasShownIsNotSent(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "prober")
	write(t, p, "older", 0o755)
	x := Executable{ID: "x", Host: "m1", Local: "/dev/null", SHA256: sum("program"), Path: p}
	did, err := turned(t, x.Step(), shell(t, "m1"), func() { write(t, p, "theirs", 0o755) })
	mustRefuse(t, did, err)
}

// unitStates are answers of systemctl show, as far as a service's check reads them.
var unitStates = map[string]string{
	"absent":     "LoadState=not-found\nActiveState=inactive\nUnitFileState=\nMainPID=0\n",
	"inactive":   "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nMainPID=0\n",
	"activating": "LoadState=loaded\nActiveState=activating\nUnitFileState=enabled\nMainPID=0\n",
	"disabled":   "LoadState=loaded\nActiveState=active\nUnitFileState=disabled\nMainPID=7\nHACTL_CONFIG=abc\n",
	"older":      "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=7\nHACTL_CONFIG=old\n",
	"other file": "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=7\nHACTL_CONFIG=abc\nNeedDaemonReload=yes\n",
	"gone":       "LoadState=not-found\nActiveState=active\nUnitFileState=\nMainPID=7\nHACTL_CONFIG=abc\n",
	"in sync":    "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=7\nHACTL_CONFIG=abc\n",
}

// A unit's files are written by steps before it, so the reason of a restart may be
// another at its turn. What is done may not be more.
func TestServiceDoesWhatWasShownOrLess(t *testing.T) {
	t.Parallel()
	for was, turns := range map[string]string{ // + done, = skipped, ! refused
		"absent":     "absent+ inactive+ activating! disabled+ older! other file! gone! in sync=",
		"inactive":   "absent+ inactive+ activating! disabled+ older! other file! gone! in sync=",
		"activating": "absent+ inactive+ activating+ disabled+ older+ other file+ gone+ in sync=",
		"disabled":   "absent! inactive! activating! disabled+ older! other file! gone! in sync=",
		"older":      "absent+ inactive+ activating+ disabled+ older+ other file+ gone+ in sync=",
		"other file": "absent+ inactive+ activating+ disabled+ older+ other file+ gone+ in sync=",
		"gone":       "absent+ inactive+ activating+ disabled+ older+ other file+ gone+ in sync=",
		"in sync":    "absent= inactive= activating= disabled= older= other file= gone= in sync=",
	} {
		t.Run(was, func(t *testing.T) {
			t.Parallel()
			for is := range unitStates {
				_, rest, _ := strings.Cut(" "+turns, " "+is)
				s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc"}
				state := unitStates[was]
				st := s.Step()
				st.Look, st.Ready = nil, nil
				st.Check = func(context.Context, Env) (*Change, error) { return answered(s.Step(), Answer{Out: state}) }
				st.Apply = func(context.Context, Env, *Change) error { state = unitStates["in sync"]; return nil }
				did, err := turned(t, st, remote.NewFake("m1", nil), func() { state = unitStates[is] })
				switch rest[:1] {
				case "!":
					mustRefuse(t, did, err)
				case "=":
					if did != 0 || err != nil {
						t.Errorf("%s at its turn: applied %d times, %v", is, did, err)
					}
				default:
					if did != 1 || err != nil {
						t.Errorf("%s at its turn: applied %d times, %v", is, did, err)
					}
				}
			}
		})
	}
}

// A step that sets nothing but Op and Summary is held to both.
func TestStepWithoutActsIsHeldToItsOpAndSummary(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]Change{
		"another op":      {Op: Delete, Summary: "make a"},
		"another summary": {Op: Do, Summary: "make a anew"},
		"another pin":     {Op: Do, Summary: "make a", Pin: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			now := &Change{Op: Do, Summary: "make a"}
			s := Step{ID: "a", Host: "m1", Title: "a", Check: func(context.Context, Env) (*Change, error) { return now, nil }}
			did, err := turned(t, s, remote.NewFake("m1", nil), func() { now = &is })
			mustRefuse(t, did, err)
		})
	}
}

func TestStepThatWasNotShownIsNotDone(t *testing.T) {
	t.Parallel()
	var now *Change
	s := Step{ID: "a", Host: "m1", Title: "a", Check: func(context.Context, Env) (*Change, error) { return now, nil }}
	if did, err := turned(t, s, remote.NewFake("m1", nil), func() { now = &Change{Op: Do} }); did != 0 || err != nil {
		t.Errorf("applied %d times, %v", did, err)
	}
}

// The second step is in sync until the first one runs: it is in the plan as "then".
func TestStepThatAnEarlierStepMakesNecessaryIsShownAsThen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after   *Change
		refused bool
	}{
		"what was shown":       {after: &Change{Op: Restart, Summary: "restart x: its file is another", Acts: []string{"restart"}}},
		"not necessary at all": {},
		"something else":       {after: &Change{Op: Delete, Summary: "remove x"}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			a, b := w.step("m1", "a"), w.step("m1", "b")
			b.Check = func(context.Context, Env) (*Change, error) {
				switch {
				case w.holds("m1/b"):
					return nil, nil
				case w.holds("m1/a"):
					return c.after, nil
				}
				return Then(Restart, "restart x", "restart"), nil
			}
			p := mustMake(t, []Stage{{Name: "s", Steps: []Step{a, b}}}, fakes("m1"))
			if it := p.Pending()[1]; !it.Change.Then || it.Change.Summary != "then restart x" {
				t.Errorf("%+v", it.Change)
			}
			_, err := p.Apply(t.Context(), fakes("m1"), Discard, nil)
			if errors.Is(err, ErrChanged) != c.refused || !c.refused && err != nil {
				t.Errorf("%v", err)
			}
			if done := w.holds("m1/b"); done != (c.after != nil && !c.refused) {
				t.Errorf("applied: %v", done)
			}
		})
	}
}
