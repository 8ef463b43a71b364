package ops

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/etcd"
	"hactl/internal/facts"
	"hactl/internal/goldentest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki/pkitest"
)

// acceptedShell are shellcheck's findings that do not apply to scripts run on
// hosts.
var acceptedShell = []string{
	"SC2015", // A && B || C: B is an echo, which does not fail
	"SC2154", // s and f are set by the look that the snippet belongs to
	"SC1091", // it sources a file that only a host has
}

// agreeable is a cluster of hosts that agree to everything, for which no etcd has
// been seen yet; asked sees what they are asked.
func agreeable(t *testing.T, inv *inventory.Inventory, manager string, asked func(remote.Call)) *cluster {
	t.Helper()
	m := pkitest.Material(t, inv)
	s := &session{inv: inv, material: m, hosts: plan.Hosts{}, facts: map[string]*facts.Brief{}, disks: map[string]etcd.Disk{}}
	c := &cluster{session: s, bundle: tinyBundle(t), prober: "scripts_test.go"}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		s.facts[h.Name] = &facts.Brief{PkgManager: manager, Interfaces: []facts.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.PrefixFrom(h.PrivateAddress, 24)}}}}
		s.hosts[h.Name] = remote.NewFake(h.Name, func(call remote.Call) (*remote.Result, error) {
			asked(call)
			if call.Cmd.Title == "look for pod subnets" {
				return &remote.Result{Stdout: []byte("end\n")}, nil
			}
			return &remote.Result{Stdout: []byte("abcdef.0123456789abcdef\n")}, nil
		})
	}
	s.control = &kubeadm.Control{Inv: inv, Hosts: s.hosts, PKI: m}
	seen, err := kubeadm.LookForSubnets(t.Context(), inv, s.hosts)
	must(t, err)
	c.subnets, err = seen.Assign(inv, s.facts)
	must(t, err)
	return c
}

// The prober ends at once without the CA that it trusts; lanes of one stage do not
// wait for one another.
func TestTheCAIsOnAMasterBeforeItsProberStarts(t *testing.T) {
	stages, err := agreeable(t, inventorytest.Three(t), "apt", func(remote.Call) {}).stages()
	must(t, err)
	at := map[plan.ID]int{}
	for i, st := range stages {
		for _, step := range st.Steps {
			at[step.ID] = i + 1
		}
	}
	for _, h := range []string{"master-1", "master-2", "master-3"} {
		ca, prober := at[plan.ID("kubeadm/"+h+"/ca-cert")], at[plan.ID("keepalived/"+h+"/prober-service")]
		if ca == 0 || prober == 0 || ca >= prober {
			t.Errorf("%s: the CA comes in stage %d, the prober in %d", h, ca, prober)
		}
	}
}

// What a running cluster depends on is restarted on one host after the other.
func TestRunningClusterIsChangedOneHostAtATime(t *testing.T) {
	c := agreeable(t, inventorytest.Three(t), "apt", func(remote.Call) {})
	restarts := regexp.MustCompile(`^(keepalived/.*/(service|prober-service)|etcd/.*/service|kubeadm/.*/(manifests|certificates|kubelet)|host/.*/containerd)$`)
	serial := func() (out []bool) {
		stages, err := c.stages()
		must(t, err)
		for _, st := range stages {
			for _, step := range st.Steps {
				if restarts.MatchString(string(step.ID)) {
					out = append(out, st.Serial)
				}
			}
		}
		return out
	}
	if got := serial(); len(got) != 21 || !slices.Contains(got, false) {
		t.Errorf("a fresh cluster starts everywhere at once: %v", got)
	}
	for _, m := range c.inv.Masters() {
		c.disks[m.Name] = etcd.Disk{Data: true, Established: c.etcdPlan().Token()}
		c.facts[m.Name].KubeletCA = "of this cluster"
	}
	if got := serial(); len(got) != 21 || slices.Contains(got, false) {
		t.Errorf("a running cluster: %v", got)
	}
}

// A master that joins hears the VIP's owner only once that one knows of it.
func TestMasterThatJoinsGetsTheVIPLast(t *testing.T) {
	c := agreeable(t, inventorytest.Three(t), "apt", func(remote.Call) {})
	for _, m := range c.inv.Masters()[1:] {
		c.disks[m.Name] = etcd.Disk{Data: true, Established: c.etcdPlan().Token()}
	}
	stages, err := c.stages()
	must(t, err)
	var order []string
	for _, st := range stages {
		for _, step := range st.Steps {
			if strings.HasPrefix(string(step.ID), "keepalived/") && !slices.Contains(order, step.Host) {
				order = append(order, step.Host)
			}
		}
	}
	if want := []string{"master-2", "master-3", "master-1"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// scriptsOf collects what all steps of a bring-up would run on hosts: every
// look, and what Apply and Ready hand to a host that agrees to everything.
func scriptsOf(t *testing.T, inv *inventory.Inventory, manager string) map[string]string {
	t.Helper()
	scripts := map[string]string{}
	var mu sync.Mutex // hosts are asked side by side
	c := agreeable(t, inv, manager, func(call remote.Call) {
		mu.Lock()
		defer mu.Unlock()
		if call.Kind == "run" {
			scripts[call.Cmd.Title+" "+strconv.Itoa(len(scripts))] = call.Cmd.Script
		}
	})
	s := c.session
	_, _ = etcd.Observe(t.Context(), inv, s.hosts)
	stages, err := c.stages()
	must(t, err)
	for _, st := range stages {
		for _, step := range st.Steps {
			for i, l := range step.Look {
				scripts["look "+string(step.ID)+" "+strconv.Itoa(i)] = l.Script
			}
			env := plan.Env{Host: s.hosts[step.Host], Say: func(string, ...any) {}}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // some wait for what never comes
			if step.Apply != nil {                                               // else it writes a file
				_ = step.Apply(ctx, env, &plan.Change{Op: plan.Restart})
			}
			if step.Ready != nil {
				_ = step.Ready(ctx, env)
			}
			cancel()
		}
	}
	return scripts
}

func TestEveryScriptThatRunsOnHostsPassesShellcheck(t *testing.T) {
	seen, unique := map[string]bool{}, map[string]string{}
	for name, inv := range map[string]*inventory.Inventory{
		"apt": inventorytest.ThreeWithWorkers(t, 1), "dnf": inventorytest.ThreeIPv6(t),
		"present": func() *inventory.Inventory {
			i := inventorytest.One(t)
			i.Artifacts.Source, i.Network.Preset = "present", "flannel"
			return i
		}(),
		"mirror": func() *inventory.Inventory {
			i := inventorytest.One(t)
			off := false
			i.Artifacts.Source, i.Artifacts.Mirror, i.VIP.Prober = "mirror", "https://mirror.example.com/hactl", &off
			return i
		}(),
	} {
		for title, script := range scriptsOf(t, inv, map[bool]string{true: "dnf", false: "apt"}[name == "dnf"]) {
			if !seen[script] {
				seen[script] = true
				unique[title] = script
			}
		}
	}
	if len(unique) < 100 {
		t.Errorf("only %d scripts were found", len(unique))
	}
	t.Logf("%d different scripts", len(unique))
	goldentest.Shell(t, unique, acceptedShell...)
}
