package cmd

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hactl/internal/remote"
	"hactl/internal/ui"
)

func TestPrintFailure(t *testing.T) {
	full, refused := errors.New("the disk is full"), errors.New("refused")
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"one":                   {full, []string{"error: the disk is full"}},
		"a join is a line each": {errors.Join(full, refused), []string{"error: the disk is full", "error: refused"}},
		"joins in a join":       {errors.Join(errors.Join(full, refused), full), []string{"error: the disk is full", "error: refused", "error: the disk is full"}},
		"text around two errors": {
			fmt.Errorf("%w on master-1, 3 attempts: %w", refused, full),
			[]string{"error: refused on master-1, 3 attempts: the disk is full"},
		},
		"hints of both sides of a text": {
			remote.Hint(fmt.Errorf("%w: %w", refused, remote.Hint(full, "make room")), "look"),
			[]string{"error: refused: the disk is full", "hint: make room", "hint: look"},
		},
		"a hint for all": {
			remote.Hint(errors.Join(full, remote.Hint(refused, "ask")), "hactl up goes on"),
			[]string{"error: the disk is full", "error: refused", "hint: ask", "hint: hactl up goes on"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			printFailure(&b, ui.Style{}, nil, c.err, ui.NewRedactor().String)
			if got, want := b.String(), strings.Join(c.want, "\n")+"\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
