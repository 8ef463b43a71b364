package kubeadm

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// What the first master would have made is made by the one that is there, once,
// and only where nobody did.
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
	skipped := "," + strings.SplitN(ran[0], "--skip-phases ", 2)[1]
	for _, phase := range []string{"upload-config", "bootstrap-token", "addon"} {
		if strings.Contains(skipped, ","+phase) {
			t.Errorf("%s is skipped: %s", phase, ran[0])
		}
	}
	for _, phase := range []string{"certs", "kubelet-start", "control-plane/apiserver", "wait-control-plane", "mark-control-plane"} {
		if !strings.Contains(skipped, ","+phase) {
			t.Errorf("%s is run: %s", phase, ran[0])
		}
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
	if err := st.Apply(t.Context(), env, nil); err == nil || len(ran) != 1 {
		t.Errorf("made without a look: %v, %d commands", err, len(ran))
	}
	for _, m := range w.Inv.Masters() {
		w.down[m.Name] = true
	}
	control.Close()
	if c := check(); c == nil || !strings.Contains(c.Summary, "once an apiserver answers") {
		t.Errorf("no apiserver: %+v", c)
	}
	if err := st.Apply(t.Context(), env, nil); err == nil || errors.Is(err, plan.ErrChanged) {
		t.Errorf("no apiserver at its turn: %v", err)
	}
}
