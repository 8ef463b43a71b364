//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"hactl/internal/lab"
)

// dieAt makes hactl kill itself at its n-th call to a host.
const dieAt = "HACTL_TEST_DIE_AT="

// killed is the exit code of a run that a signal ended.
const killed = -1

// TestUpKilledAgainAndAgainConverges kills one bring-up of three masters at
// calls spread over it, before and after they take effect, and at random
// instants in between. Every next run goes on from what it finds.
func TestUpKilledAgainAndAgainConverges(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Config{Name: named("crash"), Masters: 3, Workers: 1})
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not for secrets
	// What a useradd that is killed leaves behind; the window is too small to be
	// met by chance often.
	labOutput(t, r.Lab, "master-2", "useradd --system --user-group etcd && sed -i /^etcd:/d /etc/group /etc/gshadow")
	labOutput(t, r.Lab, "master-3", "groupadd --system etcd")
	cuts, kills := 0, 0
	var ca string
	for _, at := range []string{"9", "30+", "50", "random", "22+", "40", "random", "35+", "28", "random", "15+"} {
		if at == "random" {
			kills += r.killedSoon(t, time.Duration(500+rnd.IntN(12_000))*time.Millisecond)
		} else if res := r.start(t, []string{dieAt + at}, "up", "--yes").wait(t); res.code == killed {
			cuts++
			t.Logf("killed at call %s after %s", at, res.took.Round(100*time.Millisecond))
		} else if res.code != 0 {
			t.Fatalf("the run to be cut at %s: %s", at, res)
		}
		if now, err := r.Output(t.Context(), "master-1", "cat /etc/etcd/pki/ca.crt 2>/dev/null || :"); err != nil {
			t.Fatal(err)
		} else if ca != "" && now != ca {
			t.Fatal("the etcd CA on master-1 is another one")
		} else {
			ca = now
		}
	}
	r.converges(t, 4)
	t.Logf("cut points tried: %d at a call, %d at a random instant", cuts, kills)
	if cuts < 6 || kills < 1 {
		t.Error("too few runs were killed for this to mean anything")
	}
}

// killedSoon starts a run and kills it after d; it returns 1 when the run was
// still at work then.
func (r *rig) killedSoon(t *testing.T, d time.Duration) int {
	t.Helper()
	x := r.start(t, nil, "up", "--yes")
	kill := time.AfterFunc(d, func() { _ = x.cmd.Process.Signal(syscall.SIGKILL) })
	defer kill.Stop()
	res := x.wait(t)
	switch res.code {
	case killed:
		t.Logf("killed after %s", d)
		return 1
	case 0:
		return 0
	}
	t.Fatalf("the run to be killed after %s: %s", d, res)
	return 0
}

// converges runs up as an operator would: it ends healthy, the CAs on the hosts
// are the store's, the next plan is empty.
func (r *rig) converges(t *testing.T, nodes int) {
	t.Helper()
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, nodes, time.Minute)
	for _, h := range r.names(lab.Master) {
		for file, store := range map[string]string{"ca.crt": "kubernetes-ca", "front-proxy-ca.crt": "front-proxy-ca", "etcd/ca.crt": "etcd-ca"} {
			want := readText(t, r.Path("pki-"+r.Name(), "authorities", store, "cert.pem"))
			if got := labOutput(t, r.Lab, h, "cat /etc/kubernetes/pki/"+file); got+"\n" != want {
				t.Errorf("%s: %s is not the store's", h, file)
			}
		}
	}
	r.inSync(t)
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 0 {
		t.Errorf("the run after it changed %d", u.Changed)
	}
}

// cutOnce is a bring-up from bare hosts, cut once at that call. It reports
// whether the run got as far as the call.
func (r *rig) cutOnce(t *testing.T, at string) (reached bool) {
	t.Helper()
	res := r.start(t, []string{dieAt + at}, "up", "--yes").wait(t)
	if res.code != killed && res.code != 0 {
		t.Fatalf("the run to be cut at %s: %s", at, res)
	}
	r.converges(t, len(r.everyHost()))
	return res.code == killed
}

func sweepName(at string) string { return fmt.Sprintf("cut at call %s", at) }
