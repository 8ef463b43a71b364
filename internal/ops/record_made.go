package ops

import (
	"context"

	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
)

// recordMade is the Record of every plan that makes something on hosts. A host of an
// older hactl has no record yet: what is there as hactl would make it, and what an
// older hactl marked as its own, is hactl's. A host that was never hactl's is noted as
// it is before the first change.
func (s *session) recordMade(ctx context.Context, h remote.Host, made, inSync []plan.Made) error {
	f := s.facts[h.Name()]
	switch {
	case f == nil || f.Owned:
		return plan.WriteOwned(ctx, h, made, "")
	case f.Ours():
		return plan.WriteOwned(ctx, h, append(made, inSync...), "")
	}
	return plan.WriteOwned(ctx, h, made, host.NoteBefore(f.PkgManager))
}
