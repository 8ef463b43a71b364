package kubeadm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/kubeapi/kubeapitest"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// initWorld is a master on which kubeadm runs, and two apiservers, its own and
// the first master's, of which a test says what they answer.
type initWorld struct {
	Cluster
	host *remote.Fake
	lost bool // the connection to the host

	mu   sync.Mutex
	code map[string]int // by address; 0 refuses the connection
	log  []string       // phases that ran, and questions that were answered
}

func (w *initWorld) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.log) == 0 || w.log[len(w.log)-1] != what {
		w.log = append(w.log, what)
	}
}

func (w *initWorld) set(addr string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.code[addr] = code
}

func (w *initWorld) of(addr string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code[addr]
}

// newInitWorld has ran called after each part of kubeadm init.
func newInitWorld(t *testing.T, ran func(w *initWorld, phases []string)) *initWorld {
	t.Helper()
	w := &initWorld{Cluster: clusterOf(t, inventorytest.Three(t), true), code: map[string]int{}}
	w.First = w.Inv.Masters()[0].Name
	second := w.Inv.Masters()[1].Name
	w.host = remote.NewFake(second, func(c remote.Call) (*remote.Result, error) {
		switch {
		case c.Kind == "dial":
			return nil, nil
		case c.Cmd.Script == ":" && w.lost:
			return nil, &remote.UnreachableError{Host: second, Op: "run", Err: io.ErrUnexpectedEOF}
		}
		var did []string
		for line := range strings.Lines(c.Cmd.Script) {
			if _, skipped, ok := strings.Cut(line, "--skip-phases "); ok {
				skipped, _, _ = strings.Cut(skipped, " ")
				for _, p := range slices.Concat(toKubelet, toAPIServer, toNode, toCluster) {
					if !slices.Contains(strings.Split(skipped, ","), p) {
						did = append(did, p)
					}
				}
			}
		}
		if c.Cmd.Script == rotation {
			did = []string{"rotation"}
		}
		w.note(strings.Join(did, " "))
		ran(w, did)
		return &remote.Result{}, nil
	})
	servers := map[string]string{}
	for _, m := range w.Inv.Masters()[:2] {
		addr := w.apiAddress(m)
		srv := kubeapitest.Serve(t, w.PKI.KubernetesCA.CertPEM, w.PKI.KubernetesCA.KeyPEM, m.PrivateAddress.AsSlice(), http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			code := w.of(addr)
			w.note(m.Name + " answers " + http.StatusText(code))
			// The next question finds it ready.
			if code != http.StatusOK {
				w.set(addr, http.StatusOK)
			}
			rw.WriteHeader(code)
			_, _ = io.WriteString(rw, "x")
		}))
		t.Cleanup(srv.Close)
		servers[addr] = srv.Listener.Addr().String()
	}
	w.host.DialWith(func(ctx context.Context, _, addr string) (net.Conn, error) {
		if w.lost {
			<-ctx.Done() // as over a line that died
			return nil, &remote.UnreachableError{Host: second, Op: "dial", Err: ctx.Err()}
		}
		if w.of(addr) == 0 {
			return nil, errors.New("connection refused")
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", servers[addr])
	})
	return w
}

func TestAnotherMasterFollowsTheFirstOnesApiserver(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, phases []string) {
		first, second := w.apiAddress(w.Inv.Masters()[0]), w.apiAddress(w.Inv.Masters()[1])
		switch phases[len(phases)-1] {
		case "kubelet-start":
			w.set(first, http.StatusInternalServerError)
		case "control-plane/apiserver":
			w.set(second, http.StatusInternalServerError)
		}
	})
	second := w.Inv.Masters()[1]
	if err := w.init(t.Context(), plan.Env{Host: w.host, Say: func(string, ...any) {}}, second, "x"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"preflight certs kubeconfig kubelet-start",
		"master-1 answers Internal Server Error", "master-1 answers OK",
		"control-plane/apiserver",
		"master-2 answers Internal Server Error",
		"rotation",
		"master-2 answers OK",
		"control-plane/controller-manager control-plane/scheduler wait-control-plane mark-control-plane",
	}
	if !slices.Equal(w.log, want) {
		t.Errorf("what happened:\n%s\nwanted:\n%s", strings.Join(w.log, "\n"), strings.Join(want, "\n"))
	}
}

func TestLostHostIsNotWaitedFor(t *testing.T) {
	w := newInitWorld(t, func(w *initWorld, _ []string) { w.lost = true })
	done := make(chan error, 1)
	go func() {
		done <- w.init(t.Context(), plan.Env{Host: w.host, Say: func(string, ...any) {}}, w.Inv.Masters()[1], "x")
	}()
	select {
	case err := <-done:
		if !remote.Unreachable(err) {
			t.Errorf("%v", err)
		}
	case <-time.After(9 * time.Second):
		t.Error("still waiting after 9 s")
	}
}

// Manifests with which no apiserver comes up must stay a change to be made: the
// next run ends at this master again instead of breaking the next one.
func TestManifestsAreInSyncOnlyOnceTheApiserverServes(t *testing.T) {
	w := newInitWorld(t, func(*initWorld, []string) {})
	second := w.Inv.Masters()[1]
	st, err := w.Manifests(second)
	if err != nil {
		t.Fatal(err)
	}
	env := plan.Env{Host: w.host, Say: func(string, ...any) {}}
	recorded := func() bool {
		return slices.ContainsFunc(w.host.Calls(), func(c remote.Call) bool { return strings.Contains(c.Cmd.Script, markerFile+".new") })
	}
	if err := st.Apply(t.Context(), env, &plan.Change{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := st.Ready(ctx, env); err == nil || recorded() {
		t.Errorf("no apiserver: %v, recorded: %v", err, recorded())
	}
	w.set(w.apiAddress(second), http.StatusOK)
	if err := st.Ready(t.Context(), env); err != nil || !recorded() {
		t.Errorf("it serves: %v, recorded: %v", err, recorded())
	}
}
