package drill

import (
	"fmt"
	"strings"
)

// clients say who sends the requests of a stream.
var clients = map[string]string{
	vipReady:  "New connections to the VIP",
	vipRead:   "Reads through the VIP",
	vipWrite:  "Writes through the VIP",
	etcdWrite: "Writes to etcd",
	service:   "Requests to the service",
}

// Sentence says in one sentence what a client noticed, or why nothing can be said.
func (r *Result) Sentence() string {
	if len(r.Checks) == 0 || r.Verdict == Skipped {
		return r.Why()
	}
	h := headline(r.Checks)
	said := h.sentence()
	switch h.Verdict {
	case Missed:
		return said + ": more than the bound of " + h.Format(h.Bound) + "."
	case Unclear:
		return said + "; whether that is within the bound of " + h.Format(h.Bound) + " is unclear: " + h.Why + "."
	}
	return said + ", within the bound of " + h.Format(h.Bound) + "."
}

func (o *Outcome) sentence() string {
	kind, of, _ := strings.Cut(o.Check, " ")
	of, healed := strings.CutSuffix(of, " after the undo")
	who, known := clients[of]
	if !known {
		return fmt.Sprintf("%s: %s", o.Check, o.Format(o.Max))
	}
	after := ""
	if healed {
		after = " after the undo"
	}
	switch Kind(kind) {
	case Gap:
		return fmt.Sprintf("%s had no answer for %s%s", who, o.Format(o.Max), after)
	case Failures:
		return fmt.Sprintf("%s failed %s times%s", who, o.Format(o.Max), after)
	case Loss:
		return fmt.Sprintf("%s: %s of them failed while others succeeded", who, o.Format(o.Max))
	}
	return fmt.Sprintf("%s: %s", o.Check, o.Format(o.Max))
}
