package cmd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/ui"
)

// confirm asks q on the terminal. Progress stops for the question and goes on
// after it. Only y and yes confirm, or the word of the question; anything else, and
// Ctrl-C, is an error with the exit code of an interrupted run.
func (a *app) confirm(ctx context.Context, q ops.Question) error {
	defer a.pause()()
	if q.Show != nil {
		if err := q.Show(a.stderr, a.errStyle()); err != nil {
			return err
		}
	}
	if q.Yes {
		return nil
	}
	if !ui.IsTerminal(a.stderr) {
		if q.Word != "" { // --yes does not answer it
			return usagef("%s", q.NoTerminal)
		}
		return usagef("%s; use --yes", q.NoTerminal)
	}
	if q.Word != "" {
		fmt.Fprintf(a.stderr, "%s Type %s to go on: ", q.Text, q.Word)
	} else {
		fmt.Fprintf(a.stderr, "%s [y/N] ", q.Text)
	}
	answer, err := a.readLine(ctx)
	if err != nil {
		return err
	}
	if q.Word != "" {
		if strings.TrimSpace(answer) == q.Word {
			return nil
		}
		return exitcode.With(exitcode.Interrupted, fmt.Errorf("not confirmed; %s", q.Undone))
	}
	if l := strings.ToLower(strings.TrimSpace(answer)); l != "y" && l != "yes" {
		return exitcode.With(exitcode.Interrupted, fmt.Errorf("not confirmed; %s", q.Undone))
	}
	return nil
}

// pause makes room for a question on the terminal until resume. Two questions
// at the same time come one after the other.
func (a *app) pause() (resume func()) {
	a.asking.Lock()
	show := func() {}
	if a.opened != nil {
		show = a.opened.shown.Pause()
	}
	return func() {
		show()
		a.asking.Unlock()
	}
}

// readLine reads one line of stdin, "" at its end. It returns when ctx ends,
// even while nothing was typed; the line is lost then.
func (a *app) readLine(ctx context.Context) (string, error) {
	if a.input == nil { // kept: it may have read the answer to the next question, too
		a.input = bufio.NewReader(a.stdin)
	}
	line := make(chan string, 1)
	go func() {
		s, _ := a.input.ReadString('\n')
		line <- s
	}()
	select {
	case s := <-line:
		if !strings.HasSuffix(s, "\n") {
			fmt.Fprintln(a.stderr)
		}
		return s, ctx.Err()
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return "", ctx.Err()
	}
}

// ask reads a secret from the terminal and registers it for masking.
func (a *app) ask(run *verbRun, what string) (string, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", fmt.Errorf("%s is needed and there is no terminal to ask on", what)
	}
	defer a.pause()()
	fmt.Fprintf(a.stderr, "%s: ", what)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	if err == nil {
		run.Redact.Add(string(b))
	}
	return string(b), err
}
