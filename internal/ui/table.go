package ui

import (
	"io"
	"strings"
)

// Table is rows under a header, each column as wide as its widest cell where
// that fits. Cells are cleaned, so that text from a host may be put in as it
// came.
type Table struct {
	Header []string
	// Indent stands before every line.
	Indent string
	// Color, when set, colours a cell by the header of its column and its text; nil
	// leaves it as it is. Header cells are bold.
	Color func(column, cell string) func(string) string

	rows [][]string
}

// Add appends a row. Missing cells are empty.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = oneLine(c)
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write prints the table no wider than w's terminal, or than 120 columns where w
// is none: the widest columns are narrowed, and their text goes on in the next
// line. Lines carry no trailing spaces.
func (t *Table) Write(w io.Writer, st Style) error {
	_, err := io.WriteString(w, t.text(Columns(w), st))
	return err
}

func (t *Table) text(columns int, st Style) string {
	widths := fit(t.widths(), t.floors(), columns-Width(t.Indent))
	var b strings.Builder
	if len(t.Header) > 0 {
		t.row(&b, t.Header, widths, func(string, string) func(string) string { return st.Bold })
	}
	color := t.Color
	if color == nil || !st.on {
		color = func(string, string) func(string) string { return nil }
	}
	for _, r := range t.rows {
		t.row(&b, r, widths, color)
	}
	return b.String()
}

const (
	gap     = 2  // between two columns
	narrow  = 12 // no column is made narrower than this
	unsplit = 24 // words up to this width are not broken
)

// floors are how far columns may be narrowed.
func (t *Table) floors() []int {
	out := make([]int, len(t.widths()))
	for i := range out {
		out[i] = narrow
	}
	for _, row := range t.rows {
		for i, c := range row {
			for word := range strings.SplitSeq(c, " ") {
				if w := Width(word); w <= unsplit {
					out[i] = max(out[i], w)
				}
			}
		}
	}
	return out
}

// fit narrows the widest columns until all fit into limit, or none can be
// narrowed any more.
func fit(widths, floors []int, limit int) []int {
	sum := gap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	for ; sum > limit; sum-- {
		widest := -1
		for i, w := range widths {
			if w > floors[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// row writes a row in as many lines as its longest cell takes.
func (t *Table) row(b *strings.Builder, cells []string, widths []int, color func(column, cell string) func(string) string) {
	paints := make([]func(string) string, len(cells))
	parts, height := make([][]string, len(cells)), 1
	for i, c := range cells {
		column := ""
		if i < len(t.Header) {
			column = t.Header[i]
		}
		paints[i] = color(column, c)
		parts[i] = wrap(c, widths[i])
		height = max(height, len(parts[i]))
	}
	for n := range height {
		line := make([]string, len(cells))
		for i, p := range parts {
			if n < len(p) {
				line[i] = p[n]
			}
		}
		t.line(b, line, widths, paints)
	}
}

func (t *Table) widths() []int {
	var out []int
	for _, row := range append([][]string{t.Header}, t.rows...) {
		for i, c := range row {
			if i == len(out) {
				out = append(out, 0)
			}
			out[i] = max(out[i], Width(c))
		}
	}
	return out
}

func (t *Table) line(b *strings.Builder, cells []string, widths []int, paints []func(string) string) {
	last := len(cells) - 1
	for last >= 0 && cells[last] == "" {
		last--
	}
	b.WriteString(t.Indent)
	for i := 0; i <= last; i++ {
		text := cells[i]
		if paints[i] != nil {
			text = paints[i](text)
		}
		b.WriteString(text)
		if i < last {
			b.WriteString(strings.Repeat(" ", widths[i]-Width(cells[i])+gap))
		}
	}
	b.WriteByte('\n')
}

// wrap breaks s, a single line, into lines of at most w columns, between words
// where it can. A word that is too long is broken.
func wrap(s string, w int) []string {
	var out []string
	line := ""
	for word := range strings.SplitSeq(s, " ") {
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= w:
			line += " " + word
		default:
			out, line = append(out, line), word
		}
		for Width(line) > w {
			head := cut(line, w)
			out, line = append(out, head), line[len(head):]
		}
	}
	return append(out, line)
}

// cut is the beginning of s that fits into w columns, at least one rune.
func cut(s string, w int) string {
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > w && i > 0 {
			return s[:i]
		}
	}
	return s
}
