package verify

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki/pkitest"
)

func clusterOf(t *testing.T, hosts plan.Hosts, down map[string]error) Cluster {
	t.Helper()
	inv := inventorytest.Three(t)
	return Cluster{Inv: inv, Hosts: hosts, Down: down, PKI: pkitest.Material(t, inv)}
}

func TestVIPIsOKOnlyWithOneOwner(t *testing.T) {
	const here, nowhere = "2: eth0    inet 192.0.2.10/32 scope global eth0\nend\n", "end\n"
	for name, c := range map[string]struct {
		says  []string // of each master; "" is a host that cannot be asked
		state State
	}{
		"one owner":                {[]string{nowhere, here, nowhere}, OK},
		"two owners":               {[]string{here, here, nowhere}, Bad},
		"nobody":                   {[]string{nowhere, nowhere, nowhere}, Bad},
		"nobody, one not asked":    {[]string{nowhere, "", nowhere}, Unknown},
		"one owner, one not asked": {[]string{nowhere, "", here}, OK},
		"nobody could be asked":    {[]string{"", "", ""}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			cl := Cluster{Inv: inventorytest.Three(t), Hosts: plan.Hosts{}}
			for i, m := range cl.Inv.Masters() {
				cl.Hosts[m.Name] = remote.NewFake(m.Name, func(remote.Call) (*remote.Result, error) {
					if c.says[i] == "" {
						return nil, &remote.UnreachableError{Host: m.Name, Op: "run", Err: errors.New("cut")}
					}
					return &remote.Result{Stdout: []byte(c.says[i])}, nil
				})
			}
			k := vipChecks(t.Context(), cl)[0]
			if k.State != c.state || name == "two owners" && k.Detail != "held by master-1 and master-2" {
				t.Errorf("%+v", k)
			}
		})
	}
}

func TestApiserverThatCouldNotBeReachedIsUnknownARefusalIsBad(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		state State
	}{
		"refused":             {errors.New("connection refused"), Bad},
		"the session is lost": {&remote.UnreachableError{Host: "master-1", Op: "dial", Err: errors.New("cut")}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			h := remote.NewFake("master-1", nil)
			h.DialWith(func(context.Context, string, string) (net.Conn, error) { return nil, c.err })
			cl := clusterOf(t, plan.Hosts{"master-1": h}, map[string]error{"master-2": errors.New("no route")})
			got := apiChecks(t.Context(), cl)
			if got[0].State != c.state || got[1].State != Unknown || got[1].Detail != "no route" || got[2].State != Unknown || got[3].State != c.state {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestReportOfHostsThatNobodyReachedIsUnknownThroughout(t *testing.T) {
	down := map[string]error{}
	for _, n := range []string{"master-1", "master-2", "master-3"} {
		down[n] = errors.New("no route to host")
	}
	r := Look(t.Context(), clusterOf(t, plan.Hosts{}, down))
	if r.Healthy {
		t.Error("healthy")
	}
	for _, k := range r.Checks {
		if k.State == Bad || k.State == OK && k.Area != "certificate" {
			t.Errorf("%+v", k)
		}
	}
}

func TestNodesAreJudged(t *testing.T) {
	inv := inventorytest.Three(t)
	got := nodeChecks(inv, map[string]kubeadm.Node{
		"master-1": {Ready: true, Version: "v1", Address: "192.0.2.11"},
		"master-2": {Reason: "network plugin is not ready"},
		"stranger": {Ready: true},
	})
	for i, want := range []struct {
		state  State
		detail string
	}{{OK, "v1 control-plane"}, {Bad, "not Ready: network plugin is not ready"}, {Bad, "not registered"}} {
		if got[i].State != want.state || got[i].Detail != want.detail {
			t.Errorf("%+v", got[i])
		}
	}
	wrong := nodeChecks(inv, map[string]kubeadm.Node{"master-1": {Ready: true, Address: "192.0.2.10"}})
	if wrong[0].State != Bad || !strings.Contains(wrong[0].Detail, "expected 192.0.2.11") {
		t.Errorf("a node that took the VIP for its address: %+v", wrong[0])
	}
}

func TestWorkloadsThatWantNothingAreBad(t *testing.T) {
	got := workloadChecks([]kubeadm.Workload{{Name: "a", Want: 2, Ready: 2}, {Name: "b", Want: 2, Ready: 1}, {Name: "c"}})
	if got[0].State != OK || got[1].State != Bad || got[2].State != Bad {
		t.Errorf("%+v", got)
	}
}

func TestMembersAreJudged(t *testing.T) {
	cut := &remote.UnreachableError{Host: "m", Op: "dial", Err: errors.New("cut")}
	for name, c := range map[string]struct {
		m     etcd.MemberStatus
		state State
	}{
		"healthy":     {etcd.MemberStatus{Healthy: true}, OK},
		"leader":      {etcd.MemberStatus{Healthy: true, Leader: true}, OK},
		"sick":        {etcd.MemberStatus{}, Bad},
		"learner":     {etcd.MemberStatus{Healthy: true, Learner: true}, Bad},
		"alarm":       {etcd.MemberStatus{Healthy: true, Alarms: []string{"NOSPACE"}}, Bad},
		"refuses":     {etcd.MemberStatus{Err: errors.New("connection refused")}, Bad},
		"unreachable": {etcd.MemberStatus{Err: cut}, Unknown},
	} {
		if k := memberCheck(c.m); k.State != c.state {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func TestQuorumIsBadOnlyWhenUnknownMembersCouldNotMakeIt(t *testing.T) {
	ok, bad, unknown := Check{State: OK}, Check{State: Bad}, Check{State: Unknown}
	for name, c := range map[string]struct {
		st      etcd.Status
		members []Check
		state   State
	}{
		"all there":        {etcd.Status{Voters: 3, Healthy: 3, Quorum: true}, []Check{ok, ok, ok}, OK},
		"two down":         {etcd.Status{Voters: 3, Healthy: 1}, []Check{ok, bad, bad}, Bad},
		"two unknown":      {etcd.Status{Voters: 3, Healthy: 1}, []Check{ok, unknown, unknown}, Unknown},
		"one of each":      {etcd.Status{Voters: 3, Healthy: 1}, []Check{ok, unknown, bad}, Unknown},
		"two bad, one not": {etcd.Status{Voters: 3}, []Check{unknown, bad, bad}, Bad},
	} {
		if k := quorumCheck(&c.st, c.members); k.State != c.state {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

// A host that is skipped does not hold up the rest; another that is missing does.
func TestSkippedHostDoesNotCount(t *testing.T) {
	cl := clusterOf(t, plan.Hosts{}, map[string]error{"master-1": errors.New("off"), "master-2": errors.New("off"), "master-3": errors.New("off")})
	cl.Skip = []string{"master-2"}
	states := map[string][]State{}
	rep := Look(t.Context(), cl)
	for _, k := range rep.Checks {
		if k.Area == "apiserver" {
			states[k.What] = append(states[k.What], k.State)
		}
	}
	if rep.Healthy || !slices.Equal(states["master-2"], []State{Skipped}) || !slices.Equal(states["master-3"], []State{Unknown}) || strings.Contains(rep.missing(), "master-2") {
		t.Errorf("healthy %t, %v, missing %s", rep.Healthy, states, rep.missing())
	}
}
