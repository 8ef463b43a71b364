package cmd

import (
	"strings"
	"testing"

	"hactl/internal/drill"
)

// A report with every verdict: the table an operator reads.
func TestDrillIsPrintedAsItWent(t *testing.T) {
	rep := &drill.Report{Verdict: drill.Failed, TookMS: 65000, Scenarios: []*drill.Result{
		{Name: "keepalived-stopped", Verdict: drill.Met, Checks: []drill.Outcome{
			{Check: "gap vip/ready/new", Unit: "ms", Bound: 250, Values: []float64{100, 140}, Before: 20, AtFault: 130, P50: 120, P95: 140, Max: 140, Seen: 180, Noise: 40, Failed: 3, Sent: 900, Met: true, Verdict: drill.Met},
			{Check: "owners after the undo", Unit: "count", Bound: 1, Values: []float64{1, 1}, P50: 1, P95: 1, Max: 1, Seen: 1, Met: true, Verdict: drill.Met},
		}, Runs: []*drill.Run{{ID: "a", Acked: 40}, {ID: "b", Acked: 2}}},
		{Name: "owner-cut-off", Verdict: drill.Missed, Checks: []drill.Outcome{
			{Check: "gap vip/ready/new", Unit: "ms", Bound: 500, Values: []float64{12345}, P50: 12345, P95: 12345, Max: 12345, Seen: 12345, Verdict: drill.Missed},
		}, Runs: []*drill.Run{{ID: "c", Acked: 1, Lost: []string{"w7"}}}},
		{Name: "node-back", Verdict: drill.Unclear, Checks: []drill.Outcome{
			{Check: "gap vip/ready/new", Unit: "ms", Bound: 500, Values: []float64{700}, P50: 700, P95: 700, Max: 700, Seen: 710, Noise: 400, Verdict: drill.Unclear, Why: "the machine stood still for 400 of the 700 ms"},
		}},
		{Name: "worker-lost", Verdict: drill.Failed, Reason: "no replica \x1b[31mis on worker-1"},
		{Name: "all-rebooted", Verdict: drill.Skipped, Reason: "needs --accept-risk=quorum"},
	}}
	var out strings.Builder
	(&app{stdout: &out, noColor: true, getenv: func(string) string { return "" }}).printDrill(rep)
	for line := range strings.Lines(`SCENARIO            CHECK                 RUNS  BEFORE  SEEN    NOISE   P50     P95     MAX     BOUND   FAILED    VERDICT
keepalived-stopped  gap vip/ready/new     2     20 ms   180 ms  40 ms   120 ms  140 ms  140 ms  250 ms  3 of 900  met
                    owners after the      2                             1       1       1       1                 met
                    undo
owner-cut-off       gap vip/ready/new     1                             12.3 s  12.3 s  12.3 s  500 ms            missed
node-back           gap vip/ready/new     1             710 ms  400 ms  700 ms  700 ms  700 ms  500 ms            unclear
all-rebooted        needs                                                                                         skipped
                    --accept-risk=quorum
unclear: node-back, gap vip/ready/new: the machine stood still for 400 of the 700 ms
43 writes acknowledged while things were broken, 1 lost
verdict: failed, 1m05s
`) {
		if !strings.Contains(out.String(), line) {
			t.Errorf("there is no line %q", line)
		}
	}
	if s := out.String(); strings.Contains(s, "\x1b") || !strings.Contains(s, "problem: worker-lost: no replica ") {
		t.Errorf("%q", s)
	}
	if t.Failed() {
		t.Log("\n" + out.String())
	}
}

func TestDrillThatDidNotBeginSaysWhy(t *testing.T) {
	var out strings.Builder
	(&app{stdout: &out, noColor: true, getenv: func(string) string { return "" }}).printDrill(&drill.Report{Verdict: drill.Failed, Reason: "etcd has 2 of 3 members"})
	if s := out.String(); !strings.HasPrefix(s, "problem: etcd has 2 of 3 members\n") || strings.Contains(s, "SCENARIO") {
		t.Errorf("%q", s)
	}
}
