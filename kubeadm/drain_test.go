package kubeadm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// drainWorld is an apiserver with the pods of one node.
type drainWorld struct {
	pods    []string // names, of a replica set; ds-, mirror- and alone- are other kinds
	ready   int      // replicas of the replica set that are ready; one more at each look
	want    int
	budget  int // evictions that are refused before one is permitted
	evicted []string
	broken  string // what should not have happened
}

func (w *drainWorld) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/api/v1/pods":
		items := []any{}
		for _, p := range w.pods {
			meta := map[string]any{"namespace": "default", "name": p, "uid": p}
			switch {
			case strings.HasPrefix(p, "mirror-"):
				meta["annotations"] = map[string]string{"kubernetes.io/config.mirror": "x"}
			case strings.HasPrefix(p, "alone-"):
			case strings.HasPrefix(p, "ds-"):
				meta["ownerReferences"] = []any{map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "ds", "controller": true}}
			default:
				meta["ownerReferences"] = []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "controller": true}}
			}
			items = append(items, map[string]any{"metadata": meta, "status": map[string]any{"phase": "Running"}})
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"items": items})
	case r.URL.Path == "/apis/apps/v1/namespaces/default/replicasets/web":
		w.ready = min(w.ready+1, w.want)
		fmt.Fprintf(rw, `{"spec":{"replicas":%d},"status":{"readyReplicas":%d}}`, w.want, w.ready)
	case strings.HasSuffix(r.URL.Path, "/eviction"):
		if w.budget > 0 {
			w.budget--
			rw.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(rw, `{"message":"it would violate the disruption budget web"}`)
			return
		}
		name := strings.Split(r.URL.Path, "/")[6]
		if w.ready < w.want {
			w.broken = name + " was evicted while a replacement is not ready"
		}
		w.ready--
		w.evicted = append(w.evicted, name)
		w.pods = slices.DeleteFunc(w.pods, func(p string) bool { return p == name })
	default:
		rw.WriteHeader(http.StatusNotFound)
	}
}

// drains runs the step once on worker-1.
func (w *drainWorld) drains(t *testing.T, within time.Duration) ([]string, error) {
	t.Helper()
	return stepOf(t, w, func(c *Control) plan.Step {
		return c.Drain(c.Inv.Host("worker-1"), within, func(plan.Env) (bool, error) { return true, nil })
	})
}

// stepOf makes the change of a step that asks an apiserver, which is due before and no longer
// after it, and returns what was said.
func stepOf(t *testing.T, api http.Handler, make func(*Control) plan.Step) (said []string, err error) {
	t.Helper()
	nw := newNodeWorld(t).joined(t)
	nw.handler = api
	control := &Control{Inv: nw.Inv, Hosts: nw.hosts, PKI: nw.PKI}
	t.Cleanup(control.Close)
	st := make(control)
	env := plan.Env{Host: remote.NewFake("worker-1", nil), Say: func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) }}
	change, err := st.Check(t.Context(), env)
	if err != nil || change == nil {
		t.Fatalf("check: %v, %v", change, err)
	}
	if err := st.Apply(t.Context(), env, change); err != nil {
		return said, err
	}
	if change, err := st.Check(t.Context(), env); err != nil || change != nil {
		t.Errorf("after it: %v, %v", change, err)
	}
	return said, nil
}

// Pods of one controller go one after the other; those of the node, and those that no
// controller would make anew, stay.
func TestDrainMovesOnePodOfAControllerAfterAnother(t *testing.T) {
	t.Parallel()
	w := &drainWorld{pods: []string{"a", "b", "c", "ds-1", "mirror-1", "alone-1"}, ready: 3, want: 3, budget: 2}
	said, err := w.drains(t, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.evicted) != 3 || w.broken != "" || !slices.Equal(w.pods, []string{"ds-1", "mirror-1", "alone-1"}) {
		t.Errorf("evicted %q, left %q: %s", w.evicted, w.pods, w.broken)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "default/alone-1 has no controller") || !strings.Contains(text, "disruption budget web") {
		t.Errorf("said:\n%s", text)
	}
}

func TestDrainNamesWhatBlocksIt(t *testing.T) {
	t.Parallel()
	w := &drainWorld{pods: []string{"a"}, ready: 1, want: 1, budget: 1000}
	_, err := w.drains(t, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "default/a") || !strings.Contains(err.Error(), "disruption budget web") || !strings.Contains(remote.HintOf(err), "--drain-timeout") {
		t.Errorf("%v", err)
	}
}
