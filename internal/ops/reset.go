package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hactl/internal/exitcode"
	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/reset"
	"hactl/internal/sys"
	"hactl/internal/ui"
	"hactl/inventory"
	"hactl/kubeadm"
)

// ResetOptions are the flags of a reset.
type ResetOptions struct {
	Options
	Hosts    []string // the hosts to reset; empty with All
	All      bool     // every host of the inventory, and with them the cluster
	Cluster  string   // the cluster's name, typed on the command line
	Data     bool     // delete the data of etcd instead of moving it
	Packages bool     // remove the packages that hactl installed
}

// Reset brings hosts back to what they were before hactl, all at once: by the record
// that each of them keeps. A run that was cut is completed by the next one.
func Reset(ctx context.Context, r Request, o ResetOptions) (*Result, error) {
	if o.All && o.Cluster != "" && o.Cluster != r.Inv.Cluster {
		return &Result{}, exitcode.With(exitcode.Usage, fmt.Errorf("the cluster of %s is %s, not %s", r.Inv.Path, r.Inv.Cluster, o.Cluster))
	}
	return operation{
		verb: "reset", reach: o.reach, leaves: true,
		phases: []phase{{make: o.plan, confirm: o.confirm, after: o.giveUp}},
	}.run(ctx, r, o.Options)
}

// chosen are the hosts to reset, in the inventory's order.
func (o ResetOptions) chosen(s *session) (out []*inventory.Host) {
	for i := range s.inv.Hosts {
		h := &s.inv.Hosts[i]
		if s.hosts[h.Name] != nil && (o.All || slices.Contains(o.Hosts, h.Name)) {
			out = append(out, h)
		}
	}
	return out
}

// reach is an error unless every host to reset is connected. Others may be missing.
func (o ResetOptions) reach(s *session) error {
	names, errs := s.missing(slices.Concat(o.Skip, o.others(s)))
	if len(names) == 0 {
		return nil
	}
	if !o.All {
		return remote.Hint(errors.Join(errs...), "bring %s back, or do not name it", strings.Join(names, " and "))
	}
	return remote.Hint(errors.Join(errs...), "%s", goOnWithout("reset --all", "skip", slices.Concat(o.Skip, names)))
}

// others are the hosts that are not to be reset.
func (o ResetOptions) others(s *session) (names []string) {
	for i := range s.inv.Hosts {
		if name := s.inv.Hosts[i].Name; !o.All && !slices.Contains(o.Hosts, name) {
			names = append(names, name)
		}
	}
	return names
}

// plan reads the records and lists what is taken back.
func (o ResetOptions) plan(ctx context.Context, s *session) (*plan.Plan, error) {
	m, _, err := s.store.Preview(ctx)
	if err != nil {
		return nil, err
	}
	s.secrets(m)
	if err := s.gather(ctx); err != nil {
		return nil, err
	}
	hosts := o.chosen(s)
	if !o.All {
		if err := s.noMembers(ctx, hosts); err != nil {
			return nil, err
		}
	}
	found := make([]reset.Host, len(hosts))
	g, gctx := errgroup.WithContext(ctx)
	for i, h := range hosts {
		g.Go(func() (err error) {
			found[i], err = o.look(gctx, s, h)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := s.adopt(ctx, found); err != nil {
		return nil, err
	}
	stage := plan.Stage{Name: "reset"}
	for _, h := range found {
		if len(h.Made) == 0 {
			s.Note(h.Name + ": nothing on it is hactl's")
			continue
		}
		if h.Others {
			s.Note(h.Name + ": containerd stays, since it runs containers that are not Kubernetes'")
		}
		stage.Steps = append(stage.Steps, h.Steps()...)
	}
	return plan.Make(ctx, []plan.Stage{stage}, s.hosts, s)
}

// look reads what the host knows of its own past.
func (o ResetOptions) look(ctx context.Context, s *session, h *inventory.Host) (reset.Host, error) {
	past, err := remote.Ask(ctx, s.hosts[h.Name], askPast, 0)
	if err != nil {
		return reset.Host{}, fmt.Errorf("%s: %w", h.Name, err)
	}
	return reset.Host{
		Name: h.Name, Made: past.made, Noted: past.noted, Others: past.others,
		PkgManager: s.facts[h.Name].PkgManager, VIP: s.inv.VIP.Address, EtcdData: s.inv.Etcd.DataDir, Data: o.Data, Packages: o.Packages,
	}, nil
}

// past is what a host knows of its own past.
type past struct {
	made   []plan.Made
	noted  bool // what was there before hactl
	others bool // containerd runs containers that are not Kubernetes'
}

var askPast = sys.Question[past]{
	Title: "read the record of the host",
	Script: `is_there ` + plan.OwnedDir + ` || { echo record; echo end; exit; }
cd ` + plan.OwnedDir + ` || exit
[ ! -e ` + host.FormerFolders + ` ] || echo noted
for d in /run/containerd/io.containerd.runtime.v2.task/*/*; do case $d in */k8s.io/*|*'*'*) ;; *) echo others; break ;; esac; done
echo record
[ ! -e owned.json ] || cat owned.json || exit
echo; echo end`,
	Parse: func(answer string) (past, error) {
		lines, err := sys.Lines(answer)
		i := slices.Index(lines, "record")
		if err != nil || i < 0 {
			return past{}, sys.Unreadable(answer)
		}
		return past{plan.ReadOwned(strings.Join(lines[i+1:], "\n")), slices.Contains(lines[:i], "noted"), slices.Contains(lines[:i], "others")}, nil
	},
}

// adopt completes the records of hosts of an older hactl, which have none: what is there
// as hactl would make it, or carries its mark, is hactl's. The rest stays.
func (s *session) adopt(ctx context.Context, hosts []reset.Host) error {
	missing := func(h reset.Host) bool { return len(h.Made) == 0 && s.facts[h.Name].Ours() }
	if !slices.ContainsFunc(hosts, missing) {
		return nil
	}
	if err := s.ask(ctx); err != nil {
		return err
	}
	p, err := s.look(ctx)
	if err != nil {
		return err
	}
	for i, h := range hosts {
		if missing(h) {
			made, inSync := p.Makes(h.Name)
			hosts[i].Made = slices.DeleteFunc(append(made, inSync...), func(m plan.Made) bool { return m.Former.SHA256 != "" || m.Former.File })
		}
	}
	return nil
}

// noMembers refuses to reset a host that a running cluster with other hosts counts on.
// A cluster that cannot be asked is not taken for one that is gone.
func (s *session) noMembers(ctx context.Context, hosts []*inventory.Host) error {
	goes := func(name string) bool {
		return slices.ContainsFunc(hosts, func(h *inventory.Host) bool { return h.Name == name })
	}
	joined := slices.ContainsFunc(hosts, func(h *inventory.Host) bool { return s.facts[h.Name].KubeletCA != "" })
	if !joined || !slices.ContainsFunc(s.inv.Hosts, func(h inventory.Host) bool {
		return !goes(h.Name) && (s.facts[h.Name] == nil || s.facts[h.Name].KubeletCA != "")
	}) {
		return nil // it has joined nothing, or no other host is left
	}
	var nodes map[string]kubeadm.Node
	err := s.control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) (err error) {
		nodes, err = api.Nodes(ctx)
		return err
	})
	if err != nil {
		return exitcode.With(exitcode.Unknown, remote.Hint(fmt.Errorf("ask the cluster whether it still counts on the host: %w", err),
			"hactl reset --all gives the whole cluster up"))
	}
	var still []string
	for _, h := range hosts {
		if _, is := nodes[h.Name]; is {
			still = append(still, h.Name)
		}
	}
	members, err := s.memberNames(ctx)
	if err != nil {
		return exitcode.With(exitcode.Unknown, fmt.Errorf("ask etcd whether it still counts on the host: %w", err))
	}
	for _, h := range hosts {
		if slices.Contains(members, h.Name) && !slices.Contains(still, h.Name) {
			still = append(still, h.Name)
		}
	}
	if len(still) == 0 {
		return nil
	}
	return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("still part of the running cluster %s: %s", s.inv.Cluster, inventory.Ranges(still)),
		"take it out of the cluster first: hactl remove %s; or give the whole cluster up: hactl reset --all", strings.Join(still, " ")))
}

// memberNames are the members of etcd, by name.
func (s *session) memberNames(ctx context.Context) ([]string, error) {
	c, err := s.dialEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	return names, nil
}

func (o ResetOptions) confirm(ctx context.Context, s *session, p *plan.Plan) error {
	q := o.question(s, p)
	if q.Yes {
		return nil
	}
	return s.Confirm(ctx, q)
}

// question asks for the cluster's name where the cluster goes.
func (o ResetOptions) question(s *session, p *plan.Plan) Question {
	q := Question{
		Show:       func(w io.Writer, st ui.Style) error { return ui.WritePlan(w, p, o.Full, st) },
		Text:       "\nApply this?",
		Yes:        o.Yes || len(p.Pending()) == 0,
		NoTerminal: ui.Count(len(p.Pending()), "step") + " would change something, and there is no terminal to ask on",
		Undone:     "nothing was changed",
	}
	// A run that was cut may have left only the store to be told.
	if o.All && (len(p.Pending()) > 0 || s.material.Identity.HadQuorum) {
		q.Text = fmt.Sprintf("\nThe cluster %s is given up with everything in it.", s.inv.Cluster)
		q.Word, q.Yes = s.inv.Cluster, o.Cluster == s.inv.Cluster
		q.NoTerminal = "there is no terminal to type the cluster's name on; give it with --cluster " + s.inv.Cluster
	}
	return q
}

// giveUp notes in the store that the cluster is gone: the next one made from it is of
// another generation, and a host that was left out cannot come back into it.
func (o ResetOptions) giveUp(ctx context.Context, s *session) error {
	id := s.material.Identity
	if !o.All || !id.HadQuorum {
		return nil
	}
	id.HadQuorum, id.Removed = false, nil
	id.Generation++
	if err := s.store.Record(ctx, id); err != nil {
		return err
	}
	s.material.Identity = id
	return nil
}
