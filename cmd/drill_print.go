package cmd

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

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

// drillPainter shows a drill while it runs: a line per phase, and on a
// terminal the timeline of every stream, repainted in place.
type drillPainter struct {
	w     io.Writer
	log   func(format string, args ...any)
	size  func() (width, height int)
	live  bool
	mu    sync.Mutex
	lines int // of the last frame
}

func (a *app) drillPainter(run *verbRun) *drillPainter {
	p := &drillPainter{w: a.stderr, log: run.Log.Printf, size: func() (int, int) { return 80, 24 }}
	if f, ok := a.stderr.(*os.File); ok && ui.IsTerminal(a.stderr) && a.getenv("TERM") != "dumb" {
		p.live = true
		p.size = func() (int, int) {
			w, h, err := term.GetSize(int(f.Fd()))
			if err != nil || w <= 0 || h <= 0 {
				return 80, 24
			}
			return w, h
		}
	}
	return p
}

func (p *drillPainter) observer() drill.Observer {
	o := drill.Observer{Say: p.say}
	if p.live {
		o.Frame = p.frame
	}
	return o
}

func (p *drillPainter) say(text string) {
	text = remote.Clean(text)
	p.log("%s", text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.w, "%s  %s\n", time.Now().Format(time.TimeOnly), text)
}

func (p *drillPainter) frame(f drill.Frame) {
	width, height := p.size()
	lines := frameLines(f)
	if n := height - 1; len(lines) > n {
		lines = slices.Clip(lines[:max(n, 0)])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	for _, l := range lines {
		fmt.Fprintln(p.w, ui.Truncate(l, width-1))
	}
	p.lines = len(lines)
}

// erase goes up over the last frame and clears from there.
func (p *drillPainter) erase() {
	if p.lines > 0 {
		fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.lines)
	}
	p.lines = 0
}

func (p *drillPainter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
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
