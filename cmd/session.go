package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/internal/preflight"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/keepalived"
	"hactl/kubeadm"
	"hactl/pki"
)

// session is what a verb that works on hosts has in hand: the inventory, the
// connections, what the hosts said of themselves, and the store.
type session struct {
	*verbRun
	app   *app
	inv   *inventory.Inventory
	store *pki.Store

	hosts    plan.Hosts
	counted  map[string]*remote.Counting
	down     map[string]error // hosts without a connection
	facts    map[string]*facts.Brief
	disks    map[string]etcd.Disk
	subnets  map[string]netip.Prefix
	joined   []string // workers whose kubelet belongs to this cluster
	material *pki.Material
	identity *sync.Mutex      // over the identity in material
	control  *kubeadm.Control // one connection to the control plane, for every look of the run

	preflight *preflight.Cluster // of which the probes have begun, or nil
}

// connect starts the verb's run (see start) and opens the session: store, every
// host. It fails only for what makes any look pointless; hosts that do not
// answer are in down.
func (a *app) connect(c *cobra.Command, stream bool, inv *inventory.Inventory) (*session, error) {
	run, err := a.start(c, stream)
	if err != nil {
		return nil, err
	}
	s := &session{verbRun: run, app: a, inv: inv, counted: map[string]*remote.Counting{}, identity: new(sync.Mutex), hosts: plan.Hosts{}}
	if s.store, err = pki.Open(inv); err != nil {
		return nil, err
	}
	all := make([]*inventory.Host, len(inv.Hosts))
	for i := range inv.Hosts {
		all[i] = &inv.Hosts[i]
	}
	up, down := remote.ConnectAll(c.Context(), inv, all, a.remoteOptions(run))
	s.down = down
	wrap := func(h remote.Host) remote.Host { return h }
	if faults != nil {
		wrap = faults(a.getenv)
	}
	for name, h := range up {
		s.counted[name] = remote.NewCounting(wrap(h))
		s.hosts[name] = s.counted[name]
	}
	return s, nil
}

// close hangs up.
func (s *session) close() {
	s.control.Close()
	for _, c := range s.counted {
		c.Close()
	}
}

// everyHost is an error unless all hosts are connected. Hosts named in skip may
// be missing, as long as the masters that are left have a quorum of all that
// the inventory plans; skipping is proposed only where that is so.
func (s *session) everyHost(skip []string) error {
	var errs []error
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		if err := s.down[name]; err != nil && !slices.Contains(skip, name) {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	masters, left := s.inv.Masters(), 0
	for _, m := range masters {
		if s.hosts[m.Name] != nil {
			left++
		}
	}
	quorum := left >= len(masters)/2+1
	if !quorum && len(errs) == 0 {
		errs = append(errs, withCode(ExitUnsafe, fmt.Errorf("%d of %d masters are no quorum; bring more of them back first", left, len(masters))))
	}
	if quorum && len(skip) == 0 {
		return remote.Hint(errors.Join(errs...), "bring the host back, or go on without it: hactl up --skip HOST")
	}
	return errors.Join(errs...)
}

// ask collects what every plan is made from, all at once: the hosts' facts, and
// what their disks say about etcd and the pod network.
func (s *session) ask(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.gather(gctx) })
	g.Go(func() (err error) { s.disks, err = etcd.Observe(gctx, s.inv, s.hosts); return err })
	var subnets *kubeadm.SeenSubnets
	if kubeadm.OwnSubnets(s.inv) {
		g.Go(func() (err error) { subnets, err = kubeadm.LookForSubnets(gctx, s.inv, s.hosts); return err })
	}
	err := g.Wait()
	if err == nil {
		err = s.keepVersions()
	}
	if err == nil && subnets != nil {
		s.subnets, err = subnets.Assign(s.inv, s.facts)
	}
	return err
}

// gather asks every connected host for its facts, all at once.
func (s *session) gather(ctx context.Context) error {
	s.facts = map[string]*facts.Brief{}
	found := make([]*facts.Brief, len(s.inv.Hosts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(plan.Parallel)
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		if s.hosts[name] == nil {
			continue
		}
		g.Go(func() (err error) {
			if found[i], err = facts.GatherBrief(ctx, s.hosts[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range s.inv.Hosts {
		if found[i] != nil {
			s.facts[s.inv.Hosts[i].Name] = found[i]
		}
	}
	return nil
}

// secrets registers everything secret of the store, so that no text shows it.
func (s *session) secrets(m *pki.Material) {
	s.material = m
	s.control.Close()
	s.control = &kubeadm.Control{Inv: s.inv, Hosts: s.hosts, PKI: m}
	for _, b := range m.Secrets() {
		s.Redact.Add(string(b))
	}
}

// cluster adds to what was asked what this machine has for the hosts.
func (s *session) cluster() (*cluster, error) {
	c := &cluster{session: s}
	var err error
	if c.bundle, err = bundle.Locate(s.inv.Artifacts.Bundle, s.inv.Versions); err != nil {
		return nil, err
	}
	if (keepalived.VIP{Inv: s.inv}).UsesProber() {
		if c.prober, err = findProber(); err != nil {
			return nil, err
		}
	}
	if s.joined, err = kubeadm.Belongs(s.inv, s.facts, s.material); err != nil {
		return nil, err
	}
	return c, c.etcdPlan().Validate()
}

// established reports whether a master knows that the cluster has run.
func (s *session) established() bool { return (&etcd.Plan{Disks: s.disks}).Established() }

// recordQuorum notes in the store, once, that the cluster has run. A store of an
// older hactl gets its identity by it.
func (s *session) recordQuorum(ctx context.Context) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	id := s.material.Identity
	if id.HadQuorum {
		return nil
	}
	id.HadQuorum = true
	if err := s.store.Record(ctx, id); err != nil {
		return err
	}
	s.material.Identity = id
	return nil
}

// findProber looks for hactl-prober beside this executable.
func findProber() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	p := filepath.Join(filepath.Dir(self), "hactl-prober")
	if _, err := os.Stat(p); err != nil {
		return "", remote.Hint(fmt.Errorf("hactl-prober is not beside %s", self), "make build puts both into bin; keep them together, or set vip.prober to false")
	}
	return p, nil
}

// holder names this run in the locks on the hosts.
func holder(verb string) string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	machine, _ := os.Hostname()
	return fmt.Sprintf("%s@%s, pid %d, hactl %s since %s", name, machine, os.Getpid(), verb, time.Now().Format(time.TimeOnly))
}

// lock makes this run the one writer on every connected host, all at once.
func (s *session) lock(ctx context.Context, verb string) (release func(), err error) {
	releases := make([]func(), len(s.inv.Hosts))
	errs := make([]error, len(s.inv.Hosts))
	var g errgroup.Group
	for i := range s.inv.Hosts {
		h := s.hosts[s.inv.Hosts[i].Name]
		if h == nil {
			continue
		}
		g.Go(func() error {
			var err error
			releases[i], err = remote.Lock(ctx, h, holder(verb))
			if err != nil && !errors.As(err, new(*remote.LockedError)) { // which names the host
				err = fmt.Errorf("%s: %w", h.Name(), err)
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait()
	release = func() {
		for _, r := range releases {
			if r != nil {
				r()
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		release()
		return nil, err
	}
	return release, nil
}
