package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
)

func TestExitCodeOfErrors(t *testing.T) {
	lost := &remote.UnreachableError{Host: "m1", Op: "dial", Err: errors.New("refused")}
	broken := &plan.StepError{ID: "a/b/c", Err: errors.New("broken")}
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"nothing":                     {nil, exitcode.OK},
		"plain":                       {errors.New("x"), exitcode.Error},
		"pending":                     {exitcode.With(exitcode.Pending, nil), exitcode.Pending},
		"wrapped code":                {fmt.Errorf("verify: %w", exitcode.With(exitcode.Unhealthy, errors.New("x"))), exitcode.Unhealthy},
		"usage":                       {usagef("no"), exitcode.Usage},
		"inventory":                   {fmt.Errorf("x: %w", inventory.Problems{{What: "bad"}}), exitcode.Usage},
		"unreachable":                 {fmt.Errorf("x: %w", lost), exitcode.Unknown},
		"all unreachable":             {errors.Join(lost, &plan.StepError{ID: "x", Err: lost}), exitcode.Unknown},
		"one unreachable, one broken": {errors.Join(lost, broken), exitcode.Error},
		"hint around a join":          {remote.Hint(errors.Join(lost, broken), "x"), exitcode.Error},
		"locked":                      {errors.Join(&remote.LockedError{}), exitcode.Locked},
		"stopped":                     {fmt.Errorf("up: %w", plan.ErrStopped), exitcode.Interrupted},
		"cancelled":                   {fmt.Errorf("up: %w", context.Canceled), exitcode.Interrupted},
		"cancelled while looking":     {&remote.UnreachableError{Op: "run", Err: context.Canceled}, exitcode.Interrupted},
		"timed out while looking":     {fmt.Errorf("look: %w", context.DeadlineExceeded), exitcode.Unknown},
		"a code of another package":   {fmt.Errorf("drill: %w", foreign{}), exitcode.Unsafe},
	} {
		if got := exitcode.Of(c.err); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

type foreign struct{}

func (foreign) Error() string { return "foreign" }
func (foreign) ExitCode() int { return exitcode.Unsafe }

func TestEveryExitCodeIsDocumentedOnce(t *testing.T) {
	seen := map[int]bool{}
	for _, e := range exitcode.All {
		if seen[e.Code] {
			t.Errorf("code %d is listed twice", e.Code)
		}
		seen[e.Code] = true
	}
	for _, c := range []int{
		exitcode.OK, exitcode.Error, exitcode.Pending, exitcode.Unknown, exitcode.Usage, exitcode.Unhealthy, exitcode.BoundMissed, exitcode.Unsafe, exitcode.Locked, exitcode.Interrupted,
	} {
		if !seen[c] {
			t.Errorf("code %d is not documented", c)
		}
	}
}

func TestFailureListsJoinedErrorsAndEveryHintOnce(t *testing.T) {
	trust := func(h string) error {
		return fmt.Errorf("%s: %w", h, &remote.UnreachableError{Op: "dial", Err: errors.New("host key changed\nsecond line"), Hint: "hactl trust " + h})
	}
	err := errors.Join(trust("m1"), errors.Join(trust("m2"), remote.Hint(errors.New("same"), "hactl trust m2")), errors.New("evil \x1b[2J\u202e password=hunter2"))
	var b bytes.Buffer
	printFailure(&b, ui.Style{}, nil, remote.Hint(err, "hactl up goes on"), ui.NewRedactor().String)
	want := `error: m1: dial: host key changed
       second line
error: m2: dial: host key changed
       second line
error: same
error: evil  password=***
hint: hactl trust m1
hint: hactl trust m2
hint: hactl up goes on
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Where nothing is joined the outermost hint goes first, as remote.HintOf has it.
func TestHintsAreFoundBehindWhateverIsWrappedAroundAJoin(t *testing.T) {
	two := errors.Join(remote.Hint(errors.New("a"), "do a"), fmt.Errorf("b: %w", remote.Hint(errors.New("c"), "do c")))
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused":   {&drill.UnsafeError{Err: fmt.Errorf("not as wanted: %w", two)}, "do a, do c"},
		"with code": {exitcode.With(exitcode.Unknown, remote.Hint(two, "then this")), "do a, do c, then this"},
		"no join":   {fmt.Errorf("x: %w", remote.Hint(remote.Hint(errors.New("y"), "inner"), "outer")), "outer"},
	} {
		if got := strings.Join(hintsOf(c.err), ", "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// runWith runs hactl with extra commands and its own environment.
func runWith(t *testing.T, dir string, args []string, body func(a *app, c *cobra.Command) error) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(k string) string {
		return map[string]string{"XDG_STATE_HOME": dir}[k]
	}}
	a.extra = func(root *cobra.Command) {
		root.AddCommand(&cobra.Command{Use: "try", RunE: func(c *cobra.Command, _ []string) error { return body(a, c) }})
	}
	code = a.run(t.Context(), args)
	return code, out.String(), errOut.String()
}

func TestMissingInventoryHintsAtInit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inventory.yaml")
	code, _, stderr := runWith(t, t.TempDir(), []string{"try", "-i", file}, func(a *app, _ *cobra.Command) error {
		_, err := a.loadInventory()
		return err
	})
	if code != exitcode.Usage || !strings.HasPrefix(stderr, "error: "+file+": ") || !strings.HasSuffix(stderr, "hactl init "+file+"\n") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

func TestSilentCodePrintsNothing(t *testing.T) {
	code, stdout, stderr := runWith(t, t.TempDir(), []string{"try"}, func(*app, *cobra.Command) error { return exitcode.With(exitcode.Pending, nil) })
	if code != exitcode.Pending || stdout+stderr != "" {
		t.Errorf("code %d, output %q", code, stdout+stderr)
	}
}

func TestErrorOfAVerbIsNoUsageError(t *testing.T) {
	code, _, stderr := runWith(t, t.TempDir(), []string{"try"}, func(*app, *cobra.Command) error { return errors.New("disk full") })
	if code != exitcode.Error || stderr != "error: disk full\n" {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

func TestRegisteredSecretIsInNeitherErrorNorLogNorEvents(t *testing.T) {
	dir := t.TempDir()
	const secret = "correct-horse"
	code, stdout, stderr := runWith(t, dir, []string{"try", "-o", "json"}, func(a *app, c *cobra.Command) error {
		r, err := a.start(c, eventStream)
		must(t, err)
		r.Redact.Add(secret)
		r.Report(plan.Event{Kind: plan.Note, Text: "made " + secret})
		r.Log.Remote("m1", "cat", "it is "+secret)
		r.commandBegan(true)("m1", "show "+secret, "echo "+secret)
		return remote.Hint(errors.New("no good: "+secret), "forget "+secret)
	})
	logs, err := filepath.Glob(filepath.Join(dir, "hactl", "logs", "*-try.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("log files: %v, %v", logs, err)
	}
	log, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"stdout": stdout, "stderr": stderr, "log": string(log)} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds the secret:\n%s", where, text)
		}
		if !strings.Contains(text, ui.Masked) {
			t.Errorf("%s does not tell what happened:\n%s", where, text)
		}
	}
	if code != exitcode.Error || !strings.Contains(string(log), "end: exit=1") {
		t.Errorf("code %d, log\n%s", code, log)
	}
}

// waitFor gives a signal handler time to run.
func waitFor(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not come", what)
	}
}

func interruptSelf(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

func TestFirstSignalStopsSoftlyAndSecondAborts(t *testing.T) {
	code, _, stderr := runWith(t, t.TempDir(), []string{"try"}, func(a *app, c *cobra.Command) error {
		stop := a.signal.Stop()
		interruptSelf(t)
		waitFor(t, "the soft stop", stop)
		if err := c.Context().Err(); err != nil {
			t.Errorf("the first signal aborted: %v", err)
		}
		interruptSelf(t)
		waitFor(t, "the abort", c.Context().Done())
		return errors.New("broken by the abort")
	})
	if code != exitcode.Interrupted || !strings.HasPrefix(stderr, "stopping: finishing the running step; press again to abort\naborting\n") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

func TestFirstSignalAbortsAVerbThatHasNoSoftStop(t *testing.T) {
	code, _, stderr := runWith(t, t.TempDir(), []string{"try"}, func(_ *app, c *cobra.Command) error {
		interruptSelf(t)
		waitFor(t, "the abort", c.Context().Done())
		return c.Context().Err()
	})
	if code != exitcode.Interrupted || !strings.HasPrefix(stderr, "aborting\n") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}

func TestHostNamesComplete(t *testing.T) {
	file := filepath.Join(t.TempDir(), "inv.yaml")
	text, err := inventory.Scaffold{Cluster: "demo", Masters: 3, Workers: 1}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{inventory: file}
	got, _ := a.completeHosts(inventory.ControlPlane)(nil, []string{inv.Hosts[0].Name}, "")
	if len(got) != 2 || !strings.HasPrefix(got[0], inv.Hosts[1].Name+"\t") {
		t.Errorf("got %q", got)
	}
	if all, _ := a.completeHosts()(nil, nil, ""); len(all) != 4 {
		t.Errorf("got %q", all)
	}
}

// A failed command can be understood from the log file alone: its script is in it
// in full. The person gets it with -v.
func TestScriptsAreInTheLogAndWithVerboseOnTheScreen(t *testing.T) {
	script := "set -e\n" + strings.Repeat("echo a long script\n", 500) + "cat <<X\n-----BEGIN\nkey\nEND-----\nX\nexit 3"
	for _, verbose := range []bool{false, true} {
		dir := t.TempDir()
		_, _, stderr := runWith(t, dir, []string{"try"}, func(a *app, c *cobra.Command) error {
			r, err := a.start(c, resultsOnly)
			must(t, err)
			r.Redact.Add("-----BEGIN\nkey\nEND-----")
			r.commandBegan(verbose)("m1", "do it", script)
			return nil
		})
		logs, err := filepath.Glob(filepath.Join(dir, "hactl", "logs", "*-try.log"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("log files: %v, %v", logs, err)
		}
		log, err := os.ReadFile(logs[0])
		must(t, err)
		shown := map[string]int{string(log): 500, stderr: 0}
		if verbose {
			shown[stderr] = 500
		}
		for text, want := range shown {
			if n := strings.Count(text, "echo a long script"); n != want || strings.Contains(text, "exit 3") != (want > 0) || strings.Contains(text, "BEGIN") {
				t.Errorf("verbose=%v: %d of %d lines of the script in\n%.600s", verbose, n, want, text)
			}
		}
	}
}
