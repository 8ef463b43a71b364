package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hactl/internal/exitcode"
	"hactl/internal/host"
	"hactl/internal/others"
	"hactl/internal/plan"
	"hactl/internal/preflight"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/inventory"
	"hactl/kubeadm"
)

// UpOptions are the flags of a bring-up.
type UpOptions struct {
	Options
	BringBack []string // hosts that were removed and may come in again
	NoTry     bool     // do not try other flags and files of the apiservers before
}

// Up brings every host to what the inventory says, and looks whether the cluster
// works. Killed anywhere, the next Up goes on.
func Up(ctx context.Context, r Request, o UpOptions) (*Result, error) {
	var made *plan.Plan
	return operation{
		verb: "up",
		phases: []phase{{
			make: func(ctx context.Context, s *session) (p *plan.Plan, err error) {
				s.bringBack = o.BringBack
				p, err = s.makePlan(ctx, func(ctx context.Context) error { return s.mayStart(ctx, o.Ignore) })
				made = p
				return p, err
			},
			before: func(ctx context.Context, s *session) error {
				if !s.established() {
					return nil
				}
				if !o.NoTry {
					if err := s.trySettings(ctx, made); err != nil {
						return err
					}
				}
				return errors.Join(s.recordQuorum(ctx), s.forgetRemoved(ctx))
			},
		}},
		finish: func(_ context.Context, s *session, res *Result) (err error) {
			res.Kubeconfig, err = kubeadm.SaveKubeconfig(s.inv, s.material)
			return err
		},
	}.run(ctx, r, o.Options)
}

// trySettings starts an apiserver with the flags and files of the operator on an empty
// etcd, apart from the cluster, before running apiservers get them. Where it cannot be
// tried, the run goes on: an apiserver that does not come up is put back.
func (s *session) trySettings(ctx context.Context, p *plan.Plan) error {
	k := s.inv.Kubernetes
	due := slices.ContainsFunc(p.Pending(), func(it *plan.Item) bool { return strings.HasSuffix(string(it.Step.ID), "/manifests") })
	if !due || len(k.APIServerExtraArgs)+len(k.Files) == 0 {
		return nil
	}
	c, err := s.cluster()
	if err != nil {
		return err
	}
	there := c.joinedHosts(s.inv.Masters())
	there = slices.DeleteFunc(there, func(m *inventory.Host) bool { return s.hosts[m.Name] == nil })
	if len(there) == 0 {
		return nil
	}
	h := s.hosts[there[0].Name]
	s.Note("trying the apiserver's flags and files, apart from the cluster, on " + h.Name())
	out, err := c.tryAPIServer(ctx, h, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		s.Note("they could not be tried: " + remote.Clean(err.Error()))
		return nil
	}
	if err := out.Err(); err != nil {
		return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s: the apiserver, tried apart from the cluster: %w", h.Name(), err),
			"nothing was changed; mend kubernetes.apiServerExtraArgs or kubernetes.files, then run hactl up again"))
	}
	return nil
}

// Plan is what Up would change. Nothing is changed; hosts in skip may be missing.
func Plan(ctx context.Context, r Request, skip []string) (*plan.Plan, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.everyHost("up", skip); err != nil {
		return nil, err
	}
	return s.makePlan(ctx, nil)
}

// makePlan asks and looks. Before anything is made or changed, mayStart is
// asked: before keys are kept in the store, and before a plan with changes is
// returned. A nil mayStart only looks: missing keys are previewed.
func (s *session) makePlan(ctx context.Context, mayStart func(context.Context) error) (*plan.Plan, error) {
	m, created, err := s.preview(ctx, signing{verb: "up", dry: mayStart == nil})
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	if err := s.refuseRemoved(); err != nil {
		return nil, err
	}
	if mayStart != nil && len(created) > 0 {
		s.preflight = s.preflightOf()
		s.preflight.Begin(ctx) // it takes longer than everything else that is looked at
	}
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	s.noteStrangers()
	if mayStart == nil {
		return s.look(ctx)
	}
	if len(created) == 0 {
		p, err := s.look(ctx)
		if err == nil && len(p.Pending()) > 0 && p.Err() == nil {
			err = mayStart(ctx)
		}
		return p, err
	}
	// There is something to do for sure: both looks at once.
	var p *plan.Plan
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mayStart(gctx) })
	g.Go(func() (err error) { p, err = s.look(gctx); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if p.Err() != nil {
		return p, nil
	}
	if err := s.store.Keep(ctx, m); err != nil {
		return nil, err
	}
	s.Note("made in " + s.store.Dir() + ": " + strings.Join(created, ", "))
	return p, nil
}

// look runs every check of every stage.
func (s *session) look(ctx context.Context) (*plan.Plan, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	stages, err := c.stages()
	if err != nil {
		return nil, err
	}
	p, err := plan.Make(ctx, stages, s.hosts, s)
	if err != nil {
		return nil, err
	}
	p.Record = s.recordMade
	if err := kubeadm.Refused(p); err != nil || !renews(p) {
		return p, err
	}
	return p, s.clocksAgree(ctx)
}

// renews reports whether certificates are signed that kubeadm or a kubelet made.
func renews(p *plan.Plan) bool {
	return slices.ContainsFunc(p.Pending(), func(it *plan.Item) bool {
		return strings.HasSuffix(string(it.Step.ID), "/certificates") || strings.HasSuffix(string(it.Step.ID), "/kubelet-certificate")
	})
}

// preflightOf is a preflight of what is connected. Hosts that are skipped on
// request are not judged, and they judge no other host.
func (s *session) preflightOf() *preflight.Cluster {
	there := *s.inv
	there.Hosts = slices.DeleteFunc(slices.Clone(there.Hosts), func(h inventory.Host) bool { return s.hosts[h.Name] == nil })
	return &preflight.Cluster{Inv: &there, Hosts: s.hosts, TakeOver: s.takeOver, Ask: askOthers(&there), Helper: preflightHelper()}
}

// mayStart runs preflight on what is connected: errors stop, the rest is noted.
func (s *session) mayStart(ctx context.Context, ignore []string) error {
	in := s.preflight
	if in == nil {
		in = s.preflightOf()
	}
	s.addKnown(in)
	rep := preflight.Run(ctx, in, ignore)
	for _, r := range rep.Results {
		for _, g := range r.Grouped() {
			s.Note(fmt.Sprintf("preflight %s: %s: %s%s", r.ID, g.Severity, g.Message, s.hostsOf(g)))
		}
	}
	s.Note(fmt.Sprintf("preflight: %s in %s", ui.Count(len(rep.Results), "check"), ui.Took(rep.Took)))
	if err := rep.Err(); err != nil {
		if rep.Refuses() {
			err = exitcode.With(exitcode.Unsafe, err)
		}
		return remote.Hint(err, "nothing was changed; hactl preflight shows all findings with what to do, --ignore ID goes on without one")
	}
	return nil
}

// askOthers is what a preflight has to ask each host about what belongs to others.
func askOthers(inv *inventory.Inventory) func(*inventory.Host) others.Ask {
	return func(h *inventory.Host) others.Ask {
		a := host.AskOthers(inv, h)
		if inv.Artifacts.OSPackages != "present" {
			a.Packages = host.Packages("apt", h.Role, inv.Artifacts.Source == "mirror")
		}
		return a
	}
}

// hostsOf is the hosts of a finding after its message: "", or " (worker-1..3)".
func (s *session) hostsOf(g preflight.Group) string {
	if len(g.Hosts) == 0 {
		return ""
	}
	return " (" + ui.HostList(g.Hosts, len(s.inv.Hosts)) + ")"
}
