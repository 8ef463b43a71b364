package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hactl/internal/plan"
)

// widest is how far the view stretches on a wide terminal: an elapsed time at
// the far end of a line is hard to match with its beginning.
const widest = 110

// marks are the signs of the live view.
type marks struct{ ok, fail, run, note string }

func marksFor(unicode bool) marks {
	if unicode {
		return marks{ok: "✓", fail: "✗", run: "▸", note: "·"}
	}
	return marks{ok: "+", fail: "x", run: ">", note: "-"}
}

// span is a piece of a line with its colour.
type span struct {
	text  string
	color func(Style, string) string
}

// line is one row of the view.
type line []span

func (l line) columns() int {
	n := 0
	for _, s := range l {
		n += Width(s.text)
	}
	return n
}

func (l line) paint(st Style) string {
	var b strings.Builder
	for _, s := range l {
		if s.color == nil {
			b.WriteString(s.text)
			continue
		}
		b.WriteString(s.color(st, s.text))
	}
	return b.String()
}

// finalLine is what e leaves on the screen for good, or "". Errors and notes
// may take several rows; a stage takes one.
func (l *Live) finalLine(e plan.Event, width int) string {
	st := l.style
	switch e.Kind {
	case plan.StageDone:
		mark, sum := st.Green(l.marks.ok), stageSum(l.board.stage(e.Stage))
		if e.Err != "" {
			mark, sum = st.Red(l.marks.fail), "stopped"
		}
		took := fmt.Sprintf("%7s", Took(e.Elapsed))
		room := min(width, 72) - 2 - len(took) - 2
		name := pad(Truncate(e.Stage, room), room*3/5)
		return mark + " " + name + "  " + st.Dim(pad(Truncate(sum, room-Width(name)), room-Width(name))+took)
	case plan.StepFailed:
		return st.Red(l.marks.fail) + " " + string(e.Step) + ": " + st.Red(flat(e.Err))
	case plan.Note:
		return st.Dim(l.marks.note) + " " + flat(join(e.Host, e.Text))
	case plan.StageStart, plan.StepStart, plan.StepSay, plan.StepDone:
	}
	return ""
}

func stageSum(s *openStage) string {
	if s == nil || s.done == 0 {
		return ""
	}
	return Count(s.done, "change") + " on " + Count(len(s.hosts), "host")
}

// view is the live part: every open stage, and under it what each host does.
// No line is wider than width, and there are at most height lines.
func (l *Live) view(width, height int) []line {
	now := l.now()
	width = min(width, widest)
	var out []line
	for _, s := range l.board.stages {
		out = append(out, l.stageLine(s, width, now))
	}
	hosts := l.board.byHost()
	room := height - len(out)
	if len(hosts) == 0 || room < 1 {
		return out[:min(len(out), max(0, height))]
	}
	hidden := 0
	if len(hosts) > room {
		hidden = len(hosts) - room + 1
		room--
		hosts = hosts[:room]
	}
	each := 1
	if len(hosts) > 0 {
		each = min(3, max(1, room/len(hosts)))
	}
	nameCols := 0
	for _, g := range hosts {
		nameCols = max(nameCols, Width(g[0].host))
	}
	nameCols = min(nameCols, width/4)
	for _, g := range hosts {
		out = append(out, l.hostLines(g, each, nameCols, width, now)...)
	}
	if hidden > 0 {
		out = append(out, line{{Truncate("  … and "+Count(hidden, "more host"), width), Style.Dim}})
	}
	return out
}

func (l *Live) stageLine(s *openStage, width int, now time.Time) line {
	left := s.name
	if s.text != "" {
		left += " (" + s.text + ", " + strconv.Itoa(s.done) + " done)"
	}
	right := elapsed(now.Sub(s.started))
	room := max(0, width-2-Width(right))
	return line{
		{l.marks.run + " ", Style.Cyan},
		{pad(Truncate(oneLine(left), room), room), Style.Bold},
		{right, Style.Dim},
	}
}

// elapsed is a duration for the right edge of the view.
func elapsed(d time.Duration) string { return fmt.Sprintf("%8s", Took(d)) }

// hostLines shows the steps that a host works on, its name before the first.
func (l *Live) hostLines(g []*runningStep, most, nameCols, width int, now time.Time) []line {
	shown := liveliest(g, most)
	var out []line
	for i, r := range shown {
		name := ""
		if i == 0 {
			name = r.host
		}
		more, right := "", elapsed(now.Sub(r.started))
		if n := len(g) - len(shown); n > 0 && i == len(shown)-1 {
			more = fmt.Sprintf(" (+%d more)", n)
		}
		room := max(0, width-2-nameCols-2-Width(right))
		if room < 3*Width(more) {
			more = "" // no room for both
		}
		what := describe(r, room-Width(more)) + more
		out = append(out, line{
			{"  " + pad(Truncate(name, nameCols), nameCols) + "  ", nil},
			{pad(what, room), nil},
			{right, Style.Dim},
		})
	}
	return out
}

// describe says what a step does and what it waits for, in at most w columns.
// Where both do not fit, the summary gives way first: what is waited for is
// what one wants to know.
func describe(r *runningStep, w int) string {
	text, say := oneLine(r.text), oneLine(r.say)
	if text == "" {
		text = string(r.id)
	}
	if say == "" {
		return Truncate(text, w)
	}
	if free := w - Width(say) - 2; Width(text) > free {
		text = Truncate(text, max(free, w*2/5))
	}
	return Truncate(text+": "+say, w)
}
