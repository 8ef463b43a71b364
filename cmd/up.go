package cmd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hactl/internal/plan"
	"hactl/internal/preflight"
	"hactl/internal/remote"
	"hactl/internal/ui"
	"hactl/internal/verify"
	"hactl/inventory"
	"hactl/kubeadm"
)

// upOptions are the flags of up.
type upOptions struct {
	yes      bool
	dryRun   bool
	timeline bool
	full     bool // every step of the plan
	skip     []string
	ignore   []string // preflight checks
	force    bool
}

// verifyTimeout bounds how long up waits for nodes and workloads after its
// last step.
const verifyTimeout = 3 * time.Minute

func (a *app) upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring the hosts to what the inventory says, then look whether it works",
		Long: `Bring every host of the inventory to what it says: look at all of them, show what
would change, change it, and verify the cluster from outside. It can be killed
at any moment and run again; on a cluster that is as it should be it changes
nothing.`,
		Example: `  hactl up -i inventory.yaml
  hactl up --yes -o json
  hactl up --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkIgnored(o.ignore); err != nil {
				return err
			}
			switch {
			case o.dryRun && o.force:
				return usagef("--dry-run takes no lock: leave --force-unlock out")
			case o.dryRun:
				return a.plan(c, planOptions{full: o.full, skip: o.skip})
			}
			return a.up(c, o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before changing hosts")
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would change, as hactl plan does")
	fullFlag(c, &o.full)
	f.BoolVar(&o.timeline, "timeline", false, "print the critical path of the run")
	f.StringSliceVar(&o.skip, "skip", nil, "go on without this `host` if it does not answer; a quorum of masters must be left")
	f.StringSliceVar(&o.ignore, "ignore", nil, "`id` of a preflight check whose findings do not count; repeat for more")
	f.BoolVar(&o.force, "force-unlock", false, "break the lock of another run, saying whose it was")
	_ = c.RegisterFlagCompletionFunc("skip", a.completeHosts())
	_ = c.RegisterFlagCompletionFunc("ignore", completeChecks)
	return c
}

func (a *app) up(c *cobra.Command, o upOptions) error {
	ctx := c.Context()
	inv, err := a.loadInventory()
	if err != nil {
		return err
	}
	if err := a.checkHosts(inv, o.skip); err != nil {
		return err
	}
	s, err := a.connect(c, eventStream, inv)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.everyHost(o.skip); err != nil {
		return err
	}
	if o.force {
		if err := s.breakLocks(ctx); err != nil {
			return err
		}
	}
	release, err := s.lock(ctx, "up")
	if err != nil {
		return err
	}
	defer release()
	p, err := s.makePlan(ctx, func(ctx context.Context) error { return s.mayStart(ctx, o.ignore) })
	if err != nil {
		return err
	}
	if err := p.Err(); err != nil {
		return remote.Hint(err, "nothing was changed; see what is wrong with these hosts, then run hactl up again")
	}
	path := []plan.Timing{{Stage: "look and check", Start: s.Started, End: time.Now()}}
	if err := a.confirmPlan(ctx, p, o); err != nil {
		return err
	}
	if s.established() {
		if err := s.recordQuorum(ctx); err != nil {
			return err
		}
	}
	applied, err := p.Apply(ctx, s.hosts, s.verbRun, a.signal.Stop())
	changed := time.Now()
	path = append(path, plan.CriticalPath(applied.Timings)...)
	if o.timeline {
		defer func() {
			s.endProgress()
			a.printTimeline(path)
		}()
	}
	if err != nil {
		return remote.Hint(err, "%s done and kept; hactl up goes on from here", ui.Count(applied.Done, "step"))
	}
	err = s.finishUp(ctx, applied, o.skip)
	path = append(path, plan.Timing{Stage: "verify", Start: changed, End: time.Now()})
	return err
}

// finishUp verifies, saves the kubeconfig and says what came of it, the hosts in
// skip left out if they do not answer.
func (s *session) finishUp(ctx context.Context, applied *plan.Applied, skip []string) error {
	trips := 0 // up to the first look at the whole; waiting is not counted
	skip = slices.DeleteFunc(skip, func(name string) bool { return s.hosts[name] != nil })
	seen := s.verified(true)
	seen.Skip = skip
	rep := verify.Wait(ctx, seen, verifyTimeout, func(text string) {
		trips = cmp.Or(trips, s.trips())
		s.note(text)
	})
	trips = cmp.Or(trips, s.trips())
	path, err := kubeadm.SaveKubeconfig(s.inv, s.material)
	if err != nil {
		return err
	}
	s.endProgress()
	if s.app.json() {
		if err := s.app.printJSON(map[string]any{"kind": "result", "changed": applied.Done, "kubeconfig": path, "trips": trips, "status": rep}); err != nil {
			return err
		}
	} else {
		s.app.printReport(rep)
		what := fmt.Sprintf("%s changed", ui.Count(applied.Done, "step"))
		if applied.Done == 0 {
			what = "in sync: nothing was changed"
		}
		fmt.Fprintf(s.app.stdout, "\n%s, %s after the start\nkubeconfig: %s\n", what, ui.Took(time.Since(s.Started)), path)
		if len(skip) > 0 {
			fmt.Fprintf(s.app.stdout, "left out, as asked: %s; hactl up brings them in once they answer\n", inventory.Ranges(skip))
		}
	}
	if !rep.Healthy {
		return withCode(ExitUnhealthy, remote.Hint(fmt.Errorf("the cluster is up but not healthy"), "hactl status shows what is missing"))
	}
	return nil
}

// verified is the cluster as verify wants it.
func (s *session) verified(write bool) verify.Cluster {
	return verify.Cluster{Inv: s.inv, Hosts: s.hosts, Down: s.down, PKI: s.material, Control: s.control, Write: write}
}

// makePlan asks and looks. Before anything is made or changed, mayStart is
// asked: before keys are kept in the store, and before a plan with changes is
// returned. A nil mayStart only looks: missing keys are previewed.
func (s *session) makePlan(ctx context.Context, mayStart func(context.Context) error) (*plan.Plan, error) {
	m, created, err := s.store.Preview(ctx)
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	if mayStart != nil && len(created) > 0 {
		s.preflight = s.preflightOf()
		s.preflight.Begin(ctx) // it takes longer than everything else that is looked at
	}
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
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
	s.note("made in " + s.store.Dir() + ": " + strings.Join(created, ", "))
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
	return p, kubeadm.Refused(p)
}

// preflightOf is a preflight of what is connected. Hosts that are skipped on
// request are not judged, nor is anybody by them.
func (s *session) preflightOf() *preflight.Cluster {
	there := *s.inv
	there.Hosts = slices.DeleteFunc(slices.Clone(there.Hosts), func(h inventory.Host) bool { return s.hosts[h.Name] == nil })
	return &preflight.Cluster{Inv: &there, Hosts: s.hosts}
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
			s.note(fmt.Sprintf("preflight %s: %s: %s%s", r.ID, g.Severity, g.Message, s.hostsOf(g)))
		}
	}
	s.note(fmt.Sprintf("preflight: %s in %s", ui.Count(len(rep.Results), "check"), ui.Took(rep.Took)))
	if err := rep.Err(); err != nil {
		return remote.Hint(err, "nothing was changed; hactl preflight shows all findings with what to do, --ignore ID goes on without one")
	}
	return nil
}

// hostsOf is the hosts of a finding after its message: "", or " (worker-1..3)".
func (s *session) hostsOf(g preflight.Group) string {
	if len(g.Hosts) == 0 {
		return ""
	}
	return " (" + hostList(g.Hosts, len(s.inv.Hosts)) + ")"
}

// confirmPlan shows the plan and asks, unless there is nothing to ask about.
func (a *app) confirmPlan(ctx context.Context, p *plan.Plan, o upOptions) error {
	n := len(p.Pending())
	if n == 0 || o.yes {
		return nil
	}
	return a.confirm(ctx, question{
		show:       func() error { return writePlan(a.stderr, p, o.full, a.errStyle()) },
		text:       "\nApply this?",
		noTerminal: ui.Count(n, "step") + " would change something, and there is no terminal to ask on",
		undone:     "nothing was changed",
	})
}

// trips is the largest number of round trips to one host so far.
func (s *session) trips() int {
	n := 0
	for _, c := range s.counted {
		n = max(n, c.Trips())
	}
	return n
}

// printTimeline prints the critical path from the start of the run: for each
// stage the lane that took longest, step by step with their parts, so that the
// next second to be won is visible.
func (a *app) printTimeline(path []plan.Timing) {
	t := ui.Table{Header: []string{"AT", "TOOK", "STAGE", "STEP"}}
	add := func(start, end time.Time, stage, step string) {
		t.Add(ui.Took(start.Sub(path[0].Start)), ui.Took(end.Sub(start)), stage, step)
	}
	for _, k := range path {
		add(k.Start, k.End, k.Stage, string(k.Step))
		for _, p := range k.Parts {
			add(p.Start, p.End, "", "- "+p.Name)
		}
	}
	fmt.Fprintln(a.stderr, "critical path:")
	_ = t.Write(a.stderr, a.style())
}
