package ops

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
	"hactl/pki"
)

// RequestsDir is the folder of the cluster's signing requests, beside its inventory.
func RequestsDir(inv *inventory.Inventory) string {
	return filepath.Join(filepath.Dir(inv.Path), "requests-"+inv.Cluster)
}

// signing says what an operation does about certificates that an authority has to sign whose key
// is not here.
type signing struct {
	verb string // the command that goes on, without --certs
	all  bool   // also those that serve still are waited for, not only those that are needed
	dry  bool   // nothing is written
}

// preview is the store with what it lacks. Where certificates have to be signed elsewhere,
// the requests are written, and the operation ends before anything else is changed.
func (s *session) preview(ctx context.Context, o signing) (*pki.Material, []string, error) {
	m, created, err := s.store.Preview(ctx)
	var refused *pki.RefusedError
	if errors.As(err, &refused) {
		return nil, nil, exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("signed certificates do not serve:\n%w", refused.Err),
			"nothing was changed; have the requests in %s signed as they are, then run the same command again", RequestsDir(s.inv)))
	}
	if err == nil && len(created) > 0 { // something is signed
		err = s.clocksAgree(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(m.Waiting) == 0 {
		return m, created, nil
	}
	if !o.all && !slices.ContainsFunc(m.Waiting, func(q pki.Request) bool { return q.Needed }) {
		for _, q := range m.Waiting {
			s.Note(q.Name + " " + q.Reason + " and waits for a signature of the " + q.CA + ": hactl certs renew writes the request")
		}
		return m, created, nil
	}
	next := fmt.Sprintf("have the requests in %s signed, put the certificates into a folder as NAME.crt, then: hactl %s --certs FOLDER", RequestsDir(s.inv), o.verb)
	if o.dry {
		next = fmt.Sprintf("nothing was written; hactl %s writes the requests to %s", o.verb, RequestsDir(s.inv))
	} else if err := s.store.WriteRequests(ctx, m, RequestsDir(s.inv)); err != nil {
		return nil, nil, err
	}
	what := named(m.Waiting)
	return nil, nil, exitcode.With(exitcode.Unsafe, remote.Hint(
		fmt.Errorf("%s for a signature, and the key of the authority is not here: %s", waits(len(what)), strings.Join(what, ", ")), "%s", next))
}

func waits(n int) string {
	if n == 1 {
		return "1 certificate waits"
	}
	return ui.Count(n, "certificate") + " wait"
}

// waiting are the certificates that an authority has to sign whose key is not here.
func (s *session) waiting(ctx context.Context) ([]string, error) {
	m, _, err := s.store.Preview(ctx)
	if err != nil {
		return nil, err
	}
	return named(m.Waiting), nil
}

// named are requests as they are shown.
func named(requests []pki.Request) (out []string) {
	for _, q := range requests {
		out = append(out, q.Name+" ("+q.CA+": "+q.Reason+")")
	}
	return out
}
