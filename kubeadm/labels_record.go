package kubeadm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hactl/inventory"
)

// Annotations of a node that hold the labels and taints that hactl set there
// and the values it gave them: without them, a label that has left the
// inventory could not be told from one that others put on the node.
const (
	labelsRecord = "hactl.io/labels"
	taintsRecord = "hactl.io/taints"
)

// controlPlaneTaint keeps ordinary pods off a master. kubeadm sets it, so it is
// in no record: on masters it follows kubernetes.schedulableMasters.
var controlPlaneTaint = inventory.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"}

// mark is a label, or with an effect a taint, of a node.
type mark struct{ key, effect string }

// text is the mark with a value as kubectl writes it.
func (m mark) text(value string) string {
	switch {
	case m.effect == "":
		return m.key + "=" + value
	case value == "":
		return m.key + ":" + m.effect
	}
	return m.key + "=" + value + ":" + m.effect
}

func (m mark) kind() string {
	if m.effect == "" {
		return "label"
	}
	return "taint"
}

func compareMarks(a, b mark) int {
	return cmp.Or(cmp.Compare(a.effect, b.effect), cmp.Compare(a.key, b.key))
}

// marks are labels and taints with their values.
type marks map[mark]string

// marksOf are a host's own in the inventory.
func marksOf(h *inventory.Host) marks {
	out := marks{}
	for k, v := range h.Labels {
		out[mark{key: k}] = v
	}
	for _, t := range h.Taints {
		out[mark{t.Key, t.Effect}] = t.Value
	}
	return out
}

// sorted are the marks in a fixed order, labels first.
func (m marks) sorted() []mark { return slices.SortedFunc(maps.Keys(m), compareMarks) }

// record is the text of one of the annotations; empty for none.
func (m marks) record(annotation string) string {
	var out []string
	for _, k := range m.sorted() {
		if (k.effect == "") == (annotation == labelsRecord) {
			out = append(out, k.text(m[k]))
		}
	}
	return strings.Join(out, ",")
}

// readRecord is the opposite of record, for both annotations. It leaves out
// what it cannot read: that is never removed.
func readRecord(annotations map[string]string) marks {
	out := marks{}
	for s := range strings.SplitSeq(annotations[labelsRecord], ",") {
		if k, v, ok := strings.Cut(s, "="); ok {
			out[mark{key: k}] = v
		}
	}
	for s := range strings.SplitSeq(annotations[taintsRecord], ",") {
		if i := strings.LastIndexByte(s, ':'); i > 0 {
			k, v, _ := strings.Cut(s[:i], "=")
			out[mark{k, s[i+1:]}] = v
		}
	}
	return out
}

// lines are the marks as lines of a diff.
func (m marks) lines(node string) string {
	var b strings.Builder
	for _, k := range m.sorted() {
		fmt.Fprintf(&b, "%s %s %s\n", node, k.kind(), k.text(m[k]))
	}
	return b.String()
}

// markedNode is the part of a node that labels and taints need.
type markedNode struct {
	Metadata struct {
		Name, ResourceVersion string
		Labels, Annotations   map[string]string
	}
	Spec struct {
		Taints []map[string]any // whole, since they are written back whole
	}
}

func word(v any) string { s, _ := v.(string); return s }

func taintMark(t map[string]any) mark { return mark{word(t["key"]), word(t["effect"])} }

func (n *markedNode) marks() marks {
	out := marks{}
	for k, v := range n.Metadata.Labels {
		out[mark{key: k}] = v
	}
	for _, t := range n.Spec.Taints {
		out[taintMark(t)] = word(t["value"])
	}
	return out
}
