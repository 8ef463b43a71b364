package plan

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hactl/internal/remote"
)

// recordingHost keeps its record in a temporary folder.
func recordingHost(t *testing.T) (*remote.Fake, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hactl")
	return remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		c.Cmd.Script = strings.ReplaceAll(c.Cmd.Script, OwnedDir, dir)
		return runLocally(t.Context(), c.Cmd)
	}), dir
}

func readRecord(t *testing.T, dir string) []Made {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "owned.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return ReadOwned(string(b))
}

func TestRecordKeepsTheFirstFormerStateAndTheLastContent(t *testing.T) {
	t.Parallel()
	h, dir := recordingHost(t)
	path := filepath.Join(t.TempDir(), `it's "here"`)
	write(t, path, "theirs", 0o640)
	theirs := Former{SHA256: sum("theirs"), Mode: "640", Owner: "root:root"}
	if err := WriteOwned(t.Context(), h, []Made{{Kind: "file", Name: path, SHA256: sum("v1"), Former: theirs}, {Kind: "unit", Name: "x.service", Former: Former{Value: "enabled active"}}}, ""); err != nil {
		t.Fatal(err)
	}
	write(t, path, "v1", 0o644)
	if err := WriteOwned(t.Context(), h, []Made{{Kind: "file", Name: path, SHA256: sum("v2"), Former: Former{SHA256: sum("v1")}}, {Kind: "package", Name: "socat", Former: Former{Absent: true}}}, ""); err != nil {
		t.Fatal(err)
	}
	want := []Made{{Kind: "file", Name: path, SHA256: sum("v2"), Former: theirs}, {Kind: "unit", Name: "x.service", Former: Former{Value: "enabled active"}}, {Kind: "package", Name: "socat", Former: Former{Absent: true}}}
	if got := readRecord(t, dir); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "former", sum("theirs")))
	info, serr := os.Stat(filepath.Join(dir, "owned.json"))
	if err != nil || serr != nil || string(kept) != "theirs" || info.Mode().Perm() != 0o600 {
		t.Errorf("kept %q, %v; record %v, %v", kept, err, info, serr)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "former")); len(left) != 1 {
		t.Errorf("hactl's own contents are kept, too: %v", left)
	}
}

func TestRecordOfAFileThatChangedSinceThePlanIsRefused(t *testing.T) {
	t.Parallel()
	h, dir := recordingHost(t)
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "another", 0o644)
	err := WriteOwned(t.Context(), h, []Made{{Kind: "file", Name: path, SHA256: sum("ours"), Former: Former{SHA256: sum("theirs")}}}, "")
	if err == nil || !strings.Contains(err.Error(), "changed since the plan was made") || len(readRecord(t, dir)) != 0 {
		t.Errorf("%v", err)
	}
}

func TestRecordSaysNothingTwice(t *testing.T) {
	t.Parallel()
	h, dir := recordingHost(t)
	file := func(name, content string) Made {
		return Made{Kind: "file", Name: name, SHA256: sum(content), Former: Former{Absent: true}}
	}
	size := func(made ...Made) int {
		t.Helper()
		if err := WriteOwned(t.Context(), h, made, ""); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "owned.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	odd := `it's "here" \ &`
	first := size(file("/a", "1"), file(odd, "1"))
	if again := size(file(odd, "1"), file("/a", "1")); again != first {
		t.Errorf("%d bytes, and %d after the same again", first, again)
	}
	size(file("/a", "2"))
	size(file("/a", "1"))
	if got := readRecord(t, dir); len(got) != 2 || got[0].SHA256 != sum("1") {
		t.Errorf("the last content: %+v", got)
	}
}

// A line without its end is the last one of a run whose host lost its power.
func TestRecordGoesOnBehindALineThatWasCut(t *testing.T) {
	t.Parallel()
	h, dir := recordingHost(t)
	m := Made{Kind: "package", Name: "socat", Former: Former{Absent: true}}
	write(t, filepath.Join(dir, "owned.json"), `{"kind":"file","name":"/etc/x","sha2`, 0o600)
	if err := WriteOwned(t.Context(), h, []Made{m}, ""); err != nil {
		t.Fatal(err)
	}
	if got := readRecord(t, dir); !slices.Equal(got, []Made{m}) {
		t.Errorf("%+v", got)
	}
}

func FuzzReadOwned(f *testing.F) {
	f.Add(`{"kind":"file","name":"/etc/x","sha256":"00","former":{"absent":true}}` + "\n")
	f.Add("\n{}\n[]\n{\"kind\":\"file\"}\nnull")
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[string]bool{}
		for _, m := range ReadOwned(text) {
			k := m.Kind + "\x00" + m.Name
			if m.Kind == "" || m.Name == "" || seen[k] {
				t.Fatalf("%q: %+v", text, m)
			}
			seen[k] = true
		}
	})
}

func TestRecordComesBeforeTheFirstChange(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a, b := w.step("m1", "a"), w.step("m2", "b")
	check := a.Check
	a.Check = func(ctx context.Context, env Env) (*Change, error) {
		c, err := check(ctx, env)
		if c != nil {
			c.Made = []Made{{Kind: "file", Name: "/a"}}
		}
		return c, err
	}
	stages := []Stage{{Name: "s", Steps: []Step{a, b}}}
	p := mustMake(t, stages, fakes("m1", "m2"))
	full := errors.New("no space left")
	var told []string
	p.Record = func(_ context.Context, h remote.Host, made, _ []Made) error {
		told = append(told, h.Name()+made[0].Name)
		return full
	}
	_, err := p.Apply(t.Context(), fakes("m1", "m2"), Discard, nil)
	if !errors.Is(err, full) || len(w.applied()) != 0 || !slices.Equal(told, []string{"m1/a"}) {
		t.Errorf("told %v, did %v: %v", told, w.applied(), err)
	}
	p.Record = func(_ context.Context, _ remote.Host, _, _ []Made) error {
		if len(w.applied()) != 0 {
			t.Errorf("after %v", w.applied())
		}
		return nil
	}
	if _, err := p.Apply(t.Context(), fakes("m1", "m2"), Discard, nil); err != nil || len(w.applied()) != 2 {
		t.Error(err)
	}
}
