package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/etcd"
	"hactl/internal/bundle"
	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/facts"
	"hactl/internal/host"
	"hactl/internal/network"
	"hactl/internal/plan"
	"hactl/internal/preflight"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/keepalived"
	"hactl/kubeadm"
	"hactl/pki"
)

// session is what an operation works with: the inventory, the connections, what the
// hosts said of themselves, and the store.
type session struct {
	Console
	inv   *inventory.Inventory
	store *pki.Store
	// steady are the hosts that a measurement asks; nil: those of inv.
	steady *inventory.Inventory
	// takeOver are the words of --take-over.
	takeOver []string

	hosts   plan.Hosts
	counted map[string]*remote.Counting
	down    map[string]error // hosts without a connection
	leftOut []string         // those of them that the operator goes on without

	upgrades  bool     // the wanted versions are those that an upgrade walks to
	bringBack []string // removed hosts that up may bring in again
	facts     map[string]*facts.Brief
	disks     map[string]etcd.Disk
	subnets   map[string]netip.Prefix
	nodes     map[string]kubeadm.Node // of the cluster; nil: no apiserver answered
	former    []network.Route         // to the pods of nodes that are in no inventory
	joined    []string                // workers whose kubelet belongs to this cluster
	material  *pki.Material
	identity  *sync.Mutex      // over the identity in material
	control   *kubeadm.Control // one connection to the control plane, for every look of the run

	pace      time.Duration      // between two looks of a gate; 0: a second
	requests  drill.Pace         // of what measures the phases of this run
	looks     int                // good looks in a row that pass a gate; 0: three
	preflight *preflight.Cluster // of which the probes have begun, or nil
}

// gate is what a roll of this run has to pass between hosts.
func (s *session) gate(g *state.Gate) plan.Gate {
	return plan.Gate{Look: g.Look, Within: gateTimeout, Every: s.pace, Looks: s.looks}
}

// open connects to every host of the inventory, but for those that are named, and opens the
// store. It fails only for what makes any look pointless; hosts that do not answer are in down.
func open(ctx context.Context, r Request, but ...string) (*session, error) {
	s := &session{Console: r.Console, inv: r.Inv, takeOver: r.TakeOver, counted: map[string]*remote.Counting{}, identity: new(sync.Mutex), hosts: plan.Hosts{}}
	for _, secret := range host.RegistrySecrets(s.inv) {
		s.Hide(secret)
	}
	var err error
	if s.store, err = pki.Open(s.inv); err != nil {
		return nil, err
	}
	s.store.SignedIn(r.Certs)
	s.down = map[string]error{}
	var hosts []*inventory.Host
	for i := range s.inv.Hosts {
		if h := &s.inv.Hosts[i]; !slices.Contains(but, h.Name) {
			hosts = append(hosts, h)
		}
	}
	s.connect(ctx, hosts)
	return s, nil
}

// connect connects to these hosts; those that do not answer are in down.
func (s *session) connect(ctx context.Context, hosts []*inventory.Host) {
	up, down := remote.ConnectAll(ctx, s.inv, hosts, s.Remote())
	maps.Copy(s.down, down)
	for name, h := range up {
		if faults != nil {
			h = faults(h)
		}
		delete(s.down, name)
		s.counted[name] = remote.NewCounting(h)
		s.hosts[name] = s.counted[name]
	}
}

// load opens the session of a cluster that has a store.
func load(ctx context.Context, r Request) (*session, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.loadStore(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) loadStore(ctx context.Context) error {
	m, err := s.store.Load(ctx)
	if err != nil {
		return remote.Hint(err, "the PKI store is made by hactl up")
	}
	s.secrets(m)
	return nil
}

// faults, when set, wraps the connected hosts of a run. The released binary never
// sets it: only a build with the tag sweep does (connect_sweep.go).
var faults func(remote.Host) remote.Host

// close hangs up.
func (s *session) close() {
	s.control.Close()
	for _, c := range s.counted {
		c.Close()
	}
}

// missing are the hosts that could not be connected and are not in skip, and why.
func (s *session) missing(skip []string) (names []string, errs []error) {
	for i := range s.inv.Hosts {
		name := s.inv.Hosts[i].Name
		if err := s.down[name]; err != nil && !slices.Contains(skip, name) {
			names, errs = append(names, name), append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return names, errs
}

// goOnWithout proposes to leave hosts out by a flag of the verb.
func goOnWithout(verb, flag string, names []string) string {
	return fmt.Sprintf("bring %s back, or go on without: hactl %s --%s %s", strings.Join(names, " and "), verb, flag, strings.Join(names, ","))
}

// everyHost is an error unless all hosts are connected. Hosts named in skip may
// be missing, as long as the masters that are left have a quorum of all that
// the inventory plans; skipping is proposed only where that is so, and where the verb
// has --skip.
func (s *session) everyHost(verb string, skip []string) error {
	names, errs := s.missing(skip)
	masters, left := s.inv.Masters(), 0
	for _, m := range masters {
		if s.hosts[m.Name] != nil {
			left++
		}
	}
	quorum := left >= len(masters)/2+1
	if !quorum && len(errs) == 0 {
		errs = append(errs, exitcode.With(exitcode.Unsafe, fmt.Errorf("%d of %d masters are no quorum; bring more of them back first", left, len(masters))))
	}
	if quorum && len(skip) == 0 && len(names) > 0 && verb != "" {
		return remote.Hint(errors.Join(errs...), "%s", goOnWithout(verb, "skip", names))
	}
	return errors.Join(errs...)
}

// everyHostOrDead is an error unless all hosts are connected or named as dead, and one
// master is connected. It is for a verb that brings a quorum back.
func (s *session) everyHostOrDead(verb string, dead []string) error {
	names, errs := s.missing(dead)
	there := slices.ContainsFunc(s.inv.Masters(), func(m *inventory.Host) bool { return s.hosts[m.Name] != nil })
	switch {
	case !there:
		return errors.Join(append(errs, exitcode.With(exitcode.Unknown, errors.New("no master answers")))...)
	case len(names) > 0:
		return remote.Hint(errors.Join(errs...), "%s", goOnWithout(verb, "dead", append(slices.Clone(dead), names...)))
	}
	return nil
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
	g.Go(func() error { s.nodes = s.askNodes(gctx); return nil })
	err := g.Wait()
	if err == nil {
		err = s.keepVersions()
	}
	if err == nil && subnets != nil {
		s.former = subnets.Reserve(s.inv, s.nodes, s.material.Identity.Removed)
		s.subnets, err = subnets.Assign(s.inv, s.facts)
	}
	return err
}

// nodesWithin bounds the question for the nodes: a plan can do without the answer.
const nodesWithin = 5 * time.Second

// askNodes are the nodes of the cluster; nil while no apiserver answers.
func (s *session) askNodes(ctx context.Context) (nodes map[string]kubeadm.Node) {
	ctx, cancel := wait.Within(ctx, "the nodes", nodesWithin)
	defer cancel()
	if err := s.control.Ask(ctx, func(ctx context.Context, api *kubeadm.API) (err error) {
		nodes, err = api.Nodes(ctx)
		return err
	}); err != nil {
		return nil
	}
	return nodes
}

// noteStrangers names the nodes that are in no inventory.
func (s *session) noteStrangers() {
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		if s.inv.Host(name) == nil {
			s.Note("node " + name + " is " + state.Stranger(s.inv, s.nodes[name]))
		}
	}
}

// gather asks every connected host for its facts, all at once.
func (s *session) gather(ctx context.Context) error {
	var mu sync.Mutex
	found := map[string]*facts.Brief{}
	err := s.eachHost(ctx, func(ctx context.Context, h remote.Host) error {
		f, err := facts.GatherBrief(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		found[h.Name()] = f
		return err
	})
	if err == nil {
		s.facts = found
	}
	return err
}

// eachHost calls ask for every connected host, many at once. The error names the host.
func (s *session) eachHost(ctx context.Context, ask func(context.Context, remote.Host) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(plan.Parallel)
	for i := range s.inv.Hosts {
		h := s.hosts[s.inv.Hosts[i].Name]
		if h == nil {
			continue
		}
		g.Go(func() error {
			if err := ask(ctx, h); err != nil {
				return fmt.Errorf("%s: %w", h.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// secrets registers everything secret of the store, so that no text shows it.
func (s *session) secrets(m *pki.Material) {
	s.material = m
	s.control.Close()
	s.control = &kubeadm.Control{Inv: s.inv, Hosts: s.hosts, PKI: m}
	for _, b := range m.Secrets() {
		s.Hide(string(b))
	}
}

// cluster adds to what was asked what this machine has for the hosts. It is an error
// when hosts and store do not belong together.
func (s *session) cluster() (*cluster, error) {
	c, err := s.unchecked()
	if err != nil {
		return nil, err
	}
	return c, c.etcdPlan().Validate()
}

// unchecked is cluster for a restore, in which hosts and store do not belong together
// yet.
func (s *session) unchecked() (*cluster, error) {
	c := &cluster{session: s}
	var err error
	if c.bundle, err = bundle.Locate(s.inv.Artifacts.Bundle, s.inv.Versions); err != nil {
		return nil, err
	}
	if (keepalived.VIP{Inv: s.inv}).UsesProber() {
		if c.prober, err = findHelper("hactl-prober"); err != nil {
			return nil, err
		}
	}
	if c.network, err = networkProgram(); err != nil {
		return nil, err
	}
	if s.joined, err = kubeadm.Belongs(s.inv, s.facts, s.material); err != nil {
		return nil, err
	}
	return c, nil
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

// dialEtcd connects to the members through ssh.
func (s *session) dialEtcd(ctx context.Context) (*etcd.Cluster, error) {
	tls, err := s.material.TLSConfig()
	if err != nil {
		return nil, err
	}
	return etcd.Dial(ctx, etcd.MembersOf(s.inv, s.hosts), tls)
}
