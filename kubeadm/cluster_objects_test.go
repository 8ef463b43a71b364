package kubeadm

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// What the first master would have made is made by the one that is there, once,
// and only where they are missing.
func TestWhatAClusterHasOnceIsMadeWhereNobodyDid(t *testing.T) {
	w := newNodeWorld(t).joined(t)
	status := http.StatusNotFound
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != settingsPath {
			t.Errorf("asked for %s", r.URL.Path)
		}
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte("{}"))
	})
	var ran []string
	h := remote.NewFake("master-2", func(c remote.Call) (*remote.Result, error) {
		ran = append(ran, c.Cmd.Script)
		status = http.StatusOK
		return &remote.Result{}, nil
	})
	control := &Control{Inv: w.Inv, Hosts: w.hosts, PKI: w.PKI}
	defer control.Close()
	st := w.Once(w.Inv.Host("master-2"), control)
	env := plan.Env{Host: h, Say: func(string, ...any) {}}
	check := func() *plan.Change {
		t.Helper()
		c, err := st.Check(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := check(); c == nil || !strings.HasPrefix(c.Summary, "make kubeadm's settings, kube-proxy and CoreDNS") {
		t.Errorf("a cluster without them: %+v", c)
	}
	if err := st.Apply(t.Context(), env, nil); err != nil {
		t.Fatal(err)
	}
	// Each phase is skipped in all calls but its own, those that are not wanted in both.
	calls := strings.Split(ran[0], "--skip-phases ")[1:]
	if len(calls) != 2 {
		t.Fatalf("%s", ran[0])
	}
	for phase, call := range map[string]int{
		"bootstrap-token": 0, "addon": 0, "upload-config": 1, // by which the step knows that all is there
		"certs": -1, "kubelet-start": -1, "control-plane/apiserver": -1, "wait-control-plane": -1, "mark-control-plane": -1,
	} {
		for i, skipped := range calls {
			if strings.Contains(","+skipped, ","+phase) == (i == call) {
				t.Errorf("%s in call %d: %s", phase, i, ran[0])
			}
		}
	}
	// Where a phase fails, or the call is cut off, it is made again.
	if !strings.HasPrefix(ran[0], "set -e\n") {
		t.Errorf("%s", ran[0])
	}
	if c := check(); c != nil {
		t.Errorf("a cluster with them: %+v", c)
	}
	if err := st.Apply(t.Context(), env, nil); err != nil || len(ran) != 1 {
		t.Errorf("made again: %v, %d commands", err, len(ran))
	}
	status = http.StatusForbidden
	if _, err := st.Check(t.Context(), env); err != nil {
		t.Errorf("who may not look has it pending: %v", err)
	}
	// An apiserver that has just started refuses until it has loaded its roles; one
	// that goes on refusing is an error.
	control.again = time.Millisecond
	w.patience = 50 * time.Millisecond
	refusing := w.Once(w.Inv.Host("master-2"), control)
	if err := refusing.Apply(t.Context(), env, nil); err == nil || len(ran) != 1 {
		t.Errorf("made without a look: %v, %d commands", err, len(ran))
	}
	for _, code := range []int{http.StatusForbidden, http.StatusUnauthorized, http.StatusServiceUnavailable} {
		asked := 0
		was := w.handler
		w.handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			if asked++; asked <= 2 {
				rw.WriteHeader(code)
				_, _ = rw.Write([]byte("{}"))
				return
			}
			_, _ = rw.Write([]byte("{}"))
		})
		w.patience = time.Hour
		young := w.Once(w.Inv.Host("master-2"), control)
		if err := young.Apply(t.Context(), env, nil); err != nil || len(ran) != 1 || asked < 3 {
			t.Errorf("an apiserver that answers %d at first: %v after %d questions", code, err, asked)
		}
		w.handler = was
	}
	for _, m := range w.Inv.Masters() {
		w.down[m.Name] = true
	}
	w.patience, control.again = 50*time.Millisecond, time.Millisecond
	st = w.Once(w.Inv.Host("master-2"), control)
	control.Close()
	if c := check(); c == nil || !strings.HasSuffix(c.Summary, "once the control plane is up") || c.Cause == "" {
		t.Errorf("no apiserver: %+v", c)
	}
	if err := st.Apply(t.Context(), env, nil); err == nil || errors.Is(err, plan.ErrChanged) {
		t.Errorf("no apiserver at its turn: %v", err)
	}
}
