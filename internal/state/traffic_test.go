package state

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/traffic"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
	"hactl/pki/pkitest"
)

// looksOf are hosts a, b, ... that asked one another all round. failed are the ways
// that do not work, "a>b".
func looksOf(n int, failed ...string) (looks []hostLook, p probes) {
	p.pods = map[string]kubeadm.ProbePod{}
	var names []string
	for i := range n {
		names = append(names, string(rune('a'+i)))
	}
	for _, from := range names {
		p.pods[from] = kubeadm.ProbePod{Node: from, Running: true}
		l := hostLook{host: &inventory.Host{Name: from}, HostSeen: &kubeadm.HostSeen{Traffic: &traffic.Answer{Peers: map[string]string{}}}}
		for _, to := range names {
			if to == from {
				continue
			}
			l.asked = append(l.asked, traffic.Peer{Node: to})
			if slices.Contains(failed, from+">"+to) {
				l.Traffic.Peers[to] = "no answer"
			}
		}
		looks = append(looks, l)
	}
	return looks, p
}

// bad lists what is not in order, "WHAT: the first words".
func bad(checks []Check) (out []string) {
	for _, k := range checks {
		if k.State != OK {
			detail, _, _ := strings.Cut(k.Detail, ";")
			out = append(out, fmt.Sprintf("%s %s: %s", k.State, k.What, detail))
		}
	}
	return out
}

// What is named is what a person has to mend: a host that is cut off, or the one pair
// between which something drops packets.
func TestTrafficNamesTheHostOrThePair(t *testing.T) {
	t.Parallel()
	c := Cluster{Inv: inventorytest.Three(t)}
	for name, k := range map[string]struct {
		hosts  int
		failed []string
		change func([]hostLook, probes)
		want   []string
	}{
		"all is well": {hosts: 3},
		"one host":    {hosts: 1},
		"a pair":      {hosts: 3, failed: []string{"a>b"}, want: []string{"bad a to b: pods do not reach pods: no answer"}},
		"one is not reached": {hosts: 3, failed: []string{"a>c", "b>c"},
			want: []string{"bad c: no other host reaches its pods: no answer"}},
		"one reaches none": {hosts: 3, failed: []string{"c>a", "c>b"},
			want: []string{"bad c: its pods reach no other host's: no answer"}},
		"one is cut off": {hosts: 4, failed: []string{"d>a", "d>b", "d>c", "a>d", "b>d", "c>d"},
			want: []string{"bad d: its pods reach no other host's, and are not reached: no answer"}},
		"two hosts, both ways": {hosts: 2, failed: []string{"a>b", "b>a"},
			want: []string{"bad a to b: pods do not reach pods: no answer", "bad b to a: pods do not reach pods: no answer"}},
		"no service": {hosts: 2, change: func(l []hostLook, _ probes) { l[0].Traffic.API = "timeout"; l[0].Traffic.DNS = "refused" },
			want: []string{"bad a: its pods do not reach the API by its service address (timeout) and the cluster's DNS (refused)"}},
		"a probe does not run": {hosts: 2, change: func(_ []hostLook, p probes) {
			p.pods["b"] = kubeadm.ProbePod{Node: "b", Reason: "ErrImageNeverPull"}
		}, want: []string{"bad b: its probe does not run: ErrImageNeverPull"}},
		"a host without a probe":     {hosts: 2, change: func(_ []hostLook, p probes) { delete(p.pods, "b") }, want: []string{"bad b: no probe runs there"}},
		"a probe that is not asked":  {hosts: 2, change: func(l []hostLook, _ probes) { l[1].TrafficErr = errors.New("it does not answer") }, want: []string{"unknown b: it does not answer"}},
		"a host that is not reached": {hosts: 2, change: func(l []hostLook, _ probes) { l[1].HostSeen, l[1].err = nil, errors.New("no route") }, want: []string{"unknown b: no route"}},
		"no probe at all":            {hosts: 2, change: func(_ []hostLook, p probes) { clear(p.pods) }, want: []string{"unknown pods: not tried: the cluster has no probe yet"}},
	} {
		looks, p := looksOf(k.hosts, k.failed...)
		if k.change != nil {
			k.change(looks, p)
		}
		if got := bad(p.checks(c, looks)); !slices.Equal(got, k.want) {
			t.Errorf("%s:\n%q, want\n%q", name, got, k.want)
		}
	}
}

func TestClusterOfAnOlderHactlHasNoProbeAndIsHealthyAllTheSame(t *testing.T) {
	t.Parallel()
	p := probes{}
	if got := p.checks(Cluster{WithoutProbe: true}, nil); len(got) != 1 || got[0].State != Skipped || !got[0].fine() {
		t.Errorf("%+v", got)
	}
}

// probedHosts are n hosts behind one apiserver whose probes all answer; their calls are
// counted.
func probedHosts(t testing.TB, n int) Cluster {
	t.Helper()
	inv := inventorytest.ThreeWithWorkers(t, n-3)
	c := Cluster{Inv: inv, Hosts: plan.Hosts{}, PKI: pkitest.Material(t, inv)}
	var items []map[string]any
	for i, h := range inv.Hosts {
		items = append(items, map[string]any{"spec": map[string]any{"nodeName": h.Name}, "status": map[string]any{
			"podIP": fmt.Sprintf("10.244.%d.2", i), "containerStatuses": []any{map[string]any{"state": map[string]any{"running": map[string]any{}}}},
		}})
	}
	srv := kubeapitest.Serve(t, c.PKI.KubernetesCA.CertPEM, c.PKI.KubernetesCA.KeyPEM, inv.Masters()[0].PrivateAddress.AsSlice(),
		http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
		}))
	t.Cleanup(srv.Close)
	for _, h := range inv.Hosts {
		f := remote.NewFake(h.Name, func(call remote.Call) (*remote.Result, error) {
			if call.Kind != "run" {
				return nil, nil
			}
			var q traffic.Question
			if err := json.Unmarshal(call.Cmd.Stdin, &q); err != nil {
				t.Error(err)
			}
			a, err := json.Marshal(traffic.Answer{Node: h.Name})
			return &remote.Result{Stdout: []byte("traffic 0 " + string(a) + "\nActiveState=active\n---- certificates\nend\n")}, err
		})
		f.DialWith(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
		})
		c.Hosts[h.Name] = f
	}
	return c
}

// With many hosts each one is asked once, is asked about by its neighbour at least, and
// asks few others.
func TestManyHostsTakeOneRound(t *testing.T) {
	t.Parallel()
	c := probedHosts(t, 50)
	if got := bad(hostChecks(t.Context(), c, &Seen{})); len(got) > 0 {
		t.Errorf("%q", got)
	}
	about := map[string]int{}
	for name, h := range c.Hosts {
		if n := runs(h.(*remote.Fake)); n != 1 {
			t.Errorf("%s was asked %d times", name, n)
		}
		for _, call := range h.(*remote.Fake).Calls() {
			var q traffic.Question
			if call.Kind != "run" || json.Unmarshal(call.Cmd.Stdin, &q) != nil {
				continue
			}
			if len(q.Peers) == 0 || len(q.Peers) > 3 {
				t.Errorf("%s asks %v", name, q.Peers)
			}
			for _, p := range q.Peers {
				about[p.Node]++
			}
		}
	}
	if len(about) != 50 {
		t.Errorf("%d of 50 hosts are asked about", len(about))
	}
}

// BenchmarkManyHosts says how much processor time 50 hosts take, those that are played
// included.
func BenchmarkManyHosts(b *testing.B) {
	c := probedHosts(b, 50)
	for b.Loop() {
		hostChecks(b.Context(), c, &Seen{})
	}
}

// An apiserver that wants a login for its health is restarted by its kubelet, and the
// VIP stays with it when it hangs.
func TestApiserverThatWantsALoginForItsHealthIsBad(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, plan.Hosts{}, nil)
	m := c.Inv.Masters()[0]
	srv := kubeapitest.Serve(t, c.PKI.KubernetesCA.CertPEM, c.PKI.KubernetesCA.KeyPEM, m.PrivateAddress.AsSlice(),
		http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if len(r.TLS.PeerCertificates) == 0 {
				rw.WriteHeader(http.StatusUnauthorized)
			}
			_, _ = io.WriteString(rw, "ok")
		}))
	t.Cleanup(srv.Close)
	srv.TLS.ClientAuth = tls.VerifyClientCertIfGiven
	f := remote.NewFake(m.Name, nil)
	f.DialWith(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	c.Hosts[m.Name] = f
	k := apiCheck(t.Context(), c, m, m.PrivateAddress, m.Name)
	if k.State != Bad || !strings.Contains(k.Detail, "cannot judge") {
		t.Errorf("%+v", k)
	}
}

func TestNodesThatAreInNoInventoryAreNamedAndPressureIsBad(t *testing.T) {
	t.Parallel()
	inv := inventorytest.Three(t)
	got := nodeChecks(inv, map[string]kubeadm.Node{
		"master-1": {Ready: true, Address: "192.0.2.11", Pressure: "DiskPressure: kubelet has disk pressure"},
		"master-2": {Ready: true, Address: "192.0.2.12"}, "master-3": {Ready: true, Address: "192.0.2.13"}, "old-1": {Name: "old-1", Ready: true},
	})
	want := []string{"bad master-1: DiskPressure: kubelet has disk pressure", "note old-1: in the cluster (Ready) and not in inventory.yaml"}
	if !slices.Equal(bad(got), want) || !strings.Contains(got[len(got)-1].Detail, "delete node old-1") {
		t.Errorf("%q\n%+v", bad(got), got)
	}
}
