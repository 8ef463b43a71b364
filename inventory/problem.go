package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with an inventory, where, and what to
// write instead.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when the file as a whole is meant
	Column  int    `json:"column,omitempty"` // from 1; 0 when only the line is known
	Path    string `json:"path,omitempty"`   // "hosts[1].address"
	What    string `json:"what"`             // `"10.0.0" is not a DNS name or an IP address`
	Instead string `json:"instead"`          // "write a name such as node-1.example.com"
}

// String is the problem in one line, in the form that editors jump to.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.What)
	if p.Instead != "" {
		b.WriteString("; " + p.Instead)
	}
	return b.String()
}

// Problems is every problem of a file, in the order of its lines. It is the
// only type of error that [Load] and [Parse] return.
type Problems []Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Error makes each problem an error of its own.
func (p Problem) Error() string { return p.String() }

// Unwrap returns the problems one by one.
func (ps Problems) Unwrap() []error {
	out := make([]error, len(ps))
	for i, p := range ps {
		out[i] = p
	}
	return out
}

// inOrder sorts by position and drops what was found twice.
func (ps Problems) inOrder() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return slices.Compact(ps)
}

// moreProblems is what the last problem says when others were left out.
const moreProblems = "there are more problems"

// Count is "1 problem", "2 problems" or "100 problems and more".
func (ps Problems) Count() string {
	n := len(ps)
	switch {
	case n == 1:
		return "1 problem"
	case n > 0 && ps[n-1].What == moreProblems:
		return fmt.Sprintf("%d problems and more", n-1)
	}
	return fmt.Sprintf("%d problems", n)
}

// quote shows a piece of a file to a person: escaped, so that it cannot garble
// a terminal, and cut short at the first line end, so that a private key pasted
// into the file does not end up in a log.
func quote(s string) string {
	const most = 60
	line, _, cut := strings.Cut(s, "\n")
	if len(line) > most {
		line, cut = strings.ToValidUTF8(line[:most], ""), true
	}
	if cut {
		return fmt.Sprintf("%q...", line)
	}
	return fmt.Sprintf("%q", line)
}
