package drill

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Geometry of a picture, in the units of its view box.
const (
	labelWidth = 190.0
	plotWidth  = 780.0
	rightWidth = 90.0
	laneHeight = 15.0
	lanePitch  = 21.0
	groupGap   = 12.0
	topHeight  = 34.0
	axisHeight = 30.0
)

// picture is a run laid out for the template: nothing but numbers and labels.
type picture struct {
	Width, Height float64
	PlotX, PlotY  float64
	PlotW, PlotH  float64
	Fault         box // the time between the fault and its undo
	Rows          []pictureRow
	Groups        []pictureLabel
	Marks         []pictureMark
	Ticks         []pictureLabel
	Alt           string
}

type pictureRow struct {
	Y, Mid float64
	Label  string
	Value  string // right of the row
	Bad    bool
	Title  string
	Boxes  []box
}

// box is a part of a row; Class is its meaning.
type box struct {
	X, W  float64
	Class string
	Title string
}

type pictureMark struct {
	X      float64
	Label  string
	Anchor string
	Class  string
	TextY  float64
}

type pictureLabel struct {
	X, Y float64
	Text string
}

// drawing places times of one run on the x axis.
type drawing struct {
	run *Run
	end float64
}

func (d drawing) x(ms float64) float64 {
	return round1(labelWidth + plotWidth*math.Min(math.Max(ms, 0), d.end)/d.end)
}

func (d drawing) box(s SpanMS, class, title string) box {
	x, to := d.x(s.From), d.x(s.To)
	return box{X: x, W: round1(math.Max(to-x, 1.5)), Class: class, Title: title}
}

func round1(v float64) float64 { return math.Round(v*10) / 10 }

// draw lays out a run.
func draw(run *Run) *picture {
	d := drawing{run, math.Max(run.EndMS, 1)}
	p := &picture{Width: labelWidth + plotWidth + rightWidth, PlotX: labelWidth, PlotY: topHeight, PlotW: plotWidth}
	y := topHeight + 4
	group := ""
	for _, s := range run.Streams {
		if g, _, _ := strings.Cut(s.Name, "/"); g != group {
			if group != "" {
				y += groupGap
			}
			group = g
		}
		p.Rows = append(p.Rows, d.stream(s, y))
		y += lanePitch
	}
	for _, lanes := range []struct {
		what, class string
		of          []Lane
	}{{"VIP on ", "owner", run.Owners}, {"etcd led by ", "leader", run.Leaders}} {
		y += groupGap
		for _, l := range lanes.of {
			row := pictureRow{Y: y, Mid: y + laneHeight - 3.5, Label: lanes.what + l.Host}
			for _, s := range l.Spans {
				row.Boxes = append(row.Boxes, d.box(s, lanes.class, fmt.Sprintf("%s%s from %s to %s", lanes.what, l.Host, d.clock(s.From), d.clock(s.To))))
			}
			p.Rows = append(p.Rows, row)
			y += lanePitch
		}
	}
	y += groupGap
	machine := pictureRow{Y: y, Mid: y + laneHeight - 3.5, Label: "machine slow"}
	for _, n := range run.Noise {
		machine.Boxes = append(machine.Boxes, d.box(n, "noise", fmt.Sprintf("for %.0f ms, from %s", n.To-n.From, d.clock(n.From))))
	}
	p.Rows = append(p.Rows, machine)
	y += lanePitch
	p.PlotH = y - topHeight
	p.Height = y + axisHeight
	d.marks(p)
	d.ticks(p)
	p.Alt = fmt.Sprintf("Availability over time of run %s", run.ID)
	return p
}

// clock is a time as seen from the fault.
func (d drawing) clock(ms float64) string { return fmt.Sprintf("%+.2f s", (ms-d.run.FaultMS)/1000) }

func (d drawing) stream(s StreamReport, y float64) pictureRow {
	row := pictureRow{Y: y, Mid: y + laneHeight - 3.5, Label: s.Name, Title: s.LastErr}
	row.Boxes = append(row.Boxes, d.box(SpanMS{0, d.end}, "ok", "answered"))
	for _, f := range s.Failures {
		row.Boxes = append(row.Boxes, d.box(f, "some", "some requests failed, from "+d.clock(f.From)))
	}
	for _, o := range s.Outages {
		row.Boxes = append(row.Boxes, d.box(o, "down", fmt.Sprintf("no success for %.0f ms, from %s", o.To-o.From, d.clock(o.From))))
	}
	for _, e := range s.Excused {
		row.Boxes = append(row.Boxes, d.box(e, "noise", fmt.Sprintf("the machine stood still for %.0f ms of it", e.To-e.From)))
	}
	o := Outcome{Unit: "ms"}
	row.Value = o.Format(s.GapMS)
	if v, ok := d.run.Values[noFailure(s.Name).Name()]; ok && v.Verdict == Missed {
		row.Value = fmt.Sprintf("%.0f failed", v.Measured)
	}
	row.Bad = d.run.missed(s.Name)
	return row
}

// missed reports whether a bound of a stream was missed.
func (r *Run) missed(stream string) bool {
	for name, v := range r.Values {
		if v.Verdict == Missed && slices.Contains(strings.Fields(name), stream) {
			return true
		}
	}
	return false
}

// marks are the fault, its proof, the undo and the recovery. Labels that would
// run into one another go to two lines.
func (d drawing) marks(p *picture) {
	r := d.run
	if r.ProvedMS == 0 {
		return
	}
	p.Fault = d.box(SpanMS{r.FaultMS, r.UndoMS}, "held", "")
	last := -1000.0
	for _, m := range []struct {
		at           float64
		label, class string
	}{{r.FaultMS, "fault", "m-fault"}, {r.UndoMS, "undo", "m-undo"}, {r.HealedMS, "healthy", "m-healed"}} {
		if m.at == 0 {
			continue
		}
		x := d.x(m.at)
		mark := pictureMark{X: x, Label: m.label, Class: m.class, Anchor: "start", TextY: topHeight - 6}
		if m.label == "undo" { // to the left: health follows closely
			mark.Anchor = "end"
		}
		if x-last < 80 && mark.Anchor == "end" || x > labelWidth+plotWidth-50 && last > x-60 {
			mark.TextY -= 13
		}
		last = x
		p.Marks = append(p.Marks, mark)
	}
}

// ticks counts seconds from the fault, at most a dozen of them.
func (d drawing) ticks(p *picture) {
	step := 500.0
	for _, s := range []float64{500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000} {
		if step = s; d.end/s <= 14 {
			break
		}
	}
	// Steps from the fault, which is 0: whole numbers know no -0.
	for n := -int(d.run.FaultMS / step); ; n++ {
		at := float64(n) * step
		if at+d.run.FaultMS > d.end {
			break
		}
		p.Ticks = append(p.Ticks, pictureLabel{X: d.x(at + d.run.FaultMS), Y: topHeight + p.PlotH + 16, Text: fmt.Sprintf("%g s", at/1000)})
	}
}
