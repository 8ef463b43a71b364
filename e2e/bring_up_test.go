//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestBringUp takes three masters and a worker from bare hosts to a cluster.
func TestBringUp(t *testing.T) {
	inTurn(t)
	r := bareCluster(t)
	then(t, "preflight of bare hosts passes", r.preflight)
	then(t, "up from bare hosts by upload, one run at a time, no secret in any argv", r.bringUp)
	then(t, "nodes are Ready through the VIP and the kubeconfig is the operator's alone", func(t *testing.T) {
		r.nodesReady(t, 4)
		info, err := os.Stat(r.Path(r.Name() + ".kubeconfig"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("kubeconfig: %v, %v", info, err)
		}
	})
	then(t, "the plan is empty", r.inSync)
	then(t, "no secret in anything that a run wrote", r.noSecretsInRuns)
}

func (r *rig) bringUp(t *testing.T) {
	stop := argvWatch()
	first := r.start(t, nil, "up", "--yes", "-o", "json")
	eventually(t, "the first run is at work", func() error {
		if !strings.Contains(readText(t, first.out), `"stage-start"`) {
			return fmt.Errorf("no stage yet")
		}
		return nil
	})
	second := r.hactl(t, "up", "--yes")
	res := first.wait(t)
	lines, looks := stop()
	if second.code != 8 || !strings.Contains(second.err, fmt.Sprintf("pid %d, hactl up since", first.cmd.Process.Pid)) {
		t.Errorf("a second run beside the first: %s", second)
	}
	if res.code != 0 {
		t.Fatalf("%s", res)
	}
	u := res.up(t)
	if !u.Status.Healthy || u.Changed == 0 || len(u.Status.Checks) < 15 {
		t.Errorf("result: %+v", u)
	}
	for _, k := range u.Status.Checks {
		if k.State != "ok" {
			t.Errorf("%+v", k)
		}
	}
	took(t, "up of three masters and a worker", res.took)
	noSecrets(t, "a command line", strings.Join(lines, "\n"), r.secrets(t))
	t.Logf("%d command lines seen in %d looks", len(lines), looks)
	// The watch saw this machine's processes and those of the hosts.
	for _, want := range []string{r.bin, "kube-apiserver"} {
		if !strings.Contains(strings.Join(lines, "\n"), want) {
			t.Errorf("no command line of %s was seen: this test looks in the wrong place", want)
		}
	}
}
