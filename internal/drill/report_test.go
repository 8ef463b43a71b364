package drill

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sampleReport is a drill of every kind of verdict: met, missed beside a lost
// write, a fault that did nothing, refused, skipped.
func sampleReport() *Report {
	start := time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)
	cut := sampleRun("owner-cut-off-1f2e3d4c", start, 1600, 9700, 10900, 13200)
	for i := range cut.Streams {
		s := &cut.Streams[i]
		switch s.Name {
		case vipReady, vipRead, "vip/ready/kept":
			s.hurt(1590, 1912)
		case vipWrite, "vip/write/kept", etcdWrite:
			s.hurt(1590, 2870)
		case "master-1/ready/new", "master-1/ready/kept":
			s.hurt(1590, 9760)
		}
	}
	cut.Streams[7].Failures = []SpanMS{{3100, 3500}, {5200, 5230}}
	cut.Victims = []Victim{{"master-1", "drop every packet but ssh"}}
	cut.Owners = []Lane{{"master-1", []SpanMS{{0, 9790}}}, {"master-2", []SpanMS{{1905, 13200}}}, {"master-3", []SpanMS{}}}
	cut.Leaders = []Lane{{"master-1", []SpanMS{{0, 2700}}}, {"master-2", []SpanMS{}}, {"master-3", []SpanMS{{2810, 13200}}}}
	cut.Values = map[string]Value{"gap vip/ready/new": {Measured: 322, Met: true, Verdict: Met, Before: 64, AtFault: 322}, "gap vip/write/new": {Measured: 1280, Met: true, Verdict: Met}, "owners after the undo": {Measured: 90, Met: true, Verdict: Met}}
	cut.Noise = []SpanMS{{1700, 1780}, {6000, 6090}}
	cut.Streams[0].Excused = []SpanMS{{1700, 1780}}
	lost := sampleRun("apiserver-killed-99aabbcc", start, 1550, 8000, 8400, 10500)
	lost.Victims = []Victim{{"master-2", "SIGKILL kube-apiserver"}}
	for i := range lost.Streams {
		if s := &lost.Streams[i]; s.Name == vipReady || s.Name == "master-2/ready/new" {
			s.hurt(1500, 2440)
		}
	}
	lost.Owners = []Lane{{"master-1", []SpanMS{}}, {"master-2", []SpanMS{{0, 2300}}}, {"master-3", []SpanMS{{2420, 10500}}}}
	lost.Leaders = []Lane{{"master-1", []SpanMS{{0, 10500}}}, {"master-2", []SpanMS{}}, {"master-3", []SpanMS{}}}
	lost.Lost = []string{"master-3: apiserver-killed-99aabbcc-new-000173"}
	lost.Problems = []string{"1 acknowledged writes were lost, the first: master-3: apiserver-killed-99aabbcc-new-000173"}
	lost.Values = map[string]Value{"gap vip/ready/new": {Measured: 940, Verdict: Missed}}
	idle := sampleRun("owner-powered-off-0a1b2c3d", start, 1520, 31600, 0, 32000)
	idle.ProvedMS = 0
	idle.Victims = []Victim{{"master-1", "power off"}}
	idle.Problems = []string{"master-1: the fault did nothing: power off: no sign of it within 30s"}
	return &Report{
		Schema: Schema, Cluster: "prod-eu <1>", Started: start, TookMS: 84210, IntervalMS: 20, DeadlineMS: 1000, Verdict: Missed,
		Scenarios: []*Result{
			{Name: "owner-cut-off", Summary: "the VIP's owner loses the network", Verdict: Met, Runs: []*Run{cut}, Checks: []Outcome{
				{Check: "gap vip/ready/new", Unit: "ms", Bound: 500, Values: []float64{322, 310, 391}, Before: 81, AtFault: 322, Failed: 16, Sent: 660, P50: 322, P95: 391, Max: 391, Met: true, Verdict: Met,
					Earlier: []Earlier{{start.AddDate(0, -1, 0), 310, Met}, {start.AddDate(0, -2, 0), 610, Missed}}},
				{Check: "gap vip/write/new", Unit: "ms", Bound: 2000, Values: []float64{1280, 1190, 1320}, Sent: 660, P50: 1280, P95: 1320, Max: 1320, Met: true, Verdict: Met},
				{Check: "owners after the undo", Unit: "ms", Bound: 1000, Values: []float64{90, 60, 71}, P50: 71, P95: 90, Max: 90, Met: true, Verdict: Met},
				{Check: "loss vip/ready/new", Unit: "%", Bound: 5, Values: []float64{0, 6, 0}, Seen: 6, P50: 0, P95: 6, Max: 6, Verdict: Unclear, Why: "the machine stood still for 310 ms in that time"},
			}},
			{Name: "apiserver-killed", Summary: "the apiserver on the VIP's owner is killed", Verdict: Failed, Runs: []*Run{lost}, Checks: []Outcome{
				{Check: "gap vip/ready/new", Unit: "ms", Bound: 400, Values: []float64{940}, Failed: 147, Sent: 660, P50: 940, P95: 940, Max: 940, Verdict: Missed},
				{Check: "stays", Unit: "count", Values: []float64{1}, P50: 1, P95: 1, Max: 1, Verdict: Missed},
			}},
			{Name: "owner-powered-off", Summary: "the VIP's owner loses its power", Verdict: Failed, Runs: []*Run{idle}},
			{Name: "worker-lost", Summary: "a worker is cut off", Verdict: Failed, Reason: "not safe to start: none of the demo's 10 replicas is on worker-1: its loss would test nothing"},
			{Name: "all-rebooted", Summary: "every master is powered off at once and comes back", Verdict: Skipped, Reason: "not run: takes the majority away on purpose"},
		},
	}
}

func sampleRun(id string, at time.Time, fault, undo, healed, end float64) *Run {
	r := &Run{ID: id, Started: at, From: "this machine", FaultMS: fault, ProvedMS: fault + 40, UndoMS: undo, HealedMS: healed, EndMS: end, Acked: 1512, Lost: []string{}}
	for _, n := range []string{vipReady, vipRead, vipWrite, "vip/ready/kept", "vip/write/kept", "master-1/ready/new", "master-1/ready/kept",
		"master-2/ready/new", "master-2/ready/kept", "master-3/ready/new", "master-3/ready/kept", etcdWrite} {
		r.Streams = append(r.Streams, StreamReport{Name: n, Sent: 660, GapMS: 24.5, GapAtMS: 4000, P50MS: 3.21, P99MS: 9.87, Outages: []SpanMS{}, Failures: []SpanMS{}})
	}
	return r
}

func (s *StreamReport) hurt(from, to float64) {
	s.Outages = append(s.Outages, SpanMS{from, to})
	s.GapMS, s.GapAtMS, s.Failed, s.LastErr = to-from, from, int((to-from)/20), `Get "https://10.0.0.100:6443/readyz": context deadline exceeded`
}

func TestReportsAreAsAgreed(t *testing.T) {
	t.Parallel()
	rep := sampleReport()
	timeline := func(w *bytes.Buffer) error {
		for _, s := range rep.Scenarios {
			WriteTimeline(w, s)
		}
		return nil
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"drill.json": func(w *bytes.Buffer) error { return rep.WriteJSON(w) },
		"drill.xml":  func(w *bytes.Buffer) error { return rep.WriteJUnit(w) },
		"drill.html": func(w *bytes.Buffer) error { return rep.WriteHTML(w) },
		"drill.txt":  timeline,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s differs from %s; if that is meant, run the test with -update\n%s", name, golden, firstDifference(b.String(), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer"
}

func TestHTMLNeedsNothingFromElsewhereAndEscapes(t *testing.T) {
	t.Parallel()
	rep := sampleReport()
	rep.Scenarios[0].Runs[0].Problems = []string{`<script>alert(1)</script>`}
	var b bytes.Buffer
	if err := rep.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script", "src=", "@import", "url(", `href="http`, "<link", "prod-eu <1>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	if strings.Count(page, "<svg") != 3 {
		t.Errorf("%d pictures, expected one for each of the three scenarios that ran", strings.Count(page, "<svg"))
	}
}

func TestJUnitCountsAddUp(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := sampleReport().WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var counts []int
	for _, s := range got.Suites {
		counts = append(counts, s.Tests, s.Failures, s.Errors, s.Skipped)
	}
	if want := []int{5, 0, 0, 1, 3, 2, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1}; !slices.Equal(counts, want) {
		t.Errorf("tests, failures, errors, skipped per suite: got %v, expected %v", counts, want)
	}
}

// A drill that could not start says why in every report; to a CI system that
// reads nothing but the cases, it is an error and not nothing.
func TestDrillThatWasRefusedSaysWhyInEveryReport(t *testing.T) {
	t.Parallel()
	rep := sampleReport()
	rep.Scenarios, rep.Verdict, rep.Reason = []*Result{}, Failed, "not safe to start: master-3: etcd.service is not active"
	for name, write := range map[string]func(io.Writer) error{"JSON": rep.WriteJSON, "JUnit": rep.WriteJUnit, "HTML": rep.WriteHTML} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), rep.Reason) {
			t.Errorf("%s does not say why", name)
		}
		if name == "JUnit" && !strings.Contains(b.String(), `tests="1" failures="0" errors="1"`) {
			t.Errorf("%s", b.String())
		}
	}
}

// What was never measured has no figures, neither good nor bad ones.
func TestScenarioThatNeverRanShowsItsReasonAndNoFigures(t *testing.T) {
	t.Parallel()
	sc := testScenario(s1, gap(vipReady, s1), stays())
	for name, runs := range map[string][]*Run{"refused": nil, "did nothing": {{ID: "a"}}} {
		if got := outcomes(sc, runs); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	measured := &Run{ID: "a", ProvedMS: 1, Values: map[string]Value{"gap vip/ready/new": {Measured: 5, Met: true, Verdict: Met}, "stays": {Met: true, Verdict: Met}}}
	if got := outcomes(sc, []*Run{measured, {ID: "b"}}); len(got) != 2 || !got[0].Met || len(got[0].Values) != 1 {
		t.Errorf("the second of two runs was refused: %+v", got)
	}
	var b bytes.Buffer
	if err := sampleReport().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, why := range []string{"none of the demo", "the fault did nothing", "acknowledged writes were lost"} {
		overview, _, _ := strings.Cut(b.String(), "<section")
		if !strings.Contains(overview, why) {
			t.Errorf("the overview does not say %q", why)
		}
	}
}

// The run with the largest share of failures stands for all.
func TestFailedRequestsAreThoseOfTheWorstRun(t *testing.T) {
	t.Parallel()
	var runs []*Run
	for _, v := range []Value{{Failed: 3, Sent: 400}, {Failed: 100, Sent: 400}, {Failed: 101, Sent: 900}} {
		runs = append(runs, &Run{ProvedMS: 1, Values: map[string]Value{"gap vip/ready/new": v}})
	}
	if got := outcomes(testScenario(s1, gap(vipReady, s1)), runs)[0].Requests(); got != "100 of 400" {
		t.Errorf("got %q", got)
	}
}

func TestJSONComesBackAsItWas(t *testing.T) {
	t.Parallel()
	rep := sampleReport()
	var b bytes.Buffer
	if err := rep.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, rep) {
		t.Error("the report changed on its way through JSON")
	}
}

func TestPictureShowsWhatWasMissed(t *testing.T) {
	t.Parallel()
	for check, want := range map[string]string{"failures " + vipWrite: "1 failed", "gap " + vipWrite: "280 ms"} {
		run := &Run{Values: map[string]Value{check: {Measured: 1, Verdict: Missed}}}
		row := drawing{run: run, end: 1000}.stream(StreamReport{Name: vipWrite, Failed: 1, GapMS: 280}, 0)
		if row.Value != want || !row.Bad {
			t.Errorf("%s missed: %q, bad %t", check, row.Value, row.Bad)
		}
	}
}
