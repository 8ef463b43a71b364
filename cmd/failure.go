package cmd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/internal/wait"
)

// several is an error that wraps more than one.
type several interface{ Unwrap() []error }

func wrapsSeveral(err error) bool {
	_, ok := err.(several) //nolint:errorlint // only what is outermost is asked
	return ok
}

// hintsOf collects every hint in err's tree once, in order: those of the errors
// that are wrapped together, whatever is around them, and then its own. A wait that was
// too short has one more.
func hintsOf(err error) []string {
	var out []string
	add := func(h string) {
		if h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	inner := err
	for inner != nil && !wrapsSeveral(inner) {
		inner = errors.Unwrap(inner)
	}
	if e, ok := inner.(several); ok { //nolint:errorlint // unwrapped by hand
		for _, sub := range e.Unwrap() {
			for _, h := range hintsOf(sub) {
				add(h)
			}
		}
	}
	add(remote.HintOf(err))
	var exit *remote.ExitError
	if wait.RanOut(err) || errors.As(err, &exit) && wait.Said(exit.Stderr) {
		add(wait.Advice)
	}
	return out
}

// printFailure writes err for a person, once: an "error:" line for each error
// of a join, the usage line when the command line was wrong, and the hints.
func printFailure(w io.Writer, st ui.Style, c *cobra.Command, err error, redact func(string) string) {
	for _, e := range exitcode.Flatten(err) {
		_, _ = fmt.Fprintf(w, "%s %s\n", st.Red("error:"), indented(redact(remote.Clean(e.Error()))))
	}
	var u *usageError
	if c != nil && errors.As(err, &u) {
		use := c.UseLine()
		if c.Annotations["group"] != "" {
			use = c.CommandPath() + " COMMAND"
		}
		_, _ = fmt.Fprintf(w, "usage: %s\n", use)
	}
	for _, h := range hintsOf(err) {
		_, _ = fmt.Fprintf(w, "%s %s\n", st.Cyan("hint:"), indented(redact(remote.Clean(h))))
	}
}

// indented moves the second and further lines of a message under the first.
func indented(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n       ")
}
