package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"hactl/internal/bundle"
	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/internal/sys"
	"hactl/inventory"
	"hactl/kubeadm"
)

// obstacle is something that may be in the way of an upgrade. find returns everything that
// is. One with ignore can be left out of account by --ignore ID.
type obstacle struct {
	id     string
	ignore bool
	find   func(context.Context) []error
}

// refuse asks for everything that is in the way, and returns all of it as one error.
func (u *upgrade) refuse(ctx context.Context, c *cluster, gate *state.Gate, p *plan.Plan) error {
	list := []obstacle{
		{"cluster", false, func(ctx context.Context) []error { return wellNow(ctx, gate, outIn(p)) }},
		{"hosts", false, func(context.Context) []error { return u.hosts(c) }},
		{"versions", false, func(ctx context.Context) []error { return u.versions(ctx, c) }},
		{"certificates", false, func(ctx context.Context) []error { return c.expireSoon(ctx, time.Now().Add(7*24*time.Hour)) }},
		{"disk", true, func(ctx context.Context) []error { return c.room(ctx, p) }},
		{"budgets", true, func(ctx context.Context) []error { return c.budgets(ctx, p) }},
		{"deprecated", true, func(ctx context.Context) []error { return c.deprecated(ctx, outIn(p)) }},
	}
	found := make([][]error, len(list))
	var wg sync.WaitGroup
	for i, o := range list {
		if o.ignore && slices.Contains(u.Ignore, o.id) {
			continue
		}
		wg.Go(func() { found[i] = o.find(ctx) })
	}
	wg.Wait()
	var errs []error
	hint := "nothing was changed; mend these, then run hactl upgrade again"
	for i, o := range list {
		for _, err := range found[i] {
			errs = append(errs, fmt.Errorf("%s: %w", o.id, err))
			if o.ignore {
				hint = "nothing was changed; mend these, then run hactl upgrade again (--ignore ID goes on with one of disk, budgets, deprecated)"
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return exitcode.With(exitcode.Unsafe, remote.Hint(errors.Join(errs...), "%s", hint))
}

// outIn are the hosts that an earlier run took out and did not put back.
func outIn(p *plan.Plan) (names []string) {
	for _, it := range p.Pending() {
		id := string(it.Step.ID)
		if !it.Change.Then && (strings.HasPrefix(id, "roll/") && strings.HasSuffix(id, "-back") || strings.HasSuffix(id, "/uncordon")) {
			names = append(names, it.Step.Host)
		}
	}
	return names
}

// wellNow is what the gate would wait for. A single bad look may be a busy moment.
func wellNow(ctx context.Context, gate *state.Gate, out []string) []error {
	var err error
	for range 3 {
		if err = gate.Look(ctx, out); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return []error{ctx.Err()}
		case <-time.After(time.Second):
		}
	}
	var all interface{ Unwrap() []error }
	if errors.As(err, &all) {
		return all.Unwrap()
	}
	return []error{err}
}

// hosts are those that the upgrade cannot leave out.
func (u *upgrade) hosts(c *cluster) (errs []error) {
	for i := range c.inv.Hosts {
		h := &c.inv.Hosts[i]
		switch {
		case c.hosts[h.Name] == nil && h.Role == inventory.ControlPlane:
			errs = append(errs, fmt.Errorf("master %s is not there: every master has to be, or etcd and the apiservers would stay of two versions", h.Name))
		case c.hosts[h.Name] != nil && !c.isNode(h):
			errs = append(errs, fmt.Errorf("%s has not joined the cluster: bring it in first, with the versions that run (hactl up)", h.Name))
		}
	}
	if n := len(c.inv.Masters()); n < 3 && !u.AcceptDowntime {
		errs = append(errs, fmt.Errorf("with %d masters the API and etcd are down while one of them changes; permit it with --accept-downtime", n))
	}
	return errs
}

// versions compares the wanted versions with what units, records and processes say.
func (u *upgrade) versions(ctx context.Context, c *cluster) []error {
	if err := knownSet(c.inv.Versions); err != nil {
		return []error{err}
	}
	seen := []map[string][]string{c.running(0), c.running(1), c.running(2)}
	note := func(part int, version, where string) {
		if version == "" {
			return
		}
		if !slices.Contains(seen[part][version], where) {
			seen[part][version] = append(seen[part][version], where)
		}
	}
	var errs []error
	if nodes, err := c.control.AskNodes(ctx); err != nil {
		errs = append(errs, fmt.Errorf("list the nodes: %w", err))
	} else {
		for name, n := range nodes {
			if c.inv.Host(name) != nil {
				note(0, n.Version, name)
			}
		}
	}
	serving, err := c.nodes().Serving(ctx, c.hosts, c.control)
	if err != nil {
		errs = append(errs, err)
	}
	for name, components := range serving {
		for _, v := range components {
			note(0, v, name)
		}
	}
	risen, err := c.etcdVersions(ctx, func(v, where string) { note(1, v, where) })
	if err != nil {
		errs = append(errs, err)
	}
	for i, part := range versionOf {
		for v := range seen[i] {
			slices.Sort(seen[i][v])
		}
		errs = append(errs, wayTo(part.field, *part.wanted(&c.inv.Versions), seen[i], u.Abort, risen)...)
	}
	return errs
}

// etcdVersions tells the version of each member. risen says that all of them have a newer
// minor than the wanted one: the cluster's version has risen with them.
func (c *cluster) etcdVersions(ctx context.Context, note func(version, where string)) (risen bool, err error) {
	e, err := c.dialEtcd(ctx)
	if err != nil {
		return false, err
	}
	defer e.Close()
	risen = true
	for _, m := range e.Status(ctx).Members {
		if m.Version == "" {
			continue
		}
		v := "v" + strings.TrimPrefix(remote.Clean(m.Version), "v")
		note(v, m.Name)
		risen = risen && semver.Compare(semver.MajorMinor(v), semver.MajorMinor(c.inv.Versions.Etcd)) > 0
	}
	return risen, nil
}

// expireSoon are the certificates that end before then.
func (c *cluster) expireSoon(ctx context.Context, then time.Time) []error {
	var mu sync.Mutex
	var errs []error
	for _, e := range c.material.Report() {
		if e.NotAfter.Before(then) {
			errs = append(errs, fmt.Errorf("%s expires on %s: hactl certs renew", e.Name, e.NotAfter.Format(time.DateOnly)))
		}
	}
	err := c.eachHost(ctx, func(ctx context.Context, h remote.Host) error {
		certs, err := kubeadm.Certificates(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		for _, e := range certs {
			if e.NotAfter.Before(then) {
				errs = append(errs, fmt.Errorf("%s: %s expires on %s: hactl certs renew", h.Name(), e.Name, e.NotAfter.Format(time.DateOnly)))
			}
		}
		return err
	})
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

// spareRoom is left on a disk after everything was brought, in bytes.
const spareRoom = 500 << 20

// room looks whether what is to be brought fits onto the hosts' disks. An image lies there
// as an archive, as its content, and unpacked.
func (c *cluster) room(ctx context.Context, p *plan.Plan) []error {
	sizes := map[string]int64{}
	for _, a := range c.bundle.Artifacts {
		size := a.Size
		if a.Kind == bundle.Image {
			size *= 3
		}
		sizes[a.Name] = size
	}
	need := map[string]int64{}
	for _, it := range p.Stages[0].Items {
		if it.Change == nil {
			continue
		}
		for name, size := range sizes {
			if strings.HasSuffix(string(it.Step.ID), "/binary-"+name) || slices.Contains(it.Change.Acts, "import "+name) {
				need[it.Step.Host] += size
			}
		}
	}
	var mu sync.Mutex
	var errs []error
	err := c.eachHost(ctx, func(ctx context.Context, h remote.Host) error {
		if need[h.Name()] == 0 {
			return nil
		}
		free, err := remote.Ask(ctx, h, sys.FreeAt(plan.Programs, "/var/lib/containerd", "/var/lib/hactl"), 10*time.Second)
		if err != nil {
			return err
		}
		least := slices.MinFunc(free, func(a, b sys.Free) int { return cmp.Compare(a.Bytes, b.Bytes) })
		if want := need[h.Name()] + spareRoom; least.Bytes < want {
			mu.Lock()
			errs = append(errs, fmt.Errorf("%s: %d MB are free at %s, and programs and images take up to %d", h.Name(), least.Bytes>>20, remote.Clean(least.Mount), want>>20))
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

// budgets are the disruption budgets that would hold a drain up.
func (s *session) budgets(ctx context.Context, p *plan.Plan) []error {
	drained := slices.ContainsFunc(p.Pending(), func(it *plan.Item) bool { return strings.HasSuffix(string(it.Step.ID), "/drain") })
	if !drained {
		return nil
	}
	names, err := s.control.BlockedBudgets(ctx)
	if err != nil {
		return []error{fmt.Errorf("list disruption budgets: %w", err)}
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, fmt.Errorf("disruption budget %s allows no pod to leave: a drain would wait until its time is over", n))
	}
	return errs
}

// deprecated are the APIs that clients still use and that the wanted minor does not have.
func (c *cluster) deprecated(ctx context.Context, out []string) []error {
	target := c.inv.Versions.Kubernetes
	if !c.changesMinor(0) {
		return nil
	}
	ask := maps.Clone(c.hosts)
	for _, name := range out { // its apiserver may be on its way to another version
		delete(ask, name)
	}
	used, err := c.nodes().RemovedAPIs(ctx, ask, minor(target))
	var errs []error
	for _, api := range used {
		errs = append(errs, fmt.Errorf("clients use %s, which %s does not have", api, semver.MajorMinor(target)))
	}
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}
