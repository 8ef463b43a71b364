//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/lab"
)

// TestSweepEveryCut brings bare hosts up once for every call that hactl makes,
// and has it die before the first one or right after one of them, which is before
// the next. It takes most of an hour, so it runs only with HACTL_SWEEP=1;
// HACTL_SWEEP_FROM is the first call, HACTL_SWEEP_MASTERS (1) the number of
// masters, HACTL_SWEEP_JOBS (2) how many labs there are at a time.
func TestSweepEveryCut(t *testing.T) {
	if os.Getenv("HACTL_SWEEP") != "1" {
		t.Skip("runs with HACTL_SWEEP=1 (make sweep)")
	}
	masters := sweepNumber(t, "HACTL_SWEEP_MASTERS", 1)
	var after, cuts atomic.Int64 // after 0 calls: before the first
	after.Store(int64(sweepNumber(t, "HACTL_SWEEP_FROM", 1)) - 2)
	var over atomic.Bool
	var jobs sync.WaitGroup
	for job := range sweepNumber(t, "HACTL_SWEEP_JOBS", 2) {
		jobs.Go(func() {
			for !over.Load() {
				at := "1"
				if n := after.Add(1); n > 0 {
					at = strconv.FormatInt(n, 10) + "+"
				}
				reached := false
				t.Run(sweepName(at), func(t *testing.T) {
					reached = newRig(t, lab.Config{Name: named("sweep" + strconv.Itoa(job)), Masters: masters}).cutOnce(t, at)
				})
				if !reached {
					over.Store(true)
					t.Logf("not cut at call %s: no run makes so many, or its test failed", at)
					return
				}
				cuts.Add(1)
			}
		})
	}
	jobs.Wait()
	t.Logf("bring-ups cut and completed by the next run: %d", cuts.Load())
	if cuts.Load() == 0 {
		t.Error("no run was cut: this test tried nothing")
	}
}

// TestSweepRandomInstants kills hactl HACTL_SWEEP_RANDOM times, each time at a
// random instant and once a run: every first kill hits a bring-up from bare hosts,
// every second one a change of the configuration that restarts etcd and the
// apiservers of the cluster which came of it. After each kill the next run
// converges, and what was written to the API between the two is still there.
func TestSweepRandomInstants(t *testing.T) {
	if os.Getenv("HACTL_SWEEP_RANDOM") == "" {
		t.Skip("runs with HACTL_SWEEP_RANDOM=100 (make sweep)")
	}
	want, masters := sweepNumber(t, "HACTL_SWEEP_RANDOM", 100), sweepNumber(t, "HACTL_SWEEP_MASTERS", 1)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not for secrets
	bringUp, change := 0, 0
	defer func() {
		t.Logf("killed at random instants: %d bring-ups, %d changes of a running cluster", bringUp, change)
	}()
	upTakes, changeTakes := 25*time.Second, 15*time.Second // at first; then what the last one took
	for i := 0; bringUp+change < want && !t.Failed(); i++ {
		t.Run(fmt.Sprintf("round %d", i+1), func(t *testing.T) {
			r := newRig(t, lab.Config{Name: named("random"), Masters: masters})
			soon := func(whole time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(whole))) }
			start := time.Now()
			n := r.killedSoon(t, soon(upTakes))
			bringUp += n
			r.converges(t, masters)
			if n == 0 {
				upTakes = time.Since(start) // it was over before the kill
			}
			if _, err := r.kubectl(t, "", "create", "configmap", "kept", "--from-literal=round="+strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
			r.inventory(t, "inventory.yaml", func(s string) string {
				flags := fmt.Sprintf("kubernetes:\n  apiServerExtraArgs: {max-requests-inflight: \"%d\"}\n", 401+i)
				return strings.Replace(s, "kubernetes:\n", flags, 1) + fmt.Sprintf("etcd: {quotaBackendBytes: %d}\n", 4<<30+i)
			})
			start = time.Now()
			n = r.killedSoon(t, soon(changeTakes))
			change += n
			r.converges(t, masters)
			if n == 0 {
				changeTakes = time.Since(start)
			}
			if got, err := r.kubectl(t, "", "get", "configmap", "kept", "-o", "jsonpath={.data.round}"); err != nil || got != strconv.Itoa(i) {
				t.Errorf("an acknowledged write is lost: %q, %v", got, err)
			}
		})
	}
}

func sweepNumber(t *testing.T, env string, otherwise int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatal(fmt.Errorf("%s=%q is not a number above 0", env, v))
	}
	return n
}

// dieAt makes hactl kill itself at its n-th call to a host, where it was built with
// the tag sweep: see dyingBinary.
const dieAt = "HACTL_TEST_DIE_AT="

// cutOnce is a bring-up from bare hosts, cut once at that call. It reports
// whether the run got as far as the call.
func (r *rig) cutOnce(t *testing.T, at string) (reached bool) {
	t.Helper()
	r.bin = dyingBinary(t)
	res := r.start(t, []string{dieAt + at}, "up", "--yes").wait(t)
	if res.code != killed && res.code != 0 {
		t.Fatalf("the run to be cut at %s: %s", at, res)
	}
	r.converges(t, len(r.everyHost()))
	return res.code == killed
}

func sweepName(at string) string { return fmt.Sprintf("cut at call %s", at) }
