//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"hactl/internal/lab"
)

// TestUpGoesOnWithoutAMasterOnlyWhenTold has masters that never answer from the
// first run on: up names them and touches no host, goes on without one when told
// to, not without two, and brings it in once it answers. The hosts lack every
// package that hactl needs: it installs them.
func TestUpGoesOnWithoutAMasterOnlyWhenTold(t *testing.T) {
	inTurn(t)
	const gone, too = "master-3", "master-2"
	r := newRig(t, lab.Config{Name: named("skipped"), Masters: 3, Bare: true})
	labInject(t, r.Lab, lab.Off, gone)
	then(t, "it is named and no host is touched", func(t *testing.T) {
		before := r.touched(t, "master-1")
		res := r.must(t, 3, "up", "--yes")
		if !strings.Contains(res.err, gone+":") || !strings.Contains(res.err, "hactl up --skip") {
			t.Errorf("not a clear error: %s", res)
		}
		if r.touched(t, "master-1") != before {
			t.Error("master-1 was touched")
		}
	})
	then(t, "without a quorum of the planned masters it does not go on", func(t *testing.T) {
		labInject(t, r.Lab, lab.Off, too)
		res := r.must(t, 7, "up", "--yes", "--skip", gone+","+too)
		if !strings.Contains(res.err, "1 of 3 masters are no quorum") {
			t.Errorf("%s", res)
		}
		labInject(t, r.Lab, lab.Boot, too)
	})
	then(t, "it goes on without one when told to", func(t *testing.T) {
		r.must(t, 0, "up", "--yes", "--skip", gone)
		r.nodesReady(t, 2)
		r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=by-two")
	})
	then(t, "the one that was skipped joins once it answers", func(t *testing.T) {
		labInject(t, r.Lab, lab.Boot, gone)
		r.converges(t, 3)
		r.healthy(t)
		if out := r.kubectlSays(t, "get", "configmap", "kept", "-o", "jsonpath={.data.written}"); out != "by-two" {
			t.Errorf("what was written before: %q", out)
		}
	})
}
