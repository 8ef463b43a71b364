package cmd

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/drill"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

// listDrills prints the scenarios.
func (a *app) listDrills() error {
	if a.json() {
		return a.printJSON(drill.Catalogue())
	}
	t := ui.Table{Header: []string{"SCENARIO", "BOUND", "UNDONE", "NEEDS", "WHAT HAPPENS"}}
	for _, s := range drill.Catalogue() {
		t.Add(s.Name, s.Checks[0].Bound+" "+s.Checks[0].Check, s.Undone, strings.Join(s.Needs, ", "), s.Summary)
	}
	return t.Write(a.stdout, a.style())
}

// printDrill shows the result: a line per check, the timeline of each
// scenario's worst run, and what went wrong.
func (a *app) printDrill(rep *drill.Report) {
	st := a.style()
	t := ui.Table{Header: []string{"SCENARIO", "CHECK", "RUNS", "BEFORE", "SEEN", "NOISE", "P50", "P95", "MAX", "BOUND", "FAILED", "VERDICT"}, Color: func(column, cell string) func(string) string {
		if column != "VERDICT" {
			return nil
		}
		return verdictColour(st, cell)
	}}
	for _, r := range rep.Scenarios {
		if len(r.Checks) == 0 {
			t.Add(r.Name, ui.Truncate(r.Why(), whyWidth), "", "", "", "", "", "", "", "", "", r.Verdict)
		}
		for i, c := range r.Checks {
			name, verdict := "", c.Verdict
			if i == 0 {
				name = r.Name
			}
			if i == 0 && r.Verdict == drill.Failed {
				verdict = drill.Failed
			}
			t.Add(name, c.Check, fmt.Sprint(len(c.Values)), ofGap(c, c.Before), different(c), noiseOf(c), c.Format(c.P50), c.Format(c.P95), c.Format(c.Max), c.Format(c.Bound), c.Requests(), verdict)
		}
	}
	if slices.ContainsFunc(rep.Scenarios, (*drill.Result).Broke) {
		fmt.Fprintf(a.stdout, "%s\n\n", drill.Legend)
	}
	for _, r := range rep.Scenarios {
		drill.WriteTimeline(a.stdout, r)
	}
	if rep.Reason != "" {
		fmt.Fprintf(a.stdout, "%s %s\n", st.Red("problem:"), remote.Clean(rep.Reason))
	} else {
		_ = t.Write(a.stdout, st)
		a.printEarlier(rep)
		acked, lost := rep.Writes()
		fmt.Fprintf(a.stdout, "\n%s acknowledged while things were broken, %d lost\n", ui.Count(acked, "write"), lost)
	}
	for _, r := range rep.Scenarios {
		for _, c := range r.Checks {
			if c.Verdict == drill.Unclear {
				fmt.Fprintf(a.stdout, "%s %s, %s: %s\n", st.Yellow("unclear:"), r.Name, c.Check, remote.Clean(c.Why))
			}
		}
		if r.Verdict == drill.Failed && r.Reason != "" {
			fmt.Fprintf(a.stdout, "%s %s: %s\n", st.Red("problem:"), r.Name, remote.Clean(r.Reason))
		}
		for _, run := range r.Runs {
			for _, p := range run.Problems {
				fmt.Fprintf(a.stdout, "%s %s: %s\n", st.Red("problem:"), run.ID, remote.Clean(p))
			}
		}
	}
	fmt.Fprintf(a.stdout, "verdict: %s, %s\n", verdictColour(st, rep.Verdict)(rep.Verdict), ui.Took(time.Duration(rep.TookMS)*time.Millisecond))
}

// printEarlier shows the first figure of each scenario beside those of earlier drills,
// where there are any.
func (a *app) printEarlier(rep *drill.Report) {
	t := ui.Table{Header: []string{"SCENARIO", "CHECK", "NOW", "EARLIER"}}
	known := false
	for _, r := range rep.Scenarios {
		if len(r.Checks) == 0 {
			continue
		}
		c := r.Checks[0]
		if ago := c.Ago(rep.Started); ago != "" {
			t.Add(r.Name, c.Check, c.Format(c.Max), ago)
			known = true
		}
	}
	if known {
		fmt.Fprintln(a.stdout)
		_ = t.Write(a.stdout, a.style())
	}
}

// whyWidth is how much of a reason stands in the table, in columns; the whole of
// it is below.
const whyWidth = 60

// ofGap formats what only gaps have: "" for other checks.
func ofGap(c drill.Outcome, v float64) string {
	if v == 0 {
		return ""
	}
	return c.Format(v)
}

// different is what was seen, where that is not what the fault did.
func different(c drill.Outcome) string {
	if c.Seen == c.Max {
		return ""
	}
	return c.Format(c.Seen)
}

func noiseOf(c drill.Outcome) string {
	if c.Noise == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f ms", c.Noise)
}

func verdictColour(st ui.Style, verdict string) func(string) string {
	switch verdict {
	case drill.Met:
		return st.Green
	case drill.Skipped:
		return st.Dim
	case drill.Unclear:
		return st.Yellow
	}
	return st.Red
}

// drillView shows a drill while it runs: a line per phase, and on a terminal the
// timeline of every stream, repainted in place.
type drillView struct {
	w       io.Writer
	log     func(format string, args ...any)
	mu      sync.Mutex
	painter *ui.Painter // nil where there is no terminal
}

func (a *app) drillView(run *verbRun) *drillView {
	v := &drillView{w: a.stderr, log: run.Log.Printf}
	v.painter, _ = ui.NewPainter(a.stderr, a.uiOptions())
	return v
}

func (v *drillView) observer() drill.Observer {
	o := drill.Observer{Say: v.say}
	if v.painter != nil {
		o.Frame = v.frame
	}
	return o
}

func (v *drillView) say(text string) {
	text = remote.Clean(text)
	v.log("%s", text)
	v.mu.Lock()
	defer v.mu.Unlock()
	said := time.Now().Format(time.TimeOnly) + "  " + text
	if v.painter == nil {
		fmt.Fprintln(v.w, said)
		return
	}
	v.painter.Paint([]string{said})
}

func (v *drillView) frame(f drill.Frame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.painter.Paint(nil, frameLines(f)...)
}

func (v *drillView) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.painter != nil {
		v.painter.Paint(nil)
	}
}

func frameLines(f drill.Frame) []string {
	lines := []string{fmt.Sprintf("  %s: %s, %s   VIP: %s   etcd leader: %s", f.Scenario, f.Phase, ui.Took(f.Elapsed),
		orNobody(f.Owner), orNobody(f.Leader))}
	wide := 0
	for _, r := range f.Rows {
		wide = max(wide, len(r.Name))
	}
	lines = append(lines, fmt.Sprintf("  %-*s %s", wide, "", f.Mark))
	for _, r := range f.Rows {
		gap := ""
		if r.GapMS > 0 {
			gap = fmt.Sprintf("  gap %.0f ms", r.GapMS)
		}
		lines = append(lines, fmt.Sprintf("  %-*s %s%s", wide, r.Name, r.Cells, gap))
	}
	return lines
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
