package plan

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/remote"
)

func TestStagesAreBarriersAndLanesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var one, two []Step
	for _, h := range []string{"m1", "m2"} {
		for _, what := range []string{"a", "b", "c"} {
			one = append(one, w.step(h, what))
		}
		two = append(two, w.step(h, "late"))
	}
	w.before = func(id ID) {
		if strings.HasSuffix(string(id), "late") && len(w.applied()) < 6 {
			t.Errorf("%s began after %v", id, w.applied())
		}
	}
	p := mustMake(t, []Stage{{Name: "one", Steps: one}, {Name: "two", Steps: two}}, fakes("m1", "m2"))
	rec := &recorder{}
	a, err := p.Apply(t.Context(), fakes("m1", "m2"), rec, nil)
	if err != nil || a.Done != 8 {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, h := range []string{"m1/", "m2/"} {
		var got []string
		for _, l := range w.applied() {
			if strings.HasPrefix(l, h) {
				got = append(got, l[3:])
			}
		}
		if strings.Join(got, "") != "abclate" {
			t.Errorf("%s: %v", h, got)
		}
	}
	want := []string{"stage-start one", "stage-done one", "stage-start two", "stage-done two"}
	if got := rec.lines(StageStart, StageDone); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if n := len(rec.lines(StepDone)); n != 8 {
		t.Errorf("%d steps reported done", n)
	}
	if again := mustMake(t, []Stage{{Name: "one", Steps: one}, {Name: "two", Steps: two}}, fakes("m1", "m2")); len(again.Pending()) != 0 {
		t.Errorf("pending afterwards: %d", len(again.Pending()))
	}
}

// Two lanes of one host wait for one another here: they end only side by side.
func TestLanesOfAHostRunSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := w.step("m1", "a"), w.step("m1", "b")
	a.Lane, b.Lane = "left", "right"
	met := make(chan bool)
	w.before = func(id ID) {
		if id == "m1/a" {
			met <- true
			return
		}
		select {
		case <-met:
		case <-t.Context().Done():
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{a, b}}}, fakes("m1"))
	if _, err := p.Apply(ctx, fakes("m1"), Discard, nil); err != nil {
		t.Fatal(err)
	}
}

func TestSerialStageWorksOnOneHostAtATimeAndStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var steps []Step
	for _, what := range []string{"a", "b"} { // as a stage list has them: step by step
		for _, h := range []string{"m1", "m2", "m3"} {
			steps = append(steps, w.step(h, what))
		}
	}
	w.fail["m2/b"] = errors.New("boom")
	p := mustMake(t, []Stage{{Name: "s", Serial: true, Steps: steps}}, fakes("m1", "m2", "m3"))
	a, err := p.Apply(t.Context(), fakes("m1", "m2", "m3"), Discard, nil)
	var se *StepError
	if !errors.As(err, &se) || se.ID != "m2/b" {
		t.Fatal(err)
	}
	if got := strings.Join(w.applied(), " "); got != "m1/a m1/b m2/a" || a.Done != 3 {
		t.Fatalf("%s, %d done", got, a.Done)
	}
}

// The two lanes of a host wait for one another here, so that they end only side by
// side; the lanes of two hosts at once would be seen.
func TestSerialStageFinishesAllLanesOfAHostBeforeTheNextHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var steps []Step
		for _, lane := range []string{"left", "right"} { // as a stage list has them: lane by lane
			for _, h := range []string{"m1", "m2", "m3"} {
				s := w.step(h, lane)
				s.Lane = lane
				steps = append(steps, s)
			}
		}
		meet := map[string]chan bool{"m1": make(chan bool), "m2": make(chan bool), "m3": make(chan bool)}
		var at atomic.Pointer[string]
		w.before = func(id ID) {
			host, lane, _ := strings.Cut(string(id), "/")
			if was := at.Swap(&host); was != nil && *was != host && len(w.applied())%2 != 0 {
				t.Errorf("%s began while %s was worked on", id, *was)
			}
			if lane == "left" {
				meet[host] <- true
			} else {
				<-meet[host]
			}
		}
		p := mustMake(t, []Stage{{Name: "s", Serial: true, Steps: steps}}, fakes("m1", "m2", "m3"))
		if _, err := p.Apply(t.Context(), fakes("m1", "m2", "m3"), Discard, nil); err != nil {
			t.Fatal(err)
		}
		hosts := ""
		for _, l := range w.applied() {
			hosts += l[:2]
		}
		if hosts != "m1m1m2m2m3m3" {
			t.Errorf("hosts were worked on in the order %s", hosts)
		}
	})
}

func TestFailureLetsOtherHostsFinishTheStageButNoLaterOne(t *testing.T) {
	t.Parallel()
	w := newWorld()
	failed := make(chan bool)
	w.fail["m1/a"] = errors.New("boom")
	w.before = func(id ID) {
		switch id {
		case "m1/a":
			defer close(failed)
		case "m2/a":
			<-failed
		}
	}
	stages := []Stage{
		{Name: "one", Steps: []Step{w.step("m1", "a"), w.step("m1", "b"), w.step("m2", "a"), w.step("m2", "b")}},
		{Name: "two", Steps: []Step{w.step("m2", "late")}},
	}
	rec := &recorder{}
	a, err := mustMake(t, stages, fakes("m1", "m2")).Apply(t.Context(), fakes("m1", "m2"), rec, nil)
	if err == nil || err.Error() != "m1/a: boom" {
		t.Fatalf("%v", err)
	}
	if got := strings.Join(w.applied(), " "); got != "m2/a m2/b" || a.Done != 2 {
		t.Fatalf("%s, %d done", got, a.Done)
	}
	if got := rec.lines(StepFailed, StageStart); !slices.Equal(got, []string{"stage-start one", "step-failed one/m1/a"}) {
		t.Fatalf("%v", got)
	}
}

func TestStopFinishesWhatRunsAndBeginsNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld()
	stop := make(chan struct{})
	w.before = func(id ID) {
		if id == "m1/a" {
			close(stop)
		}
	}
	stages := []Stage{{Name: "one", Steps: []Step{w.step("m1", "a"), w.step("m1", "b")}}, {Name: "two", Steps: []Step{w.step("m1", "c")}}}
	a, err := mustMake(t, stages, fakes("m1")).Apply(t.Context(), fakes("m1"), Discard, stop)
	if !errors.Is(err, ErrStopped) || a.Done != 1 || !w.holds("m1/a") || w.holds("m1/b") {
		t.Fatalf("%v, %+v, %v", err, a, w.applied())
	}
}

func TestStopInsideAQuickGroupConfirmsWhatWasDone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	stop := make(chan struct{})
	var steps []Step
	for _, what := range []string{"a", "b", "c"} {
		s := w.step("m1", what)
		s.Quick = true
		steps = append(steps, s)
	}
	w.before = func(id ID) {
		if id == "m1/b" {
			close(stop)
		}
	}
	rec := &recorder{}
	a, err := mustMake(t, []Stage{{Name: "s", Steps: steps}}, fakes("m1")).Apply(t.Context(), fakes("m1"), rec, stop)
	if !errors.Is(err, ErrStopped) || a.Done != 2 || w.holds("m1/c") {
		t.Fatalf("%v, %+v, %v", err, a, w.applied())
	}
}

// A run whose third file cannot be written has still written two, and says so.
func TestFailureInsideAQuickGroupCountsWhatWasDone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var steps []Step
	for _, what := range []string{"a", "b", "c", "d"} {
		s := w.step("m1", what)
		s.Quick = true
		steps = append(steps, s)
	}
	w.fail["m1/c"] = errors.New("no space left")
	rec := &recorder{}
	a, err := mustMake(t, []Stage{{Name: "s", Steps: steps}}, fakes("m1")).Apply(t.Context(), fakes("m1"), rec, nil)
	if err == nil || err.Error() != "m1/c: no space left" || a.Done != 2 {
		t.Fatalf("%v, %+v", err, a)
	}
	want := []string{"step-failed s/m1/c", "step-done s/m1/a", "step-done s/m1/b"}
	if got := rec.lines(StepDone, StepFailed); !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
}

func TestQuickNeighboursShareTheirLooks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := shell(t, "m1")
	var steps []Step
	for i := range 6 {
		steps = append(steps, File{ID: ID(fmt.Sprint(i)), Host: "m1", Path: filepath.Join(dir, fmt.Sprint(i)), Content: []byte("x"), Owner: me(t)}.Step())
	}
	steps[3].Quick = false // 0-2, 3 alone, 4-5
	hosts := Hosts{"m1": h}
	p := mustMake(t, []Stage{{Name: "s", Steps: steps}}, hosts)
	before := len(h.Calls())
	if _, err := p.Apply(t.Context(), hosts, Discard, nil); err != nil {
		t.Fatal(err)
	}
	runs := 0
	for _, c := range h.Calls()[before:] {
		if c.Kind == "run" {
			runs++
		}
	}
	if runs != 4 { // one before each of three groups, which is that after the group before, and one at the end
		t.Fatalf("%d looks for three groups", runs)
	}
}

func TestStepThatIsInSyncByNowIsSkipped(t *testing.T) {
	t.Parallel()
	w := newWorld()
	stages := []Stage{{Name: "s", Steps: []Step{w.step("m1", "a"), w.step("m1", "b")}}}
	p := mustMake(t, stages, fakes("m1"))
	w.facts["m1/a"] = true // another run was faster
	a, err := p.Apply(t.Context(), fakes("m1"), Discard, nil)
	if err != nil || a.Done != 1 || strings.Join(w.applied(), "") != "m1/b" {
		t.Fatalf("%v, %+v, %v", err, a, w.applied())
	}
}

func TestGuardRefusalIsATypeWithAnExitCodeAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.step("m1", "a")
	reason := errors.New("2 of 3 members are down")
	s.Guard = func(context.Context, Env) error { return reason }
	_, err := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, fakes("m1")).Apply(t.Context(), fakes("m1"), Discard, nil)
	var g *GuardError
	if !errors.As(err, &g) || g.ExitCode() != 7 || !errors.Is(err, reason) {
		t.Fatalf("%v", err)
	}
	if err.Error() != "m1/a: guard: 2 of 3 members are down" || len(w.applied()) != 0 {
		t.Fatalf("%v, applied %v", err, w.applied())
	}
}

func TestReadyRunsAfterApplyAndItsFailureFailsTheStep(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.step("m1", "a")
	s.Ready = func(_ context.Context, env Env) error {
		if !w.holds("m1/a") {
			t.Error("asked before it was applied")
		}
		env.Say("waiting up to %ds", 3)
		return errors.New("not within 3s")
	}
	rec := &recorder{}
	a, err := mustMake(t, []Stage{{Name: "s", Steps: []Step{s, w.step("m1", "b")}}}, fakes("m1")).Apply(t.Context(), fakes("m1"), rec, nil)
	if err == nil || err.Error() != "m1/a: not within 3s" || a.Done != 0 || w.holds("m1/b") {
		t.Fatalf("%v, %+v", err, a)
	}
	if got := rec.lines(StepSay, StepFailed); !slices.Equal(got, []string{"step-say s/m1/a", "step-failed s/m1/a"}) {
		t.Fatalf("%v", got)
	}
}

func TestStepThatStaysDifferentHasFailed(t *testing.T) {
	t.Parallel()
	s := newWorld().step("m1", "a")
	s.Apply = func(context.Context, Env, *Change) error { return nil }
	a, err := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, fakes("m1")).Apply(t.Context(), fakes("m1"), Discard, nil)
	if err == nil || err.Error() != "m1/a: not in sync after it was applied: make a" || a.Done != 0 {
		t.Fatalf("%v, %+v", err, a)
	}
}

func TestFileThatChangedSinceThePlanIsNotTouched(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	hosts := Hosts{"m1": shell(t, "m1")}
	stages := []Stage{{Name: "s", Steps: []Step{File{ID: "f", Host: "m1", Path: path, Content: []byte("ours"), Owner: me(t)}.Step()}}}
	p := mustMake(t, stages, hosts)
	write(t, path, "theirs", 0o644)
	_, err := p.Apply(t.Context(), hosts, Discard, nil)
	if !errors.Is(err, ErrChanged) || remote.HintOf(err) == "" {
		t.Fatalf("%v", err)
	}
	if got := mustMake(t, stages, hosts).Pending(); len(got) != 1 || got[0].Change.Before != "theirs" {
		t.Fatalf("the file was touched: %+v", got)
	}
}

func TestHostLostInApplyIsUnknownAndNotConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.step("m1", "a")
	lost := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) { return runLocally(context.Background(), c.Cmd) })
	s.Look = []Look{{Key: "a", Script: "echo"}}
	s.Apply = func(ctx context.Context, env Env, _ *Change) error {
		_, err := env.Host.Run(ctx, remote.Cmd{Script: "true"})
		return err
	}
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, Hosts{"m1": lost})
	lost.LoseAt(2) // 1: look again
	a, err := p.Apply(t.Context(), Hosts{"m1": lost}, Discard, nil)
	if !remote.Unreachable(err) || a.Done != 0 {
		t.Fatalf("%v, %+v", err, a)
	}
}

func TestCriticalPathIsTheLaneThatEndedLastOfEachStage(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	ts := []Timing{
		{Stage: "one", Host: "m1", Lane: "x", Step: "1x", Start: at(0), End: at(2)},
		{Stage: "one", Host: "m1", Lane: "y", Step: "1y", Start: at(0), End: at(1)},
		{Stage: "one", Host: "m1", Lane: "x", Step: "1x2", Start: at(2), End: at(3)},
		{Stage: "one", Host: "m2", Lane: "x", Step: "2x", Start: at(0), End: at(2)},
		{Stage: "two", Host: "m2", Step: "2", Start: at(3), End: at(9)},
		{Stage: "two", Host: "m1", Step: "1", Start: at(3), End: at(4)},
	}
	var got []string
	for _, k := range CriticalPath(ts) {
		got = append(got, string(k.Step))
	}
	if strings.Join(got, " ") != "1x 1x2 2" {
		t.Fatalf("%v", got)
	}
	if CriticalPath(nil) != nil {
		t.Fatal("a path through nothing")
	}
}

// The second part ends with Ready, which belongs to the step.
func TestPartsFollowOneAnotherThroughTheirStep(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := w.step("m1", "a")
	apply := s.Apply
	s.Apply = func(ctx context.Context, env Env, c *Change) error {
		env.Part("files")
		env.Part("wait")
		return apply(ctx, env, c)
	}
	var ready time.Time
	s.Ready = func(context.Context, Env) error { ready = time.Now(); return nil }
	a, err := mustMake(t, []Stage{{Name: "s", Steps: []Step{s, w.step("m1", "b")}}}, fakes("m1")).Apply(t.Context(), fakes("m1"), Discard, nil)
	if err != nil || len(a.Timings) != 2 || len(a.Timings[0].Parts) != 2 || a.Timings[1].Parts != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	k := a.Timings[0]
	files, wait := k.Parts[0], k.Parts[1]
	if files.Name != "files" || wait.Name != "wait" || files.Start.Before(k.Start) || files.End != wait.Start || wait.End.Before(ready) || wait.End != k.End {
		t.Errorf("%+v", k)
	}
	Env{}.Part("of a step without a timing")
}

// One look confirms all of them, after the last: no row of the path may hold it.
func TestQuickStepEndsWithItsChangeAndIsReportedOnceConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var steps []Step
	for _, what := range []string{"a", "b", "c"} {
		s := w.step("m1", what)
		s.Quick = true
		steps = append(steps, s)
	}
	rec := &recorder{}
	a, err := mustMake(t, []Stage{{Name: "s", Steps: steps}}, fakes("m1")).Apply(t.Context(), fakes("m1"), rec, nil)
	if err != nil || len(a.Timings) != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	last := a.Timings[2]
	for i, k := range a.Timings[:2] {
		if k.End.After(a.Timings[i+1].Start) {
			t.Errorf("%s ends %s after the next has begun", k.Step, k.End.Sub(a.Timings[i+1].Start))
		}
	}
	for _, e := range rec.events {
		if e.Kind == StepDone && e.Time.Before(last.End) {
			t.Errorf("%s is done before the last step was", e.Step)
		}
		if e.Kind == StepDone && e.Step == "m1/a" && e.Elapsed < last.End.Sub(a.Timings[0].Start) {
			t.Errorf("%s is said to have taken %s", e.Step, e.Elapsed)
		}
	}
}

func TestNeighbouringFilesGoInOneCallAndARefusalNamesItsStep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := shell(t, "m1")
	var steps []Step
	for _, what := range []string{"a", "b", "c"} {
		steps = append(steps, File{ID: ID(what), Host: "m1", Path: dir + "/" + what, Content: []byte(what), Owner: me(t)}.Step())
	}
	hosts := Hosts{"m1": h}
	a, err := mustMake(t, []Stage{{Name: "s", Steps: steps}}, hosts).Apply(t.Context(), hosts, Discard, nil)
	if err != nil || a.Done != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, k := range a.Timings {
		if !k.End.After(k.Start) {
			t.Errorf("%s ends at %s", k.Step, k.End)
		}
	}
	var written []int
	for _, c := range h.Calls() {
		if c.Kind == "put" {
			written = append(written, len(c.Files))
		}
	}
	if !slices.Equal(written, []int{3}) {
		t.Errorf("calls with %v files", written)
	}

	absent := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		if c.Kind == "put" {
			return nil, &remote.ExitError{Host: "m1", Title: "write " + dir + "/new/b", Exit: 1, Stderr: "No space left on device"}
		}
		return runLocally(t.Context(), c.Cmd)
	})
	for i := range steps {
		steps[i] = File{ID: steps[i].ID, Host: "m1", Path: dir + "/new/" + string(steps[i].ID), Owner: me(t)}.Step()
	}
	hosts = Hosts{"m1": absent}
	_, err = mustMake(t, []Stage{{Name: "s", Steps: steps}}, hosts).Apply(t.Context(), hosts, Discard, nil)
	var se *StepError
	if !errors.As(err, &se) || se.ID != "b" {
		t.Errorf("got %v", err)
	}
}
