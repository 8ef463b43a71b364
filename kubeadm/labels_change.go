package kubeadm

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hactl/inventory"
)

// edit is what a node needs.
type edit struct {
	node   string
	seen   *markedNode // nil: not a node yet
	before marks       // of those below, what is there
	set    marks
	remove marks
	record marks // what the annotations are to say; nil when they do
}

// editOf compares the node of h with the inventory; nil when nothing is to do.
// Only what the inventory names is set, and only what hactl set and
// what still has hactl's value is removed.
func (c Cluster) editOf(h *inventory.Host, n *markedNode) *edit {
	own := marksOf(h)
	if n == nil {
		if len(own) == 0 {
			return nil // the join sets what else there is
		}
		return &edit{node: h.Name, set: own, record: own}
	}
	want, ours := maps.Clone(own), readRecord(n.Metadata.Annotations)
	if h.Role == inventory.ControlPlane {
		m := mark{controlPlaneTaint.Key, controlPlaneTaint.Effect}
		if slices.Contains(c.Taints(h), controlPlaneTaint) {
			want[m] = ""
		} else {
			ours[m] = ""
		}
	}
	e := &edit{node: h.Name, seen: n, before: marks{}, set: marks{}, remove: marks{}}
	e.compare(want, ours, n.marks())
	for _, a := range []string{labelsRecord, taintsRecord} {
		if n.Metadata.Annotations[a] != own.record(a) {
			e.record = own
		}
	}
	if len(e.set)+len(e.remove) == 0 && e.record == nil {
		return nil
	}
	return e
}

func (e *edit) compare(want, ours, has marks) {
	for m, v := range want {
		was, there := has[m]
		if there && was == v {
			continue
		}
		e.set[m] = v
		if there {
			e.before[m] = was
		}
	}
	for m, v := range ours {
		_, wanted := want[m]
		if was, there := has[m]; there && was == v && !wanted {
			e.remove[m], e.before[m] = v, v
		}
	}
}

// String names everything that would change.
func (e *edit) String() string {
	var out []string
	for _, m := range e.set.sorted() {
		s := m.kind() + " " + m.text(e.set[m])
		if was, ok := e.before[m]; ok {
			s += fmt.Sprintf(" in place of %q", was)
		}
		out = append(out, s)
	}
	for _, m := range e.remove.sorted() {
		out = append(out, "remove "+m.kind()+" "+m.text(e.remove[m]))
	}
	if len(out) == 0 {
		out = []string{"record which labels and taints are hactl's"}
	}
	return e.node + ": " + strings.Join(out, ", ")
}

// unplanned is a removal that is not among these acts, or "".
func (e *edit) unplanned(acts []string) string {
	for l := range strings.Lines(e.remove.lines(e.node)) {
		if l = strings.TrimSuffix(l, "\n"); !slices.Contains(acts, l) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

// patch is a JSON merge patch. A list of taints is replaced as a whole, so it
// holds only for the version of the node that was read.
func (e *edit) patch() map[string]any {
	labels, meta := map[string]any{}, map[string]any{}
	taints, touched := slices.Clone(e.seen.Spec.Taints), false
	without := func(m mark) {
		touched = true
		taints = slices.DeleteFunc(taints, func(t map[string]any) bool { return taintMark(t) == m })
	}
	for m := range e.remove {
		if m.effect == "" {
			labels[m.key] = nil
			continue
		}
		without(m)
	}
	for _, m := range e.set.sorted() {
		if m.effect == "" {
			labels[m.key] = e.set[m]
			continue
		}
		without(m)
		t := map[string]any{"key": m.key, "effect": m.effect}
		if v := e.set[m]; v != "" {
			t["value"] = v
		}
		taints = append(taints, t)
	}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	if e.record != nil {
		meta["annotations"] = e.annotations()
	}
	out := map[string]any{"metadata": meta}
	if touched {
		meta["resourceVersion"] = e.seen.Metadata.ResourceVersion
		out["spec"] = map[string]any{"taints": taints}
	}
	return out
}

func (e *edit) annotations() map[string]any {
	out := map[string]any{labelsRecord: nil, taintsRecord: nil}
	for a := range out {
		if text := e.record.record(a); text != "" {
			out[a] = text
		}
	}
	return out
}
