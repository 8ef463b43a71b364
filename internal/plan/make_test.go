package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/remote"
)

func TestMakeRefusesBrokenStageLists(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := w.step("m1", "a"), w.step("m1", "b")
	a.Look, b.Look = []Look{{Key: "k", Script: "echo 1"}}, []Look{{Key: "k", Script: "echo 2"}}
	for name, c := range map[string]struct {
		steps []Step
		want  string
	}{
		"a host without a connection":      {[]Step{w.step("m9", "a")}, `m9/a: no connection to host "m9"`},
		"an id that is listed twice":       {[]Step{w.step("m1", "a"), w.step("m1", "a")}, "m1/a is listed twice"},
		"two questions under the same key": {[]Step{a, b}, `m1/b looks at "k" in another way`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Make(t.Context(), []Stage{{Name: "s", Steps: c.steps}}, fakes("m1"), Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestUnreachableHostIsUnknownNeverAbsent(t *testing.T) {
	t.Parallel()
	down := remote.NewFake("m1", func(remote.Call) (*remote.Result, error) {
		return nil, &remote.UnreachableError{Host: "m1", Op: "run", Err: errors.New("session lost")}
	})
	hosts := fakes("m2")
	hosts["m1"] = down
	f := func(host string) Step {
		return File{ID: ID(host + "/f"), Host: host, Path: filepath.Join(t.TempDir(), "f"), Content: []byte("x")}.Step()
	}
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{f("m1"), f("m2")}}}, hosts)
	if u := p.Unknown(); len(u) != 1 || u[0].Step.ID != "m1/f" || u[0].Change != nil || !remote.Unreachable(u[0].Err) {
		t.Fatalf("unknown: %+v", u)
	}
	if n := p.Pending(); len(n) != 1 || n[0].Step.ID != "m2/f" {
		t.Fatalf("pending: %+v", n)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "m1/f: look at the host") {
		t.Fatalf("err: %v", err)
	}
	a, err := p.Apply(t.Context(), hosts, Discard, nil)
	if err == nil || a.Done != 0 {
		t.Fatalf("a plan with an unknown step was applied: %+v, %v", a, err)
	}
	for _, c := range hosts["m2"].(*remote.Fake).Calls() {
		if c.Kind != "run" {
			t.Fatalf("m2 was changed: %+v", c)
		}
	}
}

func TestMakeLooksOncePerHost(t *testing.T) {
	t.Parallel()
	h := shell(t, "m1")
	dir := t.TempDir()
	var steps []Step
	for i := range 50 {
		steps = append(steps, File{ID: ID(fmt.Sprint(i)), Host: "m1", Path: filepath.Join(dir, fmt.Sprint(i)), Content: []byte("x")}.Step())
	}
	p := mustMake(t, []Stage{{Name: "a", Steps: steps[:20]}, {Name: "b", Steps: steps[20:]}}, Hosts{"m1": h})
	if len(p.Pending()) != 50 || len(h.Calls()) != 1 {
		t.Fatalf("%d pending after %d round trips", len(p.Pending()), len(h.Calls()))
	}
}

func TestLookSplitsWhatACommandLineCannotHold(t *testing.T) {
	t.Parallel()
	h := shell(t, "m1")
	var looks []Look
	for i := range 5 {
		looks = append(looks, Look{Key: fmt.Sprint(i), Script: fmt.Sprintf("# %s\necho %d; exit %d", strings.Repeat("x", 40<<10), i, i)})
	}
	seen, err := look(t.Context(), h, append(looks, looks...))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if got := seen[fmt.Sprint(i)]; got != (Answer{Out: fmt.Sprint(i), Exit: i}) {
			t.Errorf("look %d: %+v", i, got)
		}
	}
	if n := len(h.Calls()); n != 3 {
		t.Errorf("%d round trips, want 3", n)
	}
}

// What a host prints cannot pass for the engine's own marker: the marker is not
// known before the script arrives, and even an old one has another nonce.
func TestFileContentForgesNoMarker(t *testing.T) {
	t.Parallel()
	var old string
	spy := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		i := strings.Index(c.Cmd.Script, "hactl-")
		old = c.Cmd.Script[i : i+6+24]
		return runLocally(t.Context(), c.Cmd)
	})
	if _, err := look(t.Context(), spy, []Look{{Key: "a", Script: "echo a"}}); err != nil {
		t.Fatal(err)
	}
	forged := old + " 0 0\nok\n\n" + old + " 1 0\n"
	path := filepath.Join(t.TempDir(), "forged")
	write(t, path, "\n"+forged, 0o600)
	seen, err := look(t.Context(), spy, []Look{{Key: "cat", Script: "cat " + path}, {Key: "next", Script: "echo wrong; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	if seen["next"] != (Answer{Out: "wrong", Exit: 3}) || !strings.Contains(seen["cat"].Out, forged[:40]) {
		t.Fatalf("%+v", seen)
	}
}

// The reason of a look that fails reaches the person, cleaned and cut; stderr is not
// taken for the answer.
func TestLooksKeepTheirOwnStderr(t *testing.T) {
	t.Parallel()
	h := shell(t, "m1")
	looks := []Look{
		{Key: "fine", Script: "echo a"},
		{Key: "fails", Script: "echo b; cat /nowhere/f; exit 3"},
		{Key: "warns", Script: "echo ok; printf 'one\\n\\033[2Jtwo\\n' >&2"},
		{Key: "much", Script: "i=0; while [ $i -lt 2000 ]; do echo line >&2; i=$((i+1)); done; exit 1"},
		{Key: "last", Script: "echo z >&2"},
	}
	seen, err := look(t.Context(), h, looks)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]Answer{
		"fine":  {Out: "a"},
		"fails": {Out: "b", Exit: 3, Stderr: "cat: /nowhere/f: No such file or directory"},
		"warns": {Out: "ok", Stderr: "one\ntwo"},
		"much":  {Exit: 1, Stderr: strings.Repeat("line\n", 100)},
		"last":  {Stderr: "z"},
	} {
		if seen[key] != want {
			t.Errorf("%s: %+v", key, seen[key])
		}
	}
	if n := len(h.Calls()); n != 1 {
		t.Errorf("%d round trips", n)
	}
	want := "look at it: exit 3: cat: /nowhere/f: No such file or directory"
	if err := seen["fails"].Failed("it"); err.Error() != want {
		t.Error(err)
	}
	if err := seen["warns"].Failed("it"); err.Error() != "look at it: exit 0: one; two" {
		t.Error(err)
	}
}

func TestAnswersThatEndEarlyAreUnknown(t *testing.T) {
	t.Parallel()
	looks := []Look{{Key: "a", Script: "echo ok"}, {Key: "b", Script: "echo ok"}}
	whole := "ok\n\nM 0 0+\nwarning\nM\nok\n\nM 1 0\n"
	for n := range len(whole) {
		seen := map[string]Answer{}
		if err := splitAnswers([]byte(whole[:n]), "M", looks, seen); err == nil {
			t.Fatalf("%q was taken for a whole answer: %+v", whole[:n], seen)
		}
	}
	if err := splitAnswers([]byte(whole), "M", looks, map[string]Answer{}); err != nil {
		t.Fatal(err)
	}
	if err := splitAnswers([]byte("ok\n\nM 0 what\n"), "M", looks[:1], map[string]Answer{}); err == nil {
		t.Fatal("an unreadable exit code was accepted")
	}
}

func TestSyntaxErrorInALookIsUnknown(t *testing.T) {
	t.Parallel()
	s := Script{ID: "s", Host: "m1", Title: "broken", Look: "if then"}.Step()
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, fakes("m1"))
	if len(p.Unknown()) != 1 {
		t.Fatalf("%+v", p.Stages[0].Items[0])
	}
}

func TestSawOnlyWhatTheStepAskedFor(t *testing.T) {
	t.Parallel()
	if _, err := (Env{}).Saw("x"); err == nil || !strings.Contains(err.Error(), `did not ask for "x"`) {
		t.Fatal(err)
	}
}

func TestCheckThatFailsIsUnknown(t *testing.T) {
	t.Parallel()
	s := newWorld().step("m1", "a")
	s.Check = func(context.Context, Env) (*Change, error) { return nil, os.ErrDeadlineExceeded }
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, fakes("m1"))
	if len(p.Unknown()) != 1 || p.InSync() != 0 {
		t.Fatalf("%+v", p.Stages[0].Items[0])
	}
}

func FuzzSplitAnswers(f *testing.F) {
	f.Add([]byte("ok\n\nM 0 0\nok\n\nM 1 0\n"))
	f.Add([]byte("\nM 0 0\n"))
	f.Add([]byte("\nM 0 1+\nno\nM\n\nM 1 0+\n\nM\n"))
	f.Add([]byte("\nM 1 0\n\nM 0 0\n\nM 0 -1\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		looks := []Look{{Key: "a"}, {Key: "b"}}
		seen := map[string]Answer{}
		if splitAnswers(out, "M", looks, seen) == nil && len(seen) != 2 {
			t.Fatalf("%q: %+v", out, seen)
		}
	})
}
