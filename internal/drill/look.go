package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// State is what was seen of a healthy cluster.
type State struct {
	Owner   string            // host that holds the VIP
	Leader  string            // host whose etcd member leads
	Holders map[string]string // of the leases that a scenario asks for, by name: HOST_PROCESS
}

// Look sees whether everything is healthy and nothing of an earlier drill is
// left. The error names all that is not as it must be.
func (c *Cluster) Look(ctx context.Context) (*State, error) {
	ctx, cancel := wait.Within(ctx, "one look at the cluster", lookBound)
	defer cancel()
	var v survey
	if err := v.requests(ctx, c); err != nil {
		return nil, err
	}
	v.hosts(ctx, c, c.Members)
	v.wg.Wait()
	s := &State{}
	v.note(exactlyOne("owner of the VIP", v.owners, &s.Owner))
	v.note(exactlyOne("etcd leader", v.leaders, &s.Leader))
	return s, v.err()
}

// lookBound is how long a look may take, and askBound one request of it. One that is lost,
// since the VIP moves at that moment say, must not use up the time of a wait for health.
const (
	lookBound = 20 * time.Second
	askBound  = 5 * time.Second
)

// answers is the part of a look that is requests alone. It starts no program on
// the hosts, which share their processors with what a drill times.
func (c *Cluster) answers(ctx context.Context) error {
	ctx, cancel := wait.Within(ctx, "one look at the cluster", lookBound)
	defer cancel()
	var v survey
	if err := v.requests(ctx, c); err != nil {
		return err
	}
	v.wg.Wait()
	var leader string
	v.note(exactlyOne("etcd leader", v.leaders, &leader))
	return v.err()
}

// whoNow asks the masters alone who owns the VIP and whose etcd member leads,
// whatever else is the matter with them: their undo is armed by now.
func (c *Cluster) whoNow(ctx context.Context) (owner, leader string, err error) {
	ctx, cancel := wait.Within(ctx, "who owns the VIP and who leads", 5*time.Second)
	defer cancel()
	var v survey
	v.etcd(ctx, c)
	v.hosts(ctx, c, c.Masters())
	v.wg.Wait()
	err = errors.Join(exactlyOne("owner of the VIP", v.owners, &owner), exactlyOne("etcd leader", v.leaders, &leader))
	return owner, leader, err
}

// survey asks many things at once and gathers what comes back.
type survey struct {
	wg sync.WaitGroup

	mu              sync.Mutex
	errs            []error
	owners, leaders []string // names of hosts
}

func (v *survey) note(err error) {
	if err != nil {
		v.mu.Lock()
		v.errs = append(v.errs, err)
		v.mu.Unlock()
	}
}

// err is all that was noted, sorted.
func (v *survey) err() error {
	slices.SortFunc(v.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(v.errs...)
}

// requests asks every apiserver, every member of etcd and, through the VIP, for
// the nodes.
func (v *survey) requests(ctx context.Context, c *Cluster) error {
	dial, _, err := c.route(ctx, nil)
	if err != nil {
		return err
	}
	client := c.client(dial, false)
	for _, m := range c.Masters() {
		v.wg.Go(func() {
			// One that answers later is hung as far as the VIP is concerned.
			soon, cancel := wait.Within(ctx, "the apiserver of "+m.Name, requestDeadline)
			defer cancel()
			v.note(wrap(m.Name+": apiserver", (&kube{client: client, at: m.API}).ready(soon)))
		})
	}
	v.etcd(ctx, c)
	v.wg.Go(func() {
		bounded, cancel := wait.Within(ctx, "an answer about the nodes", askBound)
		defer cancel()
		v.note(c.lookAtNodes(bounded, &kube{client: client, at: c.API}))
	})
	return nil
}

// etcd asks every member whether it leads.
func (v *survey) etcd(ctx context.Context, c *Cluster) {
	for _, m := range c.Masters() {
		v.wg.Go(func() {
			bounded, cancel := wait.Within(ctx, "an answer of etcd on "+m.Name, askBound)
			defer cancel()
			leads, err := c.Etcd.Leads(bounded, m.Name)
			v.note(wrap(m.Name+": etcd", err))
			v.mu.Lock()
			defer v.mu.Unlock()
			if leads {
				v.leaders = append(v.leaders, m.Name)
			}
		})
	}
}

// hosts looks at the members themselves: programs, over SSH.
func (v *survey) hosts(ctx context.Context, c *Cluster, members []*Member) {
	for _, m := range members {
		v.wg.Go(func() {
			owns, err := m.look(ctx, c.VIP)
			v.note(err)
			v.mu.Lock()
			defer v.mu.Unlock()
			if owns {
				v.owners = append(v.owners, m.Name)
			}
		})
	}
}

func exactlyOne(what string, got []string, to *string) error {
	if len(got) == 1 {
		*to = got[0]
		return nil
	}
	slices.Sort(got)
	return fmt.Errorf("%d hosts are %s, must be one: %s", len(got), what, strings.Join(got, ", "))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// memberSeen is what a host says of itself.
type memberSeen struct {
	active []string // units that are active
	armed  []string // undos of an earlier drill whose timers run
	cut    bool     // the cut of an earlier drill is in effect
	owns   bool     // it holds the VIP
}

// memberQuestion asks a host whether it holds the VIP, which of the units are active, and
// whether an undo of an earlier drill is armed or a cut is in effect. It starts few programs:
// they run beside the traffic.
func memberQuestion(vip netip.Addr, units []string) sys.Question[memberSeen] {
	return sys.Question[memberSeen]{
		Title: titleLook,
		Script: `systemctl list-units --plain --no-legend --state=active ` + sys.Quote(append(units, "hactl-undo-*.timer")...) + ` || exit
case $(nft list tables 2>/dev/null) in *hactl_drill*) echo cut ;; esac
! has_address ` + vip.String() + ` || echo owner
echo end`,
		Parse: parseMember,
	}
}

func parseMember(answer string) (seen memberSeen, err error) {
	lines, err := sys.Lines(answer)
	for _, line := range lines {
		switch f := strings.Fields(line); {
		case line == "cut":
			seen.cut = true
		case line == "owner":
			seen.owns = true
		case len(f) < 4 || f[2] != "active": // UNIT LOAD ACTIVE SUB
			return seen, sys.Unreadable(answer)
		case strings.HasSuffix(f[0], ".timer"):
			seen.armed = append(seen.armed, strings.TrimSuffix(f[0], ".timer"))
		default:
			seen.active = append(seen.active, f[0])
		}
	}
	return seen, err
}

// look reports whether the host holds the VIP. The error names all that is not as it must be.
func (m *Member) look(ctx context.Context, vip netip.Addr) (owns bool, err error) {
	units := []string{kubeletUnit}
	if m.Master {
		units = append(units, keepalivedUnit, etcdUnit)
	}
	seen, err := remote.Ask(ctx, m.Host, memberQuestion(vip, units), 15*time.Second)
	if err != nil {
		return false, fmt.Errorf("%s: %w", m.Name, err)
	}
	var errs []error
	for _, undo := range seen.armed {
		errs = append(errs, remote.Hint(&armedError{m.Name, undo}, "wait until it has fired (systemctl list-timers 'hactl-undo-*' on %s)", m.Name))
	}
	if seen.cut {
		errs = append(errs, fmt.Errorf("%s: still cut off by an earlier drill (nft table hactl_drill)", m.Name))
	}
	for _, u := range units {
		if !slices.Contains(seen.active, u) {
			errs = append(errs, fmt.Errorf("%s: %s is not there or not active", m.Name, u))
		}
	}
	return seen.owns, errors.Join(errs...)
}

// lookAtNodes checks that every node is Ready.
func (c *Cluster) lookAtNodes(ctx context.Context, k *kube) error {
	var nodes struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := k.do(ctx, http.MethodGet, "/api/v1/nodes", nil, &nodes); err != nil {
		return fmt.Errorf("list nodes through the VIP: %w", err)
	}
	ready := map[string]bool{}
	for _, n := range nodes.Items {
		for _, cond := range n.Status.Conditions {
			if cond.Type == "Ready" && cond.Status == "True" {
				ready[n.Metadata.Name] = true
			}
		}
	}
	var errs []error
	for _, m := range c.Members {
		if !ready[m.Name] {
			errs = append(errs, fmt.Errorf("%s: node is not Ready", m.Name))
		}
	}
	return errors.Join(errs...)
}

// lease is the part of a Lease that a drill reads.
type lease struct {
	Spec struct {
		HolderIdentity string
		RenewTime      time.Time
	}
}

func (k *kube) lease(ctx context.Context, name string) (*lease, error) {
	var l lease
	if err := k.do(ctx, http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"+name, nil, &l); err != nil {
		return nil, fmt.Errorf("read the lease %s: %w", name, err)
	}
	return &l, nil
}

// renewed waits for the lease to be renewed and returns its holder. A holder that
// is gone keeps the lease for 15 s (LeaseDuration, the default of both that a
// drill kills): only one that renews leads.
func (k *kube) renewed(ctx context.Context, name string, bound time.Duration) (string, error) {
	ctx, cancel := wait.Within(ctx, "the lease "+name+" to be renewed", bound)
	defer cancel()
	var first *lease
	var last error
	for {
		askCtx, cancel := wait.Within(ctx, "the lease "+name, requestDeadline)
		l, err := k.lease(askCtx, name)
		cancel()
		if ctx.Err() == nil {
			last = err
		}
		switch {
		case err != nil:
		case first == nil || l.Spec.HolderIdentity != first.Spec.HolderIdentity:
			first = l
		case l.Spec.RenewTime.After(first.Spec.RenewTime):
			return l.Spec.HolderIdentity, nil
		}
		if !pause(ctx, 200*time.Millisecond) {
			if last == nil {
				last = fmt.Errorf("nobody renewed the lease %s within %s", name, wait.Bound(ctx, bound))
			}
			return "", last
		}
	}
}

// readyPath is what the health checks of the VIP ask too: without etcd, whose
// outage is not the apiserver's.
const readyPath = "/readyz?exclude=etcd&exclude=etcd-readiness"

func (k *kube) ready(ctx context.Context) error {
	return k.do(ctx, http.MethodGet, readyPath, nil, nil)
}

// servesPath leaves out, too, that an apiserver says it is going to stop: it serves
// every request until it does, and clients that ask for something else notice nothing.
const servesPath = readyPath + "&exclude=shutdown"

func (k *kube) serves(ctx context.Context) error {
	return k.do(ctx, http.MethodGet, servesPath, nil, nil)
}
