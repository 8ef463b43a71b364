package ui

import (
	"io"
	"strconv"
	"strings"
)

// Painter keeps a view at the bottom of a terminal. Lines that are final are printed
// above it and stay. It is not safe for use by several goroutines.
type Painter struct {
	w     io.Writer
	size  func() (width, height int) // asked at every painting, so that a resize shows
	drawn []int                      // columns of each line of the view that is on the screen
}

// NewPainter returns a painter for w and true, or false where w is no terminal that can
// move its cursor.
func NewPainter(w io.Writer, o Options) (*Painter, bool) {
	o = o.filled()
	f, ok := terminal(w)
	if !ok || o.Getenv("TERM") == "dumb" {
		return nil, false
	}
	return &Painter{w: w, size: func() (int, int) { return sizeOf(f) }}, true
}

// Paint prints the final lines, and view in the place of the view before. Lines of the
// view that are too wide for the terminal, or too many, are cut.
func (p *Painter) Paint(final []string, view ...string) {
	width, height := p.size()
	lines := make([]line, 0, len(view))
	for _, s := range view[:min(len(view), max(height-1, 0))] {
		lines = append(lines, line{{text: Truncate(s, width-1)}})
	}
	p.paint(Style{}, final, lines)
}

// paint replaces the view in one write, so that nothing flickers: the cursor goes up to
// where the view begins, each line is overwritten and its rest erased, and what is left
// below is erased last.
func (p *Painter) paint(st Style, final []string, view []line) {
	width, _ := p.size()
	var b strings.Builder
	if up := rows(p.drawn, width); up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
	b.WriteByte('\r')
	for _, s := range final {
		b.WriteString(s + "\x1b[K\r\n")
	}
	p.drawn = p.drawn[:0]
	for _, s := range view {
		p.drawn = append(p.drawn, s.columns())
		b.WriteString(s.paint(st) + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(p.w, b.String())
}

// rows is how many rows of a terminal of that width the drawn lines take now.
// After the window became narrower, lines drawn before have been wrapped.
func rows(drawn []int, width int) int {
	n := 0
	for _, c := range drawn {
		n += max(1, (c+width-1)/max(1, width))
	}
	return n
}
