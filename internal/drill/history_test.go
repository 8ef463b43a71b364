package drill

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// drilled is the report of a drill that found a gap.
func drilled(cluster string, at time.Time, gap float64, verdict string) *Report {
	return &Report{Schema: Schema, Cluster: cluster, Started: at, Scenarios: []*Result{
		{Name: "owner-cut-off", Verdict: verdict, Checks: []Outcome{{Check: "gap vip/ready/new", Unit: InTime, Bound: 500, Values: []float64{gap}, Max: gap, Verdict: verdict}}},
		{Name: "all-rebooted", Verdict: Skipped},
	}}
}

// A report tells what the drills before found, in the same folder, of the same cluster.
func TestReportIsComparedWithEarlierOnes(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	now := time.Date(2026, 6, 30, 9, 0, 0, 0, time.UTC)
	for _, r := range []*Report{
		drilled("prod", now.AddDate(0, -6, 0), 200, Met), // more than a report shows
		drilled("prod", now.AddDate(0, -3, 0), 520, Missed),
		drilled("prod", now.AddDate(0, -1, -2), 310, Met),
		drilled("test", now.AddDate(0, -1, -2), 90, Met),
		drilled("prod", now.Add(-2*time.Hour), 330, Met),
	} {
		if _, err := r.Save(folder); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveReports(folder); err != nil {
		t.Fatal(err)
	}
	r := drilled("prod", now, 320, Met)
	if err := r.Compare(folder); err != nil {
		t.Fatal(err)
	}
	want := "330 ms 2 hours ago, 310 ms 1 month ago, 520 ms (missed) 3 months ago"
	if got := r.Scenarios[0].Checks[0].Ago(r.Started); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil || strings.Count(page.String(), want) == 0 {
		t.Errorf("%v: the page has no %q", err, want)
	}
}

// The first drill of a folder is compared with none, and a drill that was refused is none.
func TestFirstReportIsComparedWithNone(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	now := time.Date(2026, 6, 30, 9, 0, 0, 0, time.UTC)
	if _, err := (&Report{Cluster: "prod", Started: now, Reason: "refused"}).Save(folder); err != nil {
		t.Fatal(err)
	}
	r := drilled("prod", now.Add(time.Hour), 320, Met)
	if err := r.Compare(folder); err != nil || r.Scenarios[0].Checks[0].Earlier != nil {
		t.Errorf("%v %+v", err, r.Scenarios[0].Checks[0])
	}
}

// A history that cannot be read stays as it is, and the reports are written all the same.
func TestDamagedHistoryIsKept(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, historyFile)
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := drilled("prod", time.Now(), 320, Met)
	if err := r.Compare(folder); err == nil {
		t.Error("it was read")
	}
	if files, err := r.Save(folder); err == nil || !strings.Contains(err.Error(), historyFile) || len(files) != len(reports) {
		t.Errorf("%v %q", err, files)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "[{" {
		t.Errorf("%v %q", err, b)
	}
}

// The history keeps the latest drills, so that a nightly one does not grow for ever.
func TestHistoryHasAnEnd(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range historyKept + 3 {
		if err := drilled("prod", at.AddDate(0, 0, i), float64(i), Met).remember(folder); err != nil {
			t.Fatal(err)
		}
	}
	history, err := readHistory(folder)
	if err != nil || len(history) != historyKept || history[0].Scenarios[0].Checks[0].Max != 3 {
		t.Errorf("%v: %d drills, the first is %+v", err, len(history), history[0])
	}
}
