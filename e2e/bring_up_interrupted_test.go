//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/lab"
)

// killed is the exit code of a run that a signal ended.
const killed = -1

// The stages of a bring-up that the tests below interrupt.
const (
	prepareHosts = "prepare hosts"
	runtimeStage = "runtime, etcd and VIP"
	quorumStage  = "etcd quorum"
	controlPlane = "control plane"
)

// TestUpGoesOnAfterKillsAndALostHost interrupts one bring-up three times: hactl is
// killed, a host loses its power, hactl is killed again. The next run completes it.
func TestUpGoesOnAfterKillsAndALostHost(t *testing.T) {
	inTurn(t)
	r := bareCluster(t)
	then(t, "hactl is killed while it prepares the hosts", func(t *testing.T) {
		if !r.killedAfter(t, 12) {
			t.Error("it was over before")
		}
	})
	then(t, "a host loses its power", func(t *testing.T) {
		if !r.hostLost(t, "master-2", runtimeStage) {
			t.Error("it was over before")
		}
	})
	then(t, "hactl is killed while it starts the control plane", func(t *testing.T) {
		if !r.killedIn(t, controlPlane) {
			t.Error("it was over before")
		}
	})
	then(t, "the next run converges", func(t *testing.T) { r.converges(t, 4) })
}

// TestUpKilledAgainAndAgainConverges kills one bring-up in every stage, after some
// steps and at random instants. Every next run goes on from what it finds.
func TestUpKilledAgainAndAgainConverges(t *testing.T) {
	inTurn(t)
	r := bareCluster(t)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not for secrets
	// What a useradd that is killed leaves behind; the window is too small to be
	// met by chance often.
	labOutput(t, r.Lab, "master-2", "useradd --system --user-group etcd && sed -i /^etcd:/d /etc/group /etc/gshadow")
	labOutput(t, r.Lab, "master-3", "groupadd --system etcd")
	steps := func(n int) func() bool { return func() bool { return r.killedAfter(t, n) } }
	stage := func(s string) func() bool { return func() bool { return r.killedIn(t, s) } }
	random := func() bool { return r.killedSoon(t, time.Duration(500+rnd.IntN(12_000))*time.Millisecond) == 1 }
	kills, ca := 0, ""
	for _, kill := range []func() bool{steps(1), steps(20), random, steps(5), stage(runtimeStage), random, steps(10), stage(quorumStage), stage(controlPlane), random, steps(2)} {
		if kill() {
			kills++
		}
		now := labOutput(t, r.Lab, "master-1", "cat /etc/etcd/pki/ca.crt 2>/dev/null || :")
		if ca != "" && now != ca {
			t.Fatal("the etcd CA on master-1 is another one")
		}
		ca = now
	}
	r.converges(t, 4)
	t.Logf("runs killed: %d", kills)
	if kills < 7 {
		t.Error("too few runs were killed for this to mean anything")
	}
}

// killedAfter kills a run when it has begun n steps; false when it ended before.
func (r *rig) killedAfter(t *testing.T, n int) bool {
	t.Helper()
	return r.killedOnce(t, fmt.Sprintf("%d steps", n), func(said string) bool {
		return strings.Count(said, `"kind":"step-start"`) >= n
	})
}

// killedIn kills a run soon after it has begun a stage; false when it ended before.
func (r *rig) killedIn(t *testing.T, stage string) bool {
	t.Helper()
	return r.killedOnce(t, stage, func(said string) bool { return strings.Contains(said, stageStart(stage)) })
}

func (r *rig) killedOnce(t *testing.T, at string, now func(said string) bool) bool {
	t.Helper()
	x := r.start(t, nil, "up", "--yes", "-o", "json")
	if x.until(t, at, now) {
		_ = x.cmd.Process.Signal(syscall.SIGKILL)
	}
	res := x.wait(t)
	if res.code != killed && res.code != 0 {
		t.Fatalf("the run to be killed at %s: %s", at, res)
	}
	t.Logf("to be killed at %s: exit %d after %s", at, res.code, res.took.Round(100*time.Millisecond))
	return res.code == killed
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
	r.nodesReady(t, nodes)
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

// hostLost cuts the power of a host when a run begins a stage, and boots it again
// when the run has ended; false when the run was over before that stage.
func (r *rig) hostLost(t *testing.T, victim, stage string) bool {
	t.Helper()
	x := r.start(t, nil, "up", "--yes", "-o", "json")
	reached := x.until(t, stage, func(said string) bool { return strings.Contains(said, stageStart(stage)) })
	labInject(t, r.Lab, lab.Off, victim)
	res := x.wait(t)
	labInject(t, r.Lab, lab.Boot, victim)
	switch {
	case !reached && res.code == 0:
		t.Logf("the run was over before %s", stage)
		return false
	case !reached:
		t.Fatalf("it did not come to %s: %s", stage, res)
	case res.code == 0:
		t.Fatalf("up does not notice that a host lost its power: %s", res)
	}
	if !strings.Contains(res.out+res.err, victim) || !strings.Contains(res.err, "hint:") {
		t.Errorf("the error does not name the host, or has no hint: %s", res)
	}
	took(t, "up until it has ended after a host lost its power", res.took)
	return true
}

// TestHostPoweredOffAtEachStage cuts the power of a master in every stage of a
// bring-up and boots it again: up says which host it was, and the next one goes on.
func TestHostPoweredOffAtEachStage(t *testing.T) {
	inTurn(t)
	r := bareCluster(t)
	cut := 0
	for _, stage := range []string{prepareHosts, runtimeStage, quorumStage, controlPlane} {
		then(t, "off during "+stage, func(t *testing.T) {
			if r.hostLost(t, "master-2", stage) {
				cut++
			}
		})
	}
	then(t, "the next run converges", func(t *testing.T) { r.converges(t, 4) })
	if cut < 3 {
		t.Errorf("%d stages were cut: too few for this to mean anything", cut)
	}
}

func stageStart(stage string) string { return `"stage-start","stage":"` + stage + `"` }

// until waits until what the run has written satisfies now; false when the run ended
// before that.
func (x *running) until(t *testing.T, what string, now func(said string) bool) bool {
	t.Helper()
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		said := readText(t, x.out)
		if now(said) {
			return true
		}
		if strings.Contains(said, `"kind":"result"`) || strings.Contains(readText(t, x.err), "error: ") {
			return false
		}
	}
	t.Fatal("the run neither ends nor comes to " + what)
	return false
}
