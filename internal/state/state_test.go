package state

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hactl/etcd"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki"
	"hactl/pki/pkitest"
)

func clusterOf(t *testing.T, hosts plan.Hosts, down map[string]error) Cluster {
	t.Helper()
	inv := inventorytest.Three(t)
	return Cluster{Inv: inv, Hosts: hosts, Down: down, PKI: pkitest.Material(t, inv)}
}

func TestVIPIsOKOnlyWithOneOwner(t *testing.T) {
	here, nowhere := systest.VIP(true), systest.VIP(false)
	for name, c := range map[string]struct {
		says  []string // of each master; "" is a host that cannot be asked
		state State
	}{
		"one owner":                {[]string{nowhere, here, nowhere}, OK},
		"two owners":               {[]string{here, here, nowhere}, Bad},
		"no owner":                 {[]string{nowhere, nowhere, nowhere}, Bad},
		"no owner, one not asked":  {[]string{nowhere, "", nowhere}, Unknown},
		"one owner, one not asked": {[]string{nowhere, "", here}, OK},
		"none could be asked":      {[]string{"", "", ""}, Unknown},
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
			got := vipChecks(t.Context(), cl, &Seen{})
			for i, m := range got[1:] {
				if m.What != cl.Inv.Masters()[i].Name || (m.State == Unknown) != (c.says[i] == "") || (m.Detail == "holds it") != (c.says[i] == here) {
					t.Errorf("%+v", m)
				}
			}
			k := got[0]
			if k.State != c.state || name == "two owners" && k.Detail != "held by master-1 and master-2" {
				t.Errorf("%+v", k)
			}
		})
	}
}

// A master whose keepalived is down does not take the address over: the cluster is
// one failure away from an outage, no matter which master holds it.
func TestMasterWithoutKeepalivedIsNotHealthy(t *testing.T) {
	cl := clusterOf(t, plan.Hosts{"master-2": remote.NewFake("master-2", func(remote.Call) (*remote.Result, error) {
		return &remote.Result{Stdout: []byte(systest.And("no", systest.Services("keepalived.service", "failed", "hactl-prober.service", "active")))}, nil
	})}, map[string]error{"master-1": errors.New("no route")})
	got := vipChecks(t.Context(), cl, &Seen{})
	if k := got[2]; k.State != Bad || k.Detail != "keepalived.service is failed" {
		t.Errorf("%+v", k)
	}
	if k := got[1]; k.State != Unknown || k.Detail != "no route" {
		t.Errorf("%+v", k)
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
			got := apiChecks(t.Context(), cl, &Seen{})
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

// A host that was removed and is still in the inventory is not missing.
func TestHostThatWasRemovedIsNotMissing(t *testing.T) {
	inv := inventorytest.Three(t)
	m := &pki.Material{}
	m.Identity.Removed = []string{"master-3", "another"}
	node := func(last string) kubeadm.Node {
		return kubeadm.Node{Ready: true, Version: "v1", Address: "192.0.2." + last}
	}
	nodes := map[string]kubeadm.Node{"master-1": node("11"), "master-2": node("12")}
	got := Cluster{Inv: inv, PKI: m}.removed(nodeChecks(inv, nodes), nodes)
	if !well(got) || len(got) != 3 || got[2].State != Skipped || !strings.Contains(got[2].Detail, "--bring-back master-3") {
		t.Errorf("%+v", got)
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

// They count for the quorum, and hactl does not restart them.
func TestMembersThatAreNotInTheInventoryAreBad(t *testing.T) {
	inv := inventorytest.Three(t)
	member := func(name, ip string) etcd.Listed {
		return etcd.Listed{Name: name, PeerURLs: []string{"https://" + ip + ":2380"}}
	}
	all := []etcd.Listed{member("master-1", "192.0.2.11"), member("master-2", "192.0.2.12"), member("master-3", "192.0.2.13")}
	st := &etcd.Status{Quorum: true, Listed: all}
	if got := strangerChecks(st, inv); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// The new master has no name yet: it has been added, and has not started.
	st.Listed = []etcd.Listed{all[0], all[1], member("", "192.0.2.13"), member("old\x1b[2J", "192.0.2.99")}
	got := strangerChecks(st, inv)
	if len(got) != 1 || got[0].State != Bad || got[0].What != "old[2J" && got[0].What != "old" {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{"a voter that is not in the inventory", "https://192.0.2.99:2380", "systemctl disable --now etcd keepalived"} {
		if !strings.Contains(got[0].Detail, want) {
			t.Errorf("%q is not in %q", want, got[0].Detail)
		}
	}
	st.Quorum = false
	if got := strangerChecks(st, inv); strings.Contains(got[0].Detail, "hactl up") {
		t.Errorf("hactl up would remove it without a quorum: %q", got[0].Detail)
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

// certificatesOf is what a look inside says of certificates. No apiserver answers.
func certificatesOf(t *testing.T, c Cluster) []Check {
	t.Helper()
	for _, h := range c.Hosts {
		h.(*remote.Fake).DialWith(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") })
	}
	return slices.DeleteFunc(hostChecks(t.Context(), c, &Seen{}), func(k Check) bool { return k.Area != "certificate" })
}

// runs is how often scripts were run on a host.
func runs(h *remote.Fake) (n int) {
	for _, c := range h.Calls() {
		if c.Kind == "run" {
			n++
		}
	}
	return n
}

// certificateHost is a master that says so of its certificates.
func certificateHost(t *testing.T, name string, ends map[string]time.Time) *remote.Fake {
	t.Helper()
	out := "traffic 1 no such file or directory\nActiveState=active\nStatusText=everything is in place\n---- certificates\n"
	for _, f := range slices.Sorted(maps.Keys(ends)) {
		out += "has " + f + "\n"
	}
	for f, end := range ends {
		out += "\n==> " + f + " <==\n" + certificatePEM(t, end)
	}
	return remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
		if c.Kind == "run" && !strings.HasPrefix(c.Cmd.Title, "read certificates") {
			t.Errorf("asked for %q", c.Cmd.Title)
		}
		return &remote.Result{Stdout: []byte(out + "end\n")}, nil
	})
}

func certificatePEM(t *testing.T, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificatesOnHostsCount(t *testing.T) {
	day := func(n int) time.Time { return time.Now().Add(time.Duration(n)*24*time.Hour + time.Hour).UTC() }
	healthy := map[string]time.Time{"pki/apiserver.crt": day(400), "pki/front-proxy-client.crt": day(400)}
	for name, c := range map[string]struct {
		second map[string]time.Time
		state  State
		what   string
		detail string
	}{
		"the store's is the first": {healthy, OK, "admin", fmt.Sprintf("first of 21 to expire, in 364 days (%s)", time.Now().Add(365*24*time.Hour).UTC().Format(time.DateOnly))},
		"one of master-2 is":       {map[string]time.Time{"pki/apiserver.crt": day(200)}, OK, "apiserver.crt", fmt.Sprintf("first of 20 to expire, in 200 days (%s), on master-2", day(200).Format(time.DateOnly))},
		"it should be renewed":     {map[string]time.Time{"pki/apiserver.crt": day(29)}, Bad, "apiserver.crt", fmt.Sprintf("first of 20 to expire, in 29 days (%s), on master-2", day(29).Format(time.DateOnly))},
		"it has expired":           {map[string]time.Time{"pki/apiserver.crt": day(-2)}, Bad, "apiserver.crt", fmt.Sprintf("first of 20 to expire, in -2 days (%s), on master-2", day(-2).Format(time.DateOnly))},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := plan.Hosts{"master-1": certificateHost(t, "master-1", healthy), "master-2": certificateHost(t, "master-2", c.second), "master-3": certificateHost(t, "master-3", healthy)}
			got := certificatesOf(t, clusterOf(t, hosts, nil))
			if len(got) != 1 || got[0] != (Check{Area: "certificate", What: c.what, State: c.state, Detail: c.detail}) {
				t.Errorf("%+v", got)
			}
			for _, h := range hosts {
				if n := runs(h.(*remote.Fake)); n != 1 {
					t.Errorf("%s was asked %d times", h.Name(), n)
				}
			}
		})
	}
}

func TestKubeletOfAWorkerThatDoesNotRenewItsCertificateIsBad(t *testing.T) {
	const kubelet = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	inv := inventorytest.ThreeWithWorkers(t, 1)
	hosts := plan.Hosts{}
	for _, h := range inv.Hosts {
		hosts[h.Name] = certificateHost(t, h.Name, map[string]time.Time{kubelet: time.Now().Add(100 * 24 * time.Hour)})
	}
	hosts["worker-1"] = certificateHost(t, "worker-1", map[string]time.Time{kubelet: time.Now().Add(10*24*time.Hour + time.Hour)})
	got := certificatesOf(t, Cluster{Inv: inv, Hosts: hosts, PKI: pkitest.Material(t, inv)})
	if len(got) != 1 || got[0].State != Bad || got[0].What != "kubelet-client-current.pem" || !strings.HasSuffix(got[0].Detail, ", on worker-1") {
		t.Errorf("%+v", got)
	}
}

func TestMastersWhoseCertificatesCouldNotBeReadAreUnknown(t *testing.T) {
	odd := remote.NewFake("master-2", func(remote.Call) (*remote.Result, error) {
		return &remote.Result{Stdout: []byte("traffic 0 {}\nActiveState=active\n---- certificates\nhas pki/apiserver.crt\n")}, nil
	})
	cl := clusterOf(t, plan.Hosts{"master-1": certificateHost(t, "master-1", nil), "master-2": odd}, map[string]error{"master-3": errors.New("no route")})
	got := certificatesOf(t, cl)
	if len(got) != 3 || got[0].State != OK || got[1].State != Unknown || got[1].What != "master-2" || got[2].State != Unknown || got[2].Detail != "no route" {
		t.Errorf("%+v", got)
	}
}

// What is well is left alone while something else is waited for, and everything is
// looked at together before it counts.
func TestWaitAsksAgainOnlyForWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		wait    time.Duration
		relapse bool // the part that was well is not, when all are looked at together
		asked   [2]int
		healthy bool
		said    int
	}{
		"comes up":       {wait: time.Minute, asked: [2]int{2, 5}, healthy: true, said: 1},
		"another goes":   {wait: time.Minute, relapse: true, asked: [2]int{4, 6}, healthy: true, said: 2},
		"too late":       {wait: pollEvery, asked: [2]int{2, 3}, said: 1},
		"no time at all": {asked: [2]int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked [2]int
				steady := func(context.Context, Cluster, *Seen) []Check {
					asked[0]++
					if c.relapse && asked[0] == 2 {
						return []Check{{Area: "vip", State: Bad}}
					}
					return []Check{{Area: "vip", State: OK}}
				}
				late := func(context.Context, Cluster, *Seen) []Check {
					if asked[1]++; asked[1] < 4 {
						return []Check{{Area: "workload", What: "coredns", State: Bad}}
					}
					return []Check{{Area: "workload", What: "coredns", State: OK}}
				}
				said := 0
				r := clusterOf(t, nil, nil).view([]part{steady, late}).wait(t.Context(), c.wait, func(string) { said++ })
				if asked != c.asked || r.Healthy != c.healthy || said != c.said || len(r.Checks) != 2 {
					t.Errorf("asked %v, healthy %v, said %d, %v", asked, r.Healthy, said, r.Checks)
				}
			})
		})
	}
}
