package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"hactl/etcd"
	"hactl/internal/exitcode"
	"hactl/internal/expiry"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/state"
	"hactl/inventory"
	"hactl/kubeadm"
	"hactl/pki"
)

// RenewOptions are the flags of a renewal.
type RenewOptions struct {
	Options
	All  bool     // whether due or not
	Only []string // groups, whether due or not, besides what is due
}

// RenewGroups are what --only takes.
var RenewGroups = []string{"etcd", "apiserver", "controllers", "kubelet", "admin"}

// Renew signs certificates anew that are due, and those that were asked for. Masters
// take them one after another, with a look at the whole cluster in between. No
// apiserver restarts. Where something has expired already, the cluster cannot be well
// before: then all masters take theirs at once, etcd first.
func Renew(ctx context.Context, r Request, o RenewOptions) (*Result, error) {
	n := &renewal{RenewOptions: o}
	return operation{
		verb: "certs renew",
		phases: []phase{{make: n.plan, before: func(ctx context.Context, s *session) error {
			return s.store.Keep(ctx, s.material)
		}}},
		finish: n.finish,
	}.run(ctx, r, o.Options)
}

// renewal is one run of Renew.
type renewal struct {
	RenewOptions
	began time.Time
}

// group reports whether a group was asked for.
func (n *renewal) group(name string) bool { return n.All || slices.Contains(n.Only, name) }

func (n *renewal) also(g kubeadm.Group) bool { return n.group(string(g)) }

// command is the one that goes on with this renewal.
func (n *renewal) command() string {
	out := "certs renew"
	if n.All {
		out += " --all"
	}
	for _, g := range n.Only {
		out += " --only " + g
	}
	return out
}

// groupOf is the group of a pair of the store.
func groupOf(pair string) string {
	switch {
	case strings.HasPrefix(pair, "etcd-server-"), strings.HasPrefix(pair, "etcd-peer-"):
		return "etcd"
	case pair == "etcd-client-apiserver", pair == "front-proxy-client":
		return "apiserver"
	case strings.HasPrefix(pair, "node-server-"):
		return "kubelet"
	}
	return "admin"
}

// plan signs what is due in the store, in memory, and lists what hosts take.
func (n *renewal) plan(ctx context.Context, s *session) (*plan.Plan, error) {
	n.began = time.Now()
	if err := s.clocksAgree(ctx); err != nil {
		return nil, err
	}
	s.store.RenewAlso(func(pair string) bool { return n.group(groupOf(pair)) })
	m, created, err := s.preview(ctx, signing{verb: n.command(), all: true, dry: n.DryRun})
	if err != nil {
		return nil, err
	}
	if m.EtcdCA.New {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("the store %s has no certificate authorities", s.store.Dir()), "hactl up makes them"))
	}
	s.secrets(m)
	for _, what := range created {
		s.Note("to be signed: " + what)
	}
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	if err := (&etcd.Plan{Inv: s.inv, PKI: s.material, Disks: s.disks}).Ours(); err != nil {
		return nil, err
	}
	stages, err := n.stages(ctx, s)
	if err != nil {
		return nil, err
	}
	return plan.Make(ctx, stages, s.hosts, s)
}

// stages are a roll over the hosts, or, for a cluster in which something has expired,
// one group of processes after the other.
func (n *renewal) stages(ctx context.Context, s *session) ([]plan.Stage, error) {
	var due []*inventory.Host
	steps := map[string]*renewSteps{}
	for i := range s.inv.Hosts {
		h := &s.inv.Hosts[i]
		if s.hosts[h.Name] == nil {
			continue
		}
		st, err := n.steps(s, h)
		if err != nil {
			return nil, err
		}
		due, steps[h.Name] = append(due, h), st
	}
	if expired := s.expired(ctx); expired != "" {
		s.Note("not renewed host by host: " + expired)
		return recovery(due, steps), nil
	}
	first := state.Look(ctx, s.verified(false), state.Etcd, state.VIP, state.APIServers, state.Nodes)
	gate := state.NewGate(s.verified(false), first)
	roll := plan.Roll{
		Hosts: func(ctx context.Context) ([]string, error) {
			return state.Look(ctx, s.verified(false), state.Etcd, state.VIP).Order(due), nil
		},
		Gate: s.gate(gate),
	}
	for _, h := range due {
		roll.Steps = append(roll.Steps, steps[h.Name].all()...)
	}
	return []plan.Stage{{Name: "renew certificates", Roll: &roll}}, nil
}

// recovery brings back a cluster in which certificates have expired: members of etcd
// need one another, apiservers need etcd, and a kubelet whose certificate has expired
// does not even start, so that it starts no apiserver.
func recovery(hosts []*inventory.Host, steps map[string]*renewSteps) []plan.Stage {
	stages := []plan.Stage{{Name: "etcd"}, {Name: "kubelets"}, {Name: "control plane"}, {Name: "what is served"}}
	for _, h := range hosts {
		st := steps[h.Name]
		for i, some := range [][]plan.Step{st.etcd, st.kubelet, st.control, st.proof} {
			stages[i].Steps = append(stages[i].Steps, some...)
		}
	}
	return stages
}

// expired names a certificate whose time is over and that keeps the cluster from being
// well, "" when there is none.
func (s *session) expired(ctx context.Context) string {
	for _, row := range s.certs(ctx, 0).Rows {
		for _, f := range row.Findings {
			if f.Kind == expiry.Expired && !strings.HasPrefix(f.Where, string(expiry.Store)) {
				return row.Name + " " + f.Text + " (" + f.Where + ")"
			}
		}
	}
	return ""
}

// renewSteps are the steps of one host by what they are for.
type renewSteps struct{ etcd, control, kubelet, proof []plan.Step }

func (r *renewSteps) all() []plan.Step { return slices.Concat(r.etcd, r.control, r.kubelet, r.proof) }

func (n *renewal) steps(s *session, h *inventory.Host) (*renewSteps, error) {
	k := kubeadm.Cluster{Inv: s.inv, Facts: s.facts, PKI: s.material}
	out := &renewSteps{}
	pair, err := s.material.NodeServer(h.Name)
	if err != nil {
		return nil, err
	}
	files, err := k.ServingPair(h)
	if err != nil {
		return nil, err
	}
	out.kubelet = append(files, k.KubeletRenewal(h, n.also))
	out.proof = []plan.Step{served(h, "kubelet", kubeletPort(h).Addr, pair)}
	if h.Role != inventory.ControlPlane {
		return out, nil
	}
	if out.etcd, err = n.etcdSteps(s, h); err != nil {
		return nil, err
	}
	certs, err := k.Certificates(h)
	if err != nil {
		return nil, err
	}
	out.control = append(certs, k.Renewal(h, n.also))
	for _, p := range controllerPorts() {
		out.proof = append(out.proof, served(h, p.Addr, p.Addr, pair))
	}
	return out, nil
}

// etcdSteps are the pairs of a member, and the proof that it serves them.
func (n *renewal) etcdSteps(s *session, h *inventory.Host) ([]plan.Step, error) {
	steps, err := (&etcd.Plan{Inv: s.inv, PKI: s.material, Disks: s.disks}).Pairs(h)
	if err != nil {
		return nil, err
	}
	server, err := s.material.EtcdServer(h.Name)
	if err != nil {
		return nil, err
	}
	peer, err := s.material.EtcdPeer(h.Name)
	if err != nil {
		return nil, err
	}
	addr := func(port string) string { return net.JoinHostPort(h.PrivateAddress.String(), port) }
	return append(steps, served(h, "etcd", addr("2379"), server), served(h, "etcd peers", addr("2380"), peer)), nil
}

// served is the step that waits until a port serves a pair. It proves that the process
// has read the files: a connection that is there outlives its certificate, a new
// handshake does not.
func served(h *inventory.Host, what, addr string, pair pki.Pair) plan.Step {
	summary := "wait until " + addr + " serves the certificate"
	return plan.Step{
		ID: plan.ID("served/" + h.Name + "/" + addr), Host: h.Name, Title: what,
		Check: func(ctx context.Context, env plan.Env) (*plan.Change, error) {
			certs, err := pki.ParseCertificates(pair.CertPEM)
			if err != nil {
				return nil, err
			}
			got, err := remote.Served(ctx, env.Host, addr)
			if remote.Unreachable(err) && !errors.Is(err, context.DeadlineExceeded) {
				return nil, err
			}
			if err == nil && got.Equal(certs[0]) {
				return nil, nil
			}
			return &plan.Change{Op: plan.Do, Summary: summary, Acts: []string{summary}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			certs, err := pki.ParseCertificates(pair.CertPEM)
			if err != nil {
				return err
			}
			return kubeadm.AwaitServed(ctx, env, addr, certs[0])
		},
	}
}

// pollOfKubeletClient is how often an apiserver looks whether the pair has changed with
// which it asks kubelets.
const pollOfKubeletClient = 5 * time.Minute

// finish writes the operator's kubeconfig and judges by the report of all certificates.
func (n *renewal) finish(ctx context.Context, s *session, res *Result) (err error) {
	if res.Kubeconfig, err = kubeadm.SaveKubeconfig(s.inv, s.material); err != nil {
		return err
	}
	if res.Changed > 0 {
		s.Note("client certificates that were renewed are in use by " + time.Now().Add(pollOfKubeletClient).Format("15:04") + " at the latest")
	}
	rep := s.certs(ctx, pki.RenewBefore)
	if !rep.Bad() {
		return nil
	}
	var what []string
	for _, row := range rep.Rows {
		for _, f := range row.Findings {
			if f.Kind != expiry.Due && f.Kind != expiry.Ending {
				what = append(what, f.Where+": "+string(f.Kind))
			}
		}
	}
	return exitcode.With(exitcode.Unhealthy, remote.Hint(fmt.Errorf("some certificates are not in order: %s", strings.Join(what, ", ")), "hactl certs says what is wrong with each"))
}
