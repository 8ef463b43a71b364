//go:build e2e

package e2e

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"hactl/internal/lab"
)

// killedFiveTimes is killed, five times.
func (r *rig) killedFiveTimes(t *testing.T, within time.Duration, args ...string) {
	t.Helper()
	r.killed(t, 5, within, args...)
}

// killed runs hactl so many times and kills each run at a random moment within the time
// given; a run that is over before ends it. At least one has to be killed.
func (r *rig) killed(t *testing.T, times int, within time.Duration, args ...string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	kills := 0
	for range times {
		d := time.Second + time.Duration(rnd.Int64N(int64(within-time.Second)))
		x := r.start(t, nil, args...)
		kill := time.AfterFunc(d, func() { _ = x.cmd.Process.Signal(syscall.SIGKILL) })
		res := x.wait(t)
		kill.Stop()
		if res.code != killed {
			t.Logf("over before %s: %s", d, res)
			break
		}
		kills++
		t.Logf("killed after %s", d)
	}
	if kills == 0 {
		t.Error("no run was killed: this test tried nothing")
	}
}

// TestRenewalKilledAgainAndAgainIsCompleted kills renewals of all certificates.
func TestRenewalKilledAgainAndAgainIsCompleted(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.killedFiveTimes(t, 20*time.Second, "certs", "renew", "--all", "--yes")
	r.must(t, 0, "certs", "renew", "--all", "--yes")
	r.must(t, 0, "certs")
	r.healthy(t)
	r.inSync(t)
}

// TestRestoreKilledAgainAndAgainIsCompleted kills restores from one snapshot. No member
// of an earlier generation is left beside the others.
func TestRestoreKilledAgainAndAgainIsCompleted(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
	file := r.saved(t)
	r.must(t, 2, "restore", file, "--dry-run")
	r.killedFiveTimes(t, 16*time.Second, "restore", file, "--yes-restore", r.Name())
	r.restores(t, "restore that goes on after kills", file)
	tokens := map[string]bool{}
	for _, m := range r.names(lab.Master) {
		tokens[labOutput(t, r.Lab, m, "cat /etc/etcd/established; [ ! -e /var/lib/hactl/restoring ] || echo a restore is under way")] = true
	}
	if len(tokens) != 1 {
		t.Errorf("masters are of %v", tokens)
	}
	r.kubectlDoes(t, "delete", "configmap", "kept")
	r.inSync(t)
}
