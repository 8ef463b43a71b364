// Package ui is what a person or a program sees of a run: plans, diffs, tables
// and the events of the engine, as a live view on a terminal, as plain lines in
// a pipe, or as one JSON object a line. Results go to stdout, progress to
// stderr. Everything that may come from a host passes through remote.Clean first.
package ui

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"hactl/internal/plan"
)

// Reporter shows events.
type Reporter interface {
	plan.Reporter
	// Pause clears the way for a question on the terminal. Events are kept until
	// resume, none is lost.
	Pause() (resume func())
	// Close leaves the final state on the screen and stops repainting. It may be
	// called more than once. Events after it are dropped.
	Close() error
}

// Options say how to show things.
type Options struct {
	JSON    bool // events as JSON lines on stdout
	NoColor bool // --no-color
	Verbose bool // plain lines also for what is only of passing interest
	// Getenv reads the environment; os.Getenv when nil.
	Getenv func(string) string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// New returns the reporter that fits: JSON when asked for, a live view when
// stderr is a terminal that can move its cursor, plain lines otherwise.
func New(stderr, stdout io.Writer, o Options) Reporter {
	o = o.filled()
	if o.JSON {
		return NewJSON(stdout)
	}
	p, ok := NewPainter(stderr, o)
	if !ok {
		return NewPlain(stderr, o)
	}
	return NewLive(p, StyleFor(stderr, o), o)
}

// sizeOf is the size of a terminal in columns and lines, 80 by 24 where it does
// not say.
func sizeOf(f *os.File) (width, height int) {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 80, 24
	}
	return w, h
}

// Columns is how wide text on w may be: as wide as its terminal, 120 columns
// where it is none.
func Columns(w io.Writer) int {
	if f, ok := terminal(w); ok {
		width, _ := sizeOf(f)
		return width
	}
	return 120
}

func (o Options) filled() Options {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// unicode reports whether the locale says that the terminal shows UTF-8.
func (o Options) unicode() bool {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(o.Getenv(k)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	_, ok := terminal(w)
	return ok
}

// terminal returns the file behind w when it is a terminal.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}
