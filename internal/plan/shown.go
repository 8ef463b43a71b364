package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"hactl/internal/remote"
)

// ErrChanged says that a host is no longer as the plan saw it.
var ErrChanged = errors.New("the host changed since the plan was made")

// Then is the change of a step that is in sync now and stays so only until an
// earlier step of the same plan runs. It has to be in the plan, because a step
// that was not shown is not done.
func Then(op Op, what string, acts ...string) *Change {
	return &Change{Op: op, Summary: "then " + what, Acts: acts, Then: true}
}

// acts are what the change does, one act each: its Acts, or else the whole of
// what was shown as one act.
func (c *Change) acts() []string {
	if len(c.Acts) > 0 {
		return c.Acts
	}
	return []string{strings.Join([]string{string(c.Op), c.Summary, c.Pin}, " ")}
}

// differs is an error when now, the change that a fresh look asks for, does
// something that shown did not announce. Less than was shown is fine: another operator or
// an earlier step did a part of it.
func differs(shown, now *Change) error {
	allowed := shown.acts()
	i := slices.IndexFunc(now.acts(), func(act string) bool { return !slices.Contains(allowed, act) })
	if i < 0 {
		return nil
	}
	was, is := shown.Summary, now.Summary
	switch {
	case was != is:
	case shown.Pin != now.Pin:
		was, is = fmt.Sprintf("%s (on %s)", was, shown.Pin), fmt.Sprintf("%s (on %s)", is, now.Pin)
	default:
		was, is = strings.Join(allowed, "; "), now.acts()[i]
	}
	return remote.Hint(fmt.Errorf("%w: the plan showed %q, now it would be %q", ErrChanged, was, is),
		"nothing was changed by this step; see with hactl diff what is due now, then run the command again")
}

// EachOf is for [Script.Acts], where the answer lists what is missing ("missing:
// a b", "is: net.a=0, net.b=1"): one act for each entry. Of NAME=VALUE only the name
// counts. An answer without a colon is one act.
func EachOf(answer string) []string {
	_, list, found := strings.Cut(answer, ":")
	if !found {
		return []string{answer}
	}
	var acts []string
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" ,\n\t", r) }) {
		name, _, _ := strings.Cut(w, "=")
		acts = append(acts, name)
	}
	return acts
}
