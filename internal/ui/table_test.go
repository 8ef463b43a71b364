package ui

import (
	"strings"
	"testing"
)

func TestTableFitsItsWidthAndLosesNothing(t *testing.T) {
	table := Table{Header: []string{"CHECK", "HOST", "WHAT"}, Indent: "  "}
	long := strings.Repeat("node-a, node-b, ", 60) + "node-z"
	what := "the file /" + strings.Repeat("x", 150) + " is 文件 in the way"
	table.Add("disk-space", long, what)
	table.Add("short", "", "fine")
	for _, width := range []int{40, 80, 120, 140} {
		text := table.text(width, Style{})
		var joined strings.Builder
		for l := range strings.Lines(text) {
			l = strings.TrimSuffix(l, "\n")
			if Width(l) > width || l != strings.TrimRight(l, " ") {
				t.Errorf("%d columns: %q takes %d", width, l, Width(l))
			}
			joined.WriteString(l)
		}
		if n := strings.Count(text, "x"); n != 150 {
			t.Errorf("%d columns: %d of 150 letters", width, n)
		}
		if n := strings.Count(joined.String(), "node-"); n != 121 {
			t.Errorf("%d columns: %d of 121 hosts", width, n)
		}
	}
}

func TestNarrowTableIsNotPadded(t *testing.T) {
	table := Table{Header: []string{"A", "B"}}
	table.Add("x", "y")
	if got := table.text(120, Style{}); got != "A  B\nx  y\n" {
		t.Errorf("got %q", got)
	}
}
