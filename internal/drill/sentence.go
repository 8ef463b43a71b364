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
	inWrite:   "Writes on the isolated side",
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

// happened says what a figure of a check without a client of its own stands for.
var happened = map[Kind]string{
	Owners:      "Two hosts had the VIP at the same time for %s",
	Held:        "No host had the VIP for %s",
	Stays:       "The VIP moved %s times",
	NewLeader:   "There was a new leader after %s",
	Rescheduled: "All replicas were ready on other nodes after %s",
	Restart:     "The apiserver was ready again after %s",
}

// done says the same for checks of a client's requests.
var done = map[Kind]string{
	Gap:      "%s had no answer for %s",
	Failures: "%s failed %s times",
	Loss:     "%s: %s of them failed while others succeeded",
	Back:     "%s succeeded again %s after the undo began",
	Refused:  "%s were still taken for %s",
}

func (o *Outcome) sentence() string {
	kind, of, _ := strings.Cut(o.Check, " ")
	after := ""
	if strings.HasSuffix(o.Check, "after the undo") {
		after = " after the undo"
	}
	if text, known := happened[Kind(kind)]; known {
		return fmt.Sprintf(text, o.Format(o.Max)) + after
	}
	who, text := clients[strings.TrimSuffix(of, after)], done[Kind(kind)]
	if who == "" || text == "" {
		return fmt.Sprintf("%s: %s", o.Check, o.Format(o.Max))
	}
	return fmt.Sprintf(text, who, o.Format(o.Max)) + after
}
