package ui

import (
	"fmt"
	"io"
	"strings"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// ops are the kinds of changes in the order in which they are counted.
var ops = []plan.Op{plan.Create, plan.Update, plan.Delete, plan.Start, plan.Restart, plan.Reload, plan.Do}

// Glyph is the sign of a kind of change: + ~ - > ! and ? for none of them.
func Glyph(op plan.Op) string {
	switch op {
	case plan.Create:
		return "+"
	case plan.Update:
		return "~"
	case plan.Delete:
		return "-"
	case plan.Start, plan.Restart, plan.Reload:
		return ">"
	case plan.Do:
		return "!"
	}
	return "?"
}

func opStyle(st Style, op plan.Op) func(string) string {
	switch op {
	case plan.Create, plan.Start:
		return st.Green
	case plan.Delete:
		return st.Red
	case plan.Update, plan.Restart, plan.Reload, plan.Do:
		return st.Yellow
	}
	return st.Red
}

// WriteFullPlan prints every step that is not in sync, by stage and host, and the
// counts.
func WriteFullPlan(w io.Writer, p *plan.Plan, st Style) error {
	var b strings.Builder
	for _, stage := range p.Stages {
		head := st.Bold(oneLine(stage.Name)) + "\n"
		for _, g := range byHost(stage.Items) {
			b.WriteString(head + "  " + oneLine(g[0].Step.Host) + "\n")
			head = ""
			for _, it := range g {
				b.WriteString("    " + itemLine(it, st) + "\n")
			}
		}
		if head == "" {
			b.WriteByte('\n')
		}
	}
	b.WriteString(PlanSummary(p) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// byHost groups the items that are not in sync, in order of appearance.
func byHost(items []*plan.Item) [][]*plan.Item {
	var out [][]*plan.Item
	at := map[string]int{}
	for _, it := range items {
		if it.Change == nil && it.Err == nil {
			continue
		}
		i, ok := at[it.Step.Host]
		if !ok {
			i = len(out)
			at[it.Step.Host] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], it)
	}
	return out
}

// itemLine is "~ rewrite /etc/x", with what kept the look from saying more.
func itemLine(it *plan.Item, st Style) string {
	if it.Err != nil {
		return st.Red("? " + itemText(it))
	}
	line := opStyle(st, it.Change.Op)(Glyph(it.Change.Op)) + " " + itemText(it)
	if it.Change.Cause != "" {
		line += " (" + oneLine(it.Change.Cause) + ")"
	}
	return line
}

// itemText is the summary of a step, with the title where the summary lacks it,
// or why the host could not be looked at.
func itemText(it *plan.Item) string {
	title := oneLine(it.Step.Title)
	if title == "" {
		title = oneLine(string(it.Step.ID))
	}
	if it.Err != nil {
		return title + ": " + oneLine(it.Err.Error())
	}
	what := oneLine(it.Change.Summary)
	if !strings.Contains(what, title) {
		what = join(title, what)
	}
	return what
}

// PlanSummary is "12 to create, 3 to update, 1 to restart on 3 hosts", or "in
// sync: nothing to do", and how many steps could not be looked at.
func PlanSummary(p *plan.Plan) string {
	counts, hosts := map[plan.Op]int{}, map[string]bool{}
	for _, it := range p.Pending() {
		counts[it.Change.Op]++
		hosts[it.Step.Host] = true
	}
	var parts []string
	for _, op := range ops {
		if n := counts[op]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, op))
		}
	}
	s := "in sync: nothing to do"
	if len(parts) > 0 {
		s = strings.Join(parts, ", ") + " on " + Count(len(hosts), "host")
	}
	unknown := p.Unknown()
	if len(unknown) == 0 {
		return s
	}
	if len(parts) == 0 {
		s = Count(p.InSync(), "step") + " in sync"
	}
	lost := map[string]bool{}
	for _, it := range unknown {
		lost[it.Step.Host] = true
	}
	return s + "; unknown: could not look at " + Count(len(unknown), "step") + " on " + Count(len(lost), "host")
}

// PlanDocument is a plan as JSON: only what is not in sync is listed.
type PlanDocument struct {
	InSync  bool            `json:"in_sync"` // nothing pending and nothing unknown
	Summary string          `json:"summary"`
	Counts  map[plan.Op]int `json:"counts"`
	Unknown int             `json:"unknown"`
	Steps   int             `json:"steps_in_sync"`
	Items   []PlanItem      `json:"items"`
	// SlowHosts is the factor of every wait, left out when it is 1.
	SlowHosts int `json:"slow_hosts,omitempty"`
}

// PlanItem is one step that is not in sync.
type PlanItem struct {
	Stage   string  `json:"stage"`
	Host    string  `json:"host"`
	ID      plan.ID `json:"id"`
	Title   string  `json:"title,omitempty"`
	Op      plan.Op `json:"op,omitempty"` // empty when unknown
	Summary string  `json:"summary,omitempty"`
	Cause   string  `json:"cause,omitempty"` // why the look could not say more
	Secret  bool    `json:"secret,omitempty"`
	Diff    string  `json:"diff,omitempty"`  // unified, secrets masked; only for diff
	Error   string  `json:"error,omitempty"` // why it is unknown
}

// Document turns a plan into its JSON form, with or without diffs.
func Document(p *plan.Plan, diffs bool) PlanDocument {
	d := PlanDocument{
		Summary: PlanSummary(p), Counts: map[plan.Op]int{}, Unknown: len(p.Unknown()), Steps: p.InSync(), Items: []PlanItem{},
	}
	for _, stage := range p.Stages {
		for _, it := range stage.Items {
			if it.Change == nil && it.Err == nil {
				continue
			}
			d.Items = append(d.Items, planItem(stage.Name, it, diffs))
			if it.Err == nil {
				d.Counts[it.Change.Op]++
			}
		}
	}
	d.InSync = len(d.Items) == 0
	return d
}

func planItem(stage string, it *plan.Item, diffs bool) PlanItem {
	out := PlanItem{Stage: stage, Host: it.Step.Host, ID: it.Step.ID, Title: oneLine(it.Step.Title)}
	if it.Err != nil {
		out.Error = remote.Clean(it.Err.Error())
		return out
	}
	c := it.Change
	out.Op, out.Summary, out.Secret = c.Op, oneLine(c.Summary), c.Secret
	out.Cause = oneLine(c.Cause)
	if diffs {
		out.Diff = unified(c)
	}
	return out
}
