package kubeadm

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hactl/internal/goldentest"
	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/traffic"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func TestProbeManifest(t *testing.T) {
	c := clusterOf(t, inventorytest.Three(t), true)
	c.NetworkProgram = NetworkProgram{SHA256: strings.Repeat("ab", 32)}
	namespace, set, _, err := c.probeObjects()
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "probe", map[string]goldentest.Put{"namespace.yaml": {Content: namespace}, "daemonset.yaml": {Content: set}})
}

// The probe is made where it is missing or another one, and is left alone afterwards.
func TestProbeIsKept(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, inventorytest.Three(t), true)
	m := c.Inv.Masters()[0]
	mark, applied, down := "", []string{}, false
	srv := kubeapitest.Serve(t, c.PKI.KubernetesCA.CertPEM, c.PKI.KubernetesCA.KeyPEM, m.PrivateAddress.AsSlice(), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case down:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodPatch:
			body, _ := io.ReadAll(r.Body)
			applied = append(applied, r.URL.Path+" "+r.Header.Get("Content-Type"))
			if _, m, ok := strings.Cut(string(body), madeFromMark+": "); ok {
				mark, _, _ = strings.Cut(m, "\n")
			}
			_, _ = io.WriteString(rw, "{}")
		case mark == "":
			rw.WriteHeader(http.StatusNotFound)
		default:
			_, _ = io.WriteString(rw, `{"metadata": {"annotations": {"`+madeFromMark+`": `+mark+`}}}`)
		}
	}))
	t.Cleanup(srv.Close)
	host := remote.NewFake(m.Name, nil)
	host.DialWith(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	control := &Control{Inv: c.Inv, Hosts: plan.Hosts{m.Name: host}, PKI: c.PKI}
	t.Cleanup(control.Close)
	env := plan.Env{Host: host, Say: func(string, ...any) {}}
	due := func() plan.Op {
		t.Helper()
		st, err := c.Probe(m, control)
		if err != nil {
			t.Fatal(err)
		}
		change, err := st.Check(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		if change == nil {
			return ""
		}
		if !down {
			if err := st.Apply(t.Context(), env, change); err != nil {
				t.Fatal(err)
			}
		}
		return change.Op
	}
	down = true
	if op := due(); op != plan.Create {
		t.Errorf("no apiserver answers: %q", op)
	}
	down = false
	for i, want := range []plan.Op{plan.Create, ""} {
		if op := due(); op != want {
			t.Errorf("%d: %q, want %q", i, op, want)
		}
	}
	c.NetworkProgram.SHA256 = strings.Repeat("cd", 32) // another hactl
	for i, want := range []plan.Op{plan.Update, ""} {
		if op := due(); op != want {
			t.Errorf("another program, %d: %q, want %q", i, op, want)
		}
	}
	if len(applied) != 4 || applied[0] != namespacePath+" application/apply-patch+yaml" || applied[1] != daemonSetPath+" application/apply-patch+yaml" {
		t.Errorf("%q", applied)
	}
}

func TestHostSaysWhatItSaw(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		out     string
		network string
		answer  bool
		err     string
	}{
		"all is well":         {"traffic 0 {\"node\":\"a\"}\nActiveState=active\nStatusText=everything is in place\n", "", true, ""},
		"routes are missing":  {"traffic 0 {\"node\":\"a\"}\nActiveState=active\nStatusText=missing: route 10.244.1.0/24\n", "missing: route 10.244.1.0/24", true, ""},
		"the unit is stopped": {"traffic 0 {\"node\":\"a\"}\nActiveState=inactive\nStatusText=\n", "hactl-network.service is inactive", true, ""},
		"no probe":            {"traffic 1 hactl-network: ask the probe: dial unix /run/hactl/probe/socket: connect: no such file or directory\nActiveState=active\n", "", false, "no probe answers there"},
		"an older program":    {"traffic 2   -config string\nActiveState=active\n", "", false, "ask the probe"},
		"no program":          {"traffic 127 sh: 1: /usr/local/bin/hactl-network: not found\nActiveState=active\n", "", false, "ask the probe"},
		"half an answer":      {"traffic 0 {\"no\nActiveState=active\n", "", false, "read the probe's answer"},
	} {
		got, err := parseHostSeen(c.out + seenEnd + "\nend\n")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Network != c.network || (got.Traffic != nil) != c.answer || (got.TrafficErr == nil) != (c.err == "") || c.err != "" && !strings.Contains(got.TrafficErr.Error(), c.err) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, broken := range []string{"", "traffic 0 {}\n", "traffic 0 {}\nActiveState=active\n", "traffic 0 {}\nActiveState=active\n" + seenEnd + "\n", "ActiveState=active\n" + seenEnd + "\nend\n", "traffic 0 {}\n" + seenEnd + "\nend\n"} {
		if got, err := parseHostSeen(broken); err == nil {
			t.Errorf("%q gives %+v", broken, got)
		}
	}
}

// Few hosts ask all others. Of many each asks the next one and a sample, never itself
// and none twice.
func TestPeersAreARingAndASample(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 6, 7, 50} {
		var hosts []*inventory.Host
		pods := map[string]ProbePod{}
		for i := range n {
			name := string(rune('a'+i/26)) + string(rune('a'+i%26))
			hosts = append(hosts, &inventory.Host{Name: name})
			pods[name] = ProbePod{Node: name, Running: true}
		}
		for i := range hosts {
			for pick := range max(n-2, 1) {
				got := PeersOf(hosts, i, pods, func(int) int { return pick })
				seen := map[string]bool{hosts[i].Name: true}
				for _, p := range got {
					if seen[p.Node] {
						t.Errorf("%d hosts, %d picks %d: %v", n, i, pick, got)
					}
					seen[p.Node] = true
				}
				if next := hosts[(i+1)%n].Name; n > 1 && !seen[next] || n <= fewPeers && len(got) != n-1 || len(got) > max(fewPeers-1, 3) {
					t.Errorf("%d hosts, %d: %v", n, i, got)
				}
			}
		}
	}
	pods := map[string]ProbePod{"a": {Node: "a", Running: true}, "b": {Node: "b"}}
	if got := PeersOf([]*inventory.Host{{Name: "a"}, {Name: "b"}}, 0, pods, nil); len(got) != 0 {
		t.Errorf("a probe that does not run is asked about: %v", got)
	}
}

// The script runs where there is no hactl-network, and gives what the certificates are.
func TestHostWithoutTheProgramIsSeen(t *testing.T) {
	d := newDisk(t).initialised(t, nil)
	h := remote.NewFake("a", func(c remote.Call) (*remote.Result, error) { return d.run(t.Context(), c.Cmd.Script) })
	got, err := SeeHost(t.Context(), h, traffic.Question{})
	if err != nil || len(got.Certificates) == 0 || got.TrafficErr == nil || got.Network != "hactl-network.service is inactive" {
		t.Errorf("%+v, %v", got, err)
	}
}
