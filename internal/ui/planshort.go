package ui

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"hactl/internal/plan"
	"hactl/inventory"
)

const (
	// fewCreated is how many new things of one kind a short plan names one by
	// one; fewChanged is the same for things that are there already.
	fewCreated = 3
	fewChanged = 8
	// fitting is how wide a text may be, in columns, before its remark in brackets
	// is left out.
	fitting = 66
)

// WritePlan prints p in its short form, or with full every step of it.
func WritePlan(w io.Writer, p *plan.Plan, full bool, st Style) error {
	if full {
		return WriteFullPlan(w, p, st)
	}
	return WriteShortPlan(w, p, st)
}

// WriteShortPlan prints what is not in sync on one screen: for each stage what
// is done, in how many steps, on which hosts. Steps of one kind share a line, and
// so do hosts. What is removed, restarted or run is always named in full.
// WriteFullPlan has every step.
func WriteShortPlan(w io.Writer, p *plan.Plan, st Style) error {
	t := Table{Header: []string{"STAGE", "STEPS", "WHAT", "HOSTS"}, Color: func(column, cell string) func(string) string {
		if column == "WHAT" {
			return glyphStyle(st, cell)
		}
		return nil
	}}
	short := false
	for _, stage := range p.Stages {
		name := stage.Name
		for _, r := range rowsOf(stage.Items) {
			short = short || r.short
			t.Add(name, fmt.Sprint(r.steps), r.glyph()+" "+r.text, inventory.Ranges(r.hosts))
			name = ""
		}
	}
	if t.Len() > 0 {
		if err := t.Write(w, st); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	more := ""
	if short {
		more = "; --full lists every step"
	}
	_, err := fmt.Fprintln(w, PlanSummary(p)+more)
	return err
}

func glyphStyle(st Style, cell string) func(string) string {
	for _, op := range ops {
		if strings.HasPrefix(cell, Glyph(op)+" ") {
			return opStyle(st, op)
		}
	}
	if strings.HasPrefix(cell, "? ") {
		return st.Red
	}
	return nil
}

// planRow is one line of a short plan.
type planRow struct {
	op    plan.Op // "" when the step is unknown
	kind  string  // the step's id without its host
	texts []string
	text  string
	each  string // the text with "each" in the place of the step's own host
	hosts []string
	steps int
	short bool // something was left out
}

func (r *planRow) glyph() string { return Glyph(r.op) }

// rowsOf groups the steps of a stage that are not in sync: first hosts with the
// same step, then steps of the same verb on the same hosts.
func rowsOf(items []*plan.Item) []*planRow {
	return byVerb(byStep(items))
}

// byStep puts the hosts of a step together. Steps whose op or, where it must be
// shown in full, whose text differs are rows of their own.
func byStep(items []*plan.Item) []*planRow {
	var rows []*planRow
	for _, it := range items {
		if it.Change == nil && it.Err == nil {
			continue
		}
		r := rowOf(it)
		i := slices.IndexFunc(rows, func(o *planRow) bool {
			return o.op == r.op && o.kind == r.kind && (!r.inFull() || o.each == r.each)
		})
		if i < 0 {
			rows = append(rows, r)
			continue
		}
		if rows[i].each != r.each {
			rows[i].each = ""
		}
		rows[i].texts = append(rows[i].texts, r.text)
		rows[i].hosts = append(rows[i].hosts, r.hosts...)
		rows[i].steps++
	}
	for _, r := range rows {
		if r.each != "" && r.steps > 1 {
			r.texts = []string{r.each}
		}
		r.text, r.short = common(r.texts)
		if remark := strings.Index(r.text, " ("); remark > 0 && Width(r.text) > fitting && !r.inFull() {
			r.text, r.short = r.text[:remark]+" …", true
		}
	}
	return rows
}

// inFull reports whether a person must see every text of r.
func (r *planRow) inFull() bool {
	return r.op == plan.Delete || r.op == plan.Restart || r.op == plan.Do || r.op == ""
}

func rowOf(it *plan.Item) *planRow {
	r := &planRow{hosts: []string{it.Step.Host}, steps: 1}
	r.kind = strings.Replace(string(it.Step.ID), "/"+it.Step.Host+"/", "/", 1)
	if it.Err == nil {
		r.op = it.Change.Op
	}
	r.text = itemText(it)
	r.each = forEach(r.text, it.Step.Host)
	r.texts = []string{r.text}
	return r
}

// forEach puts "each" in the place of a host's name, which stands in the column of hosts.
func forEach(text, host string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		if w == host {
			words[i] = "each"
		}
	}
	return strings.Join(words, " ")
}

// common is what all texts begin with, up to a word, and whether anything was
// left out. A remark in brackets is left out as a whole.
func common(texts []string) (text string, short bool) {
	words := strings.Fields(texts[0])
	n := len(words)
	for _, t := range texts[1:] {
		for i, w := range strings.Fields(t) {
			if i < n && words[i] != w {
				n = i
			}
		}
		n = min(n, len(strings.Fields(t)))
	}
	if n == len(words) && !slices.ContainsFunc(texts, func(t string) bool { return t != texts[0] }) {
		return texts[0], false
	}
	text = strings.Join(words[:n], " ")
	if open := strings.LastIndex(text, " ("); open > strings.LastIndex(text, ")") {
		text = text[:open]
	}
	return text + " …", true
}

// byVerb puts rows together that differ only in what their verb is about, such
// as the files that are written on the same hosts.
func byVerb(rows []*planRow) []*planRow {
	var out []*planRow
	objects := map[*planRow][]string{}
	for _, r := range rows {
		verb, object := cutVerb(r.text)
		i := slices.IndexFunc(out, func(o *planRow) bool {
			v, _ := cutVerb(o.text)
			return verb != "" && v == verb && o.op == r.op && !o.short && slices.Equal(o.hosts, r.hosts)
		})
		if i < 0 || r.inFull() || r.short {
			out = append(out, r)
			objects[r] = []string{object}
			continue
		}
		objects[out[i]] = append(objects[out[i]], object)
		out[i].steps += r.steps
	}
	for _, r := range out {
		if all := objects[r]; len(all) > 1 {
			verb, _ := cutVerb(r.text)
			r.text, r.short = list(r.op, verb, all)
		}
	}
	return out
}

// verbs are those whose objects can be told in a list.
var verbs = []string{"write", "rewrite", "install", "replace", "enable and start", "enable"}

// cutVerb is the verb of a text and what it is about; the verb is "" for a text
// that is a line of its own.
func cutVerb(text string) (verb, object string) {
	for _, v := range verbs {
		if object, ok := strings.CutPrefix(text, v+" "); ok && !strings.Contains(object, "(") {
			return v, object
		}
	}
	return "", text
}

// list writes the objects of a verb: all of them where they are few, otherwise
// how many and the folders or the first of them.
func list(op plan.Op, verb string, objects []string) (text string, short bool) {
	for i, o := range objects { // "kubelet v1.36.3 at /usr/bin/kubelet"
		objects[i], _, _ = strings.Cut(o, " at /")
	}
	few := fewChanged
	if op == plan.Create {
		few = fewCreated
	}
	switch {
	case len(objects) <= few || !slices.ContainsFunc(objects, path.IsAbs):
		return verb + " " + strings.Join(objects, ", "), false
	case slices.ContainsFunc(objects, func(o string) bool { return !path.IsAbs(o) }):
		return fmt.Sprintf("%s %s and %d more", verb, strings.Join(objects[:few], ", "), len(objects)-few), true
	}
	var folders []string
	for _, o := range objects {
		if d := folder(o); !slices.Contains(folders, d) {
			folders = append(folders, d)
		}
	}
	return fmt.Sprintf("%s %d files in %s", verb, len(objects), strings.Join(folders, ", ")), true
}

// folder is the second level of a path at most: where a person looks for it.
func folder(file string) string {
	parts := strings.SplitN(path.Dir(file), "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}
