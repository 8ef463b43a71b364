package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
)

// State is what was seen of a healthy cluster.
type State struct {
	Owner   string            // host that holds the VIP
	Leader  string            // host whose etcd member leads
	Holders map[string]string // of the leases that a scenario asks for, by name: HOST_PROCESS
}

// Look sees whether everything is healthy and nothing of an earlier drill is
// left. The error names all that is not as it must be.
func (c *Cluster) Look(ctx context.Context) (*State, error) { return c.look(ctx, true) }

// answers is the part of a look that is requests alone: apiservers, etcd, nodes.
// It starts no program on the hosts, which share their processors with what a
// drill times.
func (c *Cluster) answers(ctx context.Context) error {
	_, err := c.look(ctx, false)
	return err
}

func (c *Cluster) look(ctx context.Context, hosts bool) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s := &State{}
	var mu sync.Mutex
	var errs []error
	note := func(err error) {
		if err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	}
	dial, _, err := c.route(ctx, nil)
	if err != nil {
		return nil, err
	}
	client := newClient(dial, c.TLS, false)
	var owners, leaders []string
	var wg sync.WaitGroup
	for _, m := range c.Members {
		if hosts {
			wg.Go(func() {
				owns, err := m.look(ctx, c.VIP.String())
				note(err)
				mu.Lock()
				defer mu.Unlock()
				if owns {
					owners = append(owners, m.Name)
				}
			})
		}
		if !m.Master {
			continue
		}
		wg.Go(func() {
			// One that answers later is hung as far as the VIP is concerned.
			soon, cancel := context.WithTimeout(ctx, requestDeadline)
			defer cancel()
			note(wrap(m.Name+": apiserver", (&kube{client: client, at: m.API}).ready(soon)))
		})
		wg.Go(func() {
			leads, err := c.Etcd.Leads(ctx, m.Name)
			note(wrap(m.Name+": etcd", err))
			mu.Lock()
			defer mu.Unlock()
			if leads {
				leaders = append(leaders, m.Name)
			}
		})
	}
	wg.Go(func() { note(c.lookAtNodes(ctx, &kube{client: client, at: c.API})) })
	wg.Wait()
	if hosts {
		note(exactlyOne("owner of the VIP", owners, &s.Owner))
	}
	note(exactlyOne("etcd leader", leaders, &s.Leader))
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return s, errors.Join(errs...)
}

// whoNow asks the masters alone who owns the VIP and whose etcd member leads.
func (c *Cluster) whoNow(ctx context.Context) (owner, leader string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var owners, leaders []string
	var wg sync.WaitGroup
	for _, m := range c.Masters() {
		wg.Go(func() {
			owns, _ := m.look(ctx, c.VIP.String()) // its undo is armed by now
			leads, _ := c.Etcd.Leads(ctx, m.Name)
			mu.Lock()
			defer mu.Unlock()
			if owns {
				owners = append(owners, m.Name)
			}
			if leads {
				leaders = append(leaders, m.Name)
			}
		})
	}
	wg.Wait()
	err = errors.Join(exactlyOne("owner of the VIP", owners, &owner), exactlyOne("etcd leader", leaders, &leader))
	return owner, leader, err
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

// look asks a host whether it holds the VIP, whether its units run, and
// whether an undo of an earlier drill is armed or a cut is in effect.
func (m *Member) look(ctx context.Context, vip string) (owns bool, err error) {
	units := []string{kubeletUnit}
	if m.Master {
		units = append(units, keepalivedUnit, etcdUnit)
	}
	// Few programs: this runs beside the traffic.
	script := `systemctl list-units --plain --no-legend --state=active ` + strings.Join(units, " ") + ` 'hactl-undo-*.timer' | while read -r u _; do echo "active $u"; done
case $(nft list tables 2>/dev/null) in *hactl_drill*) echo "cut off" ;; esac
[ -z "$(ip -o addr show to ` + remote.Quote(vip) + `)" ] || echo owner`
	res, err := m.Host.Run(ctx, remote.Cmd{Title: titleLook, Script: script + "\n:", Timeout: 15 * time.Second})
	if err != nil {
		return false, fmt.Errorf("%s: %w", m.Name, err)
	}
	var errs []error
	for line := range strings.Lines(string(res.Stdout)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "owner":
			owns = true
		case "active":
			if timer, ok := strings.CutSuffix(rest, ".timer"); ok {
				errs = append(errs, remote.Hint(&armedError{m.Name, timer},
					"wait until it has fired (systemctl list-timers 'hactl-undo-*' on %s)", m.Name))
			}
			units = slices.DeleteFunc(units, func(u string) bool { return u == rest })
		case "cut":
			errs = append(errs, fmt.Errorf("%s: still cut off by an earlier drill (nft table hactl_drill)", m.Name))
		}
	}
	for _, u := range units {
		errs = append(errs, fmt.Errorf("%s: %s is not there or not active", m.Name, u))
	}
	return owns, errors.Join(errs...)
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
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var first *lease
	var last error
	for {
		askCtx, cancel := context.WithTimeout(ctx, requestDeadline)
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
				last = fmt.Errorf("nobody renewed the lease %s within %s", name, bound)
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
