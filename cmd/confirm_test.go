package cmd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh/knownhosts"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/remote/sshdtest"
	"hactl/internal/ui"
)

// typed is a person at a terminal who has typed text: what person reads is what
// is shown.
func typed(t *testing.T, text string, term string) (a *app, person *os.File) {
	t.Helper()
	terminal, person := openTerminal(t)
	_, err := person.WriteString(text)
	must(t, err)
	home := t.TempDir()
	env := map[string]string{"TERM": term, "XDG_STATE_HOME": home, "HOME": home}
	return &app{stdin: terminal, stdout: io.Discard, stderr: terminal, noColor: true, getenv: func(k string) string { return env[k] }}, person
}

// applying is a command that plans one step, asks, and applies it, as up does.
func applying(a *app) func(*cobra.Command) {
	return func(root *cobra.Command) {
		root.AddCommand(&cobra.Command{Use: "applying", RunE: func(c *cobra.Command, _ []string) error {
			run, err := a.start(c, eventStream)
			if err != nil {
				return err
			}
			step := plan.Step{ID: "etcd/master-1/unit", Host: "master-1", Title: "the unit"}
			done := false
			step.Check = func(context.Context, plan.Env) (*plan.Change, error) {
				if done {
					return nil, nil
				}
				return &plan.Change{Op: plan.Create, Summary: "write the unit"}, nil
			}
			step.Apply = func(context.Context, plan.Env, *plan.Change) error { done = true; return nil }
			hosts := plan.Hosts{"master-1": remote.NewFake("master-1", func(remote.Call) (*remote.Result, error) { return &remote.Result{}, nil })}
			run.Note("before the question")
			p, err := plan.Make(c.Context(), []plan.Stage{{Name: "stage of the test", Steps: []plan.Step{step}}}, hosts, run)
			if err != nil {
				return err
			}
			if err := a.confirm(c.Context(), ops.Question{Show: func(w io.Writer, st ui.Style) error { return ui.WritePlan(w, p, false, st) }, Text: "Apply this?"}); err != nil {
				return err
			}
			_, err = p.Apply(c.Context(), hosts, run, nil)
			run.Note("the end")
			return err
		}})
	}
}

func TestProgressIsShownAfterAQuestionWasAnswered(t *testing.T) {
	for _, term := range []string{"xterm", "dumb"} {
		a, person := typed(t, "y\n", term)
		a.extra = applying(a)
		code := make(chan int, 1)
		go func() {
			code <- a.run(t.Context(), []string{"applying"})
			_ = a.stderr.(io.Closer).Close() // ends what the person reads
		}()
		before, after, asked := strings.Cut(shownUpTo(t, person, "the end"), "Apply this? [y/N]")
		if !asked || !strings.Contains(before, "before the question") || !strings.Contains(before, "write the unit") {
			t.Errorf("TERM=%s: before the question:\n%s", term, before)
		}
		if !strings.Contains(after, "stage of the test") {
			t.Errorf("TERM=%s: no progress after the question:\n%s", term, after)
		}
		if c := <-code; c != exitcode.OK {
			t.Errorf("TERM=%s: exit %d", term, c)
		}
	}
}

func TestTrustAsksForEachHostAndTakesBothAnswers(t *testing.T) {
	srv := sshdtest.Start(t, sshdtest.Config{})
	file := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(file, []byte(knownhosts.Line([]string{knownhosts.Normalize(srv.Addr)}, sshdtest.NewKey(t).PublicKey())+"\n"), 0o600))
	inv := trustInventory(t, srv, file)
	a, person := typed(t, "n\ny\n", "xterm")
	go func() { _, _ = io.Copy(io.Discard, person) }()
	if code := a.run(t.Context(), []string{"trust", "-i", inv, "master-1", "master-1"}); code != exitcode.Interrupted {
		t.Errorf("one key was refused: exit %d", code)
	}
	want := knownhosts.Line([]string{knownhosts.Normalize(srv.Addr)}, srv.HostKey()) + "\n"
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Errorf("the second answer was yes, and the file is %q", got)
	}
}

func TestOpenQuestionEndsWithTheRun(t *testing.T) {
	terminal, person := openTerminal(t)
	go func() { _, _ = io.Copy(io.Discard, person) }()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe() // nothing is ever typed
	defer w.Close()
	a := &app{stdin: r, stderr: terminal, getenv: func(string) string { return "" }}
	q := ops.Question{Text: "Go on?", Show: func(io.Writer, ui.Style) error { cancel(); return nil }}
	if err := a.confirm(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A second prompt would not pause the live view.
func TestThereIsOnePlaceThatAsks(t *testing.T) {
	var asks []string
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "[y/N]") || strings.Contains(string(text), "ReadPassword(") {
			asks = append(asks, path)
		}
		return err
	}))
	if len(asks) != 1 || asks[0] != "../cmd/confirm.go" {
		t.Errorf("these ask by themselves: %v", asks)
	}
}

// shownUpTo reads what a person sees until text is there.
func shownUpTo(t *testing.T, person *os.File, text string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), text) {
		n, err := person.Read(buf)
		if err != nil {
			t.Errorf("%q is not shown: %v", text, err)
			break
		}
		got.Write(buf[:n])
	}
	return got.String()
}

// A question with a word takes that word alone; --yes does not answer it.
func TestQuestionWithAWordWantsTheWord(t *testing.T) {
	q := ops.Question{Text: "The cluster is made anew.", Word: "prod", NoTerminal: "no terminal; give --yes-restore prod", Undone: "nothing was changed"}
	for answer, ok := range map[string]bool{"prod\n": true, "yes\n": false, "y\n": false, "production\n": false, "\n": false} {
		a, _ := typed(t, answer, "dumb")
		err := a.confirm(t.Context(), q)
		if (err == nil) != ok || !ok && exitcode.Of(err) != exitcode.Interrupted {
			t.Errorf("%q: %v", answer, err)
		}
	}
	q.Yes = true
	if err := (&app{stderr: io.Discard}).confirm(t.Context(), q); err != nil {
		t.Errorf("answered on the command line: %v", err)
	}
	q.Yes = false
	err := (&app{stderr: io.Discard}).confirm(t.Context(), q)
	if exitcode.Of(err) != exitcode.Usage || strings.Contains(err.Error(), "use --yes") {
		t.Errorf("without a terminal: %v", err)
	}
}
