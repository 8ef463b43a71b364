//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/drill"
)

// TestDrillOfThreeFaults is the drill in the core: the apiserver behind the VIP, the
// leading etcd member, the network of the VIP's owner.
func TestDrillOfThreeFaults(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, name := range []string{"apiserver-killed", "etcd-leader-killed", "owner-cut-off"} {
		t.Run(name, func(t *testing.T) { r.drilled(t, name) })
	}
	r.comesInSync(t)
}

// TestDrill breaks a real cluster in every way there is.
func TestDrill(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, sc := range drill.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) { r.drilled(t, sc.Name) })
	}
	r.comesInSync(t)
}

// drillArgs are what a drill on the lab needs beside its scenarios.
func (r *rig) drillArgs(args ...string) []string {
	power := func(what string) string {
		return fmt.Sprintf("--power-%s-command=%s lab fault --name %s %s {host}", map[string]string{"off": "off", "boot": "on"}[what], r.bin, r.Name(), what)
	}
	return append([]string{"drill", "--yes", "--accept-risk=quorum", power("off"), power("boot")}, args...)
}

// exitOf is the exit code of a drill that measured, by its verdict.
var exitOf = map[string]int{drill.Met: 0, drill.Missed: 6, drill.Unclear: 9}

// drilled runs one scenario of the drill as an operator does. The cluster is in order, so
// no bound is missed: on a busy machine a check may be unclear. The fault took effect and
// was undone, everything was healthy afterwards, no acknowledged write is lost, nothing
// was written without a quorum, and in the end one host owns the VIP.
func (r *rig) drilled(t *testing.T, name string) {
	t.Helper()
	res, s := r.runDrill(t, name)
	if s.Verdict != drill.Met && s.Verdict != drill.Unclear || res.code != exitOf[s.Verdict] {
		t.Errorf("%s %s: %s", s.Verdict, s.Why(), res)
	}
	acked := 0
	for _, run := range s.Runs {
		acked += run.Acked
		if len(run.Lost) > 0 || len(run.Problems) > 0 {
			t.Errorf("%s: lost writes %q, problems %q", run.ID, run.Lost, run.Problems)
		}
		if len(run.Victims) == 0 || run.ProvedMS == 0 || run.HealedMS == 0 {
			t.Errorf("%s: victims %+v, in effect at %v ms, healed at %v ms", run.ID, run.Victims, run.ProvedMS, run.HealedMS)
		}
	}
	if acked == 0 || len(s.Runs) == 0 {
		t.Errorf("%d writes acknowledged in %d runs: nothing was tried", acked, len(s.Runs))
	}
	for _, c := range s.Checks {
		// A write that is taken without a quorum is wrong at any speed.
		if strings.HasPrefix(c.Check, string(drill.Refused)) && !c.Met {
			t.Errorf("%s is %v, bound %v", c.Check, c.Max, c.Bound)
		}
		record(t, "drill "+name+": "+c.Check, c.Unit, c.Max)
	}
	if left := r.armed(t); left != nil {
		t.Errorf("the drill has ended, and its undo is still to come: %v", left)
	}
	r.owner(t)
	r.healthy(t)
}

// runDrill runs one scenario and reads its report, which stays in the artifacts.
func (r *rig) runDrill(t *testing.T, name string) (result, *drill.Result) {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join(artifacts(), "drill-report", name))
	if err != nil {
		t.Fatal(err)
	}
	res := r.hactl(t, r.drillArgs(name, "--report", folder)...)
	t.Log(res.out)
	var rep drill.Report
	b, err := os.ReadFile(filepath.Join(folder, "drill.json"))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil || len(rep.Scenarios) != 1 || rep.Scenarios[0].Name != name {
		t.Fatalf("report: %v, %d scenarios: %s", err, len(rep.Scenarios), res)
	}
	return res, rep.Scenarios[0]
}

// inEffect waits until a drill says that its fault is in effect.
func (x *running) inEffect(t *testing.T) {
	t.Helper()
	eventually(t, "the fault to be in effect", func() error {
		said := readText(t, x.err)
		if strings.Contains(said, "error: ") {
			t.Fatalf("the drill has ended: %s", x.wait(t))
		}
		if !strings.Contains(said, "in effect") {
			return errors.New(tail(said))
		}
		return nil
	})
}
