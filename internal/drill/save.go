package drill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// reports are the files of a drill.
var reports = []struct {
	name  string
	write func(*Report, io.Writer) error
}{{"drill.json", (*Report).WriteJSON}, {"drill.xml", (*Report).WriteJUnit}, {"drill.html", (*Report).WriteHTML}}

// RemoveReports removes what Save wrote into folder before.
func RemoveReports(folder string) error {
	for _, f := range reports {
		if err := os.Remove(filepath.Join(folder, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Save writes drill.json, drill.xml and drill.html into folder, which is made
// when it is not there, and returns their paths. The figures are added to those that
// later drills are compared with.
func (r *Report) Save(folder string) ([]string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // a report is for others to read
		return nil, err
	}
	var out []string
	for _, f := range reports {
		var b bytes.Buffer
		if err := f.write(r, &b); err != nil {
			return out, fmt.Errorf("%s: %w", f.name, err)
		}
		path := filepath.Join(folder, f.name)
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil { //nolint:gosec // a report is for others to read
			return out, err
		}
		out = append(out, path)
	}
	return out, r.remember(folder)
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Writes counts the acknowledged writes of all runs, and the lost ones.
func (r *Report) Writes() (acked, lost int) {
	for _, s := range r.Scenarios {
		for _, run := range s.Runs {
			acked += run.Acked
			lost += len(run.Lost)
		}
	}
	return acked, lost
}

// Format writes one of the outcome's numbers for a person.
func (o *Outcome) Format(v float64) string {
	switch {
	case o.Unit == InCounts:
		return fmt.Sprintf("%.0f", v)
	case o.Unit == InPercent:
		return fmt.Sprintf("%g %%", v)
	case v >= millis(never):
		return "never"
	case v >= 10000:
		return fmt.Sprintf("%.1f s", v/1000)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// Requests is how many requests of a gap check failed: "826 of 3444", or "" for
// other checks.
func (o *Outcome) Requests() string {
	if o.Sent == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", o.Failed, o.Sent)
}

// worst is the run with the largest value of the first check, or with problems.
func (r *Result) worst() *Run {
	var worst *Run
	score := -1.0
	for _, run := range r.Runs {
		v := run.Values[r.firstCheck()].Measured
		if len(run.Problems) > 0 {
			v += 2 * millis(never)
		}
		if v > score {
			worst, score = run, v
		}
	}
	return worst
}

func (r *Result) firstCheck() string {
	if len(r.Checks) == 0 {
		return ""
	}
	return r.Checks[0].Check
}

// Legend says what the characters of WriteTimeline mean.
const Legend = "F fault, U undo; # answered, ~ a gap or failures, . no success; = who holds it"

// Broke reports whether a fault was in effect in the worst run.
func (r *Result) Broke() bool {
	run := r.worst()
	return run != nil && run.ProvedMS > 0
}

// WriteTimeline draws the worst run of a result with the characters of [Legend],
// unless nothing was broken in it.
func WriteTimeline(w io.Writer, r *Result) {
	if !r.Broke() {
		return
	}
	run := r.worst()
	cell := millis(cellLength(time.Duration(run.EndMS * float64(time.Millisecond))))
	n := int(run.EndMS / cell)
	held := append(lanes("VIP ", run.Owners), lanes("etcd leader ", run.Leaders)...)
	wide := 0
	for _, s := range run.Streams {
		wide = max(wide, len(s.Name))
	}
	for _, l := range held {
		wide = max(wide, len(l.Host))
	}
	mark := []byte(strings.Repeat(" ", n+1))
	mark[min(int(run.UndoMS/cell), n)] = 'U'
	mark[min(int(run.FaultMS/cell), n)] = 'F'
	_, _ = fmt.Fprintf(w, "%s (%s), %.0f ms a character\n%-*s %s\n", r.Name, run.ID, cell, wide+2, "", strings.TrimRight(string(mark), " "))
	for _, s := range run.Streams {
		_, _ = fmt.Fprintf(w, "  %-*s %s  gap %.0f ms, %d of %d failed\n", wide, s.Name, s.line(cell, n), s.GapMS, s.Failed, s.Sent)
	}
	for _, l := range held {
		_, _ = fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-*s %s", wide, l.Host, spansLine(l.Spans, cell, n, '=', ' ')), " "))
	}
	_, _ = fmt.Fprintln(w)
}

// lanes prefixes the hosts' names.
func lanes(prefix string, ls []Lane) []Lane {
	out := make([]Lane, len(ls))
	for i, l := range ls {
		out[i] = Lane{prefix + l.Host, l.Spans}
	}
	return out
}

func (s *StreamReport) line(cell float64, n int) string {
	line := []byte(spansLine(s.Failures, cell, n, '~', '#'))
	for _, o := range s.Outages {
		for i := range line {
			// An outage within a cell is a cell in which only some succeeded.
			from, to := float64(i)*cell, float64(i+1)*cell
			switch {
			case o.From <= from && o.To >= to:
				line[i] = '.'
			case o.From < to && o.To > from && line[i] != '.':
				line[i] = '~'
			}
		}
	}
	return string(line)
}

func spansLine(spans []SpanMS, cell float64, n int, in, out byte) string {
	line := bytes.Repeat([]byte{out}, n)
	for _, s := range spans {
		for i := range line {
			if from := float64(i) * cell; s.From < from+cell && s.To >= from {
				line[i] = in
			}
		}
	}
	return string(line)
}
