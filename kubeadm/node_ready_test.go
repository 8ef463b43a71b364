package kubeadm

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// A restart on a node is done when its kubelet works and the node is Ready again;
// a node that was not Ready is not waited for.
func TestRestartIsDoneWhenTheNodeIsReadyAgain(t *testing.T) {
	for name, wasReady := range map[string]bool{"a node that was Ready": true, "a node that was not Ready": false} {
		w := newNodeWorld(t).joined(t)
		nodeReady, kubeletWorks := wasReady, true
		var asked []string
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			asked = append(asked, "nodes")
			status := map[bool]string{true: "True", false: "False"}[nodeReady]
			nodeReady = true // at the next look
			_, _ = rw.Write([]byte(`{"items":[{"metadata":{"name":"worker-1"},"status":{"conditions":[{"type":"Ready","status":"` + status + `","message":"starting"}]}}]}`))
		})
		kubelet := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Path)
			if !kubeletWorks {
				kubeletWorks = true // at the next look
				rw.WriteHeader(http.StatusInternalServerError)
			}
		}))
		t.Cleanup(kubelet.Close)
		host := remote.NewFake("worker-1", nil)
		host.DialWith(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != kubeletHealth {
				t.Errorf("dialled %s", addr)
			}
			return new(net.Dialer).DialContext(ctx, network, kubelet.Listener.Addr().String())
		})
		control := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI}
		t.Cleanup(control.Close)
		st := w.KeepNodeReady(w.Inv.Host("worker-1"), control, plan.Step{})
		env := plan.Env{Host: host, Say: t.Logf}
		if err := st.Guard(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		nodeReady, kubeletWorks, asked = false, false, nil // the restart
		if err := st.Ready(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		want := []string{"/healthz", "/healthz", "nodes", "/healthz", "nodes"}
		if !wasReady {
			want = nil
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%s: asked %s, want %s", name, strings.Join(asked, " "), want)
		}
	}
}
