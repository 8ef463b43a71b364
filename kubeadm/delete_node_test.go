package kubeadm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
)

// goneNode is an apiserver with a node and its pods. It notes what is deleted.
type goneNode struct {
	refuses bool // to list pods
	gone    bool
	deleted []string
}

func (w *goneNode) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodDelete:
		var o struct {
			GracePeriodSeconds *int
			Preconditions      struct{ UID string }
		}
		_ = json.NewDecoder(r.Body).Decode(&o)
		w.deleted = append(w.deleted, strings.TrimPrefix(r.URL.Path, "/api/v1/"))
		if w.gone = true; strings.Contains(r.URL.Path, "/pods/") && (o.GracePeriodSeconds == nil || *o.GracePeriodSeconds != 0 || o.Preconditions.UID != "uid-b") {
			rw.WriteHeader(http.StatusConflict) // a's name has another pod
		}
		_, _ = fmt.Fprint(rw, "{}")
	case r.URL.Path == "/api/v1/pods" && !w.refuses:
		of := func(name, kind string) any {
			return map[string]any{"metadata": map[string]any{"namespace": "web", "name": name, "uid": "uid-" + name,
				"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": kind, "name": "x", "controller": true}}}}
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"items": []any{of("a", "ReplicaSet"), of("b", "ReplicaSet"), of("c", "StatefulSet"), of("d", "DaemonSet")}})
	case r.URL.Path == "/api/v1/nodes/worker-1" && !w.gone:
		_, _ = fmt.Fprint(rw, "{}")
	default:
		rw.WriteHeader(http.StatusNotFound)
	}
}

// With a node go those of its pods that are made anew elsewhere: services send requests to
// them for another minute otherwise. Where that fails the node is gone all the same.
func TestPodsGoWithTheirNode(t *testing.T) {
	t.Parallel()
	for refuses, want := range map[bool][]string{
		false: {"nodes/worker-1", "namespaces/web/pods/a", "namespaces/web/pods/b"},
		true:  {"nodes/worker-1"},
	} {
		w := &goneNode{refuses: refuses}
		said, err := stepOf(t, w, func(c *Control) plan.Step { return c.DeleteNode(c.Inv.Masters()[0], "worker-1") })
		if err != nil {
			t.Errorf("refuses %v: %v", refuses, err)
		}
		if !slices.Equal(w.deleted, want) || (len(said) > 0) != refuses {
			t.Errorf("refuses %v: deleted %q, said %q", refuses, w.deleted, said)
		}
	}
}
