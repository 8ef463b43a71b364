package ui

import (
	"io"
	"strings"
)

// Table is rows under a header, each column as wide as its widest cell. Cells
// are cleaned, so that text from a host may be put in as it came.
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

// Write prints the table; lines carry no trailing spaces.
func (t *Table) Write(w io.Writer, st Style) error {
	widths := t.widths()
	var b strings.Builder
	if len(t.Header) > 0 {
		t.line(&b, t.Header, widths, func(string, string) func(string) string { return st.Bold })
	}
	color := t.Color
	if color == nil || !st.on {
		color = func(string, string) func(string) string { return nil }
	}
	for _, r := range t.rows {
		t.line(&b, r, widths, color)
	}
	_, err := io.WriteString(w, b.String())
	return err
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

func (t *Table) line(b *strings.Builder, cells []string, widths []int, color func(string, string) func(string) string) {
	last := len(cells) - 1
	for last >= 0 && cells[last] == "" {
		last--
	}
	b.WriteString(t.Indent)
	for i := 0; i <= last; i++ {
		gap := widths[i] - Width(cells[i]) + 2
		column := ""
		if i < len(t.Header) {
			column = t.Header[i]
		}
		paint := color(column, cells[i])
		if paint == nil {
			paint = func(s string) string { return s }
		}
		b.WriteString(paint(cells[i]))
		if i < last {
			b.WriteString(strings.Repeat(" ", gap))
		}
	}
	b.WriteByte('\n')
}
