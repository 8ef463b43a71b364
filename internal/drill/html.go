package drill

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed report.html.tmpl
var reportHTML string

// page is what the template sees.
type page struct {
	*Report
	Acked, Lost int
	Took        string
	Met         int
	Run         int // scenarios that were not skipped
	Cards       []card
}

type card struct {
	*Result
	Picture *picture
	Worst   *Run
}

// WriteHTML writes the report as one page that needs nothing else: no script,
// no font, no picture from anywhere.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"format":   func(o Outcome, v float64) string { return o.Format(v) },
		"ago":      func(o Outcome) string { return o.Ago(r.Started) },
		"requests": func(o Outcome) string { return o.Requests() },
		"noise":    func(ms float64) string { return (&Outcome{Unit: InTime}).Format(ms) },
		"bar":      barWidth,
		"headline": headline,
		"when":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"ms":       func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"add":      func(a, b float64) float64 { return round1(a + b) },
	}).Parse(reportHTML)
	if err != nil {
		return err
	}
	p := page{Report: r, Took: (time.Duration(r.TookMS) * time.Millisecond).Round(time.Second).String()}
	p.Acked, p.Lost = r.Writes()
	for _, s := range r.Scenarios {
		c := card{Result: s, Worst: s.worst()}
		if c.Worst != nil {
			c.Picture = draw(c.Worst)
		}
		if s.Verdict != Skipped {
			p.Run++
		}
		if s.Verdict == Met {
			p.Met++
		}
		p.Cards = append(p.Cards, c)
	}
	return t.Execute(w, p)
}

// barWidth is how much of its bound a value used up, in percent, 100 at most.
func barWidth(o Outcome, v float64) float64 {
	if o.Bound <= 0 {
		if v > 0 {
			return 100
		}
		return 0
	}
	return round1(min(100, 100*v/o.Bound))
}

// headline is the check that a scenario's line in the overview shows: the first
// one that was missed, or the first one.
func headline(checks []Outcome) Outcome {
	for _, c := range checks {
		if c.Verdict == Missed {
			return c
		}
	}
	for _, c := range checks {
		if c.Verdict == Unclear {
			return c
		}
	}
	return checks[0]
}
