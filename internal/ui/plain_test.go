package ui

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"hactl/internal/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./internal/ui -update rewrites it); got:\n%s", file, got)
	}
}

// story is a small bring-up; sleep lets time pass between its events.
func story(r plan.Reporter, sleep func(time.Duration)) {
	say := func(k plan.Kind, host, text string, took time.Duration, err string) {
		e := ev(k, host, "unit", text)
		e.Time, e.Elapsed, e.Err = t0, took, err
		r.Report(e)
	}
	say(plan.Note, "", "connected to 3 hosts", 0, "")
	sleep(300 * time.Millisecond)
	say(plan.StageStart, "", "3 to do", 0, "")
	say(plan.StepStart, "master-1", "start etcd.service", 0, "")
	say(plan.StepStart, "master-2", "start etcd.service", 0, "")
	say(plan.StepStart, "master-3", "write /etc/hosts", 0, "")
	say(plan.StepDone, "master-3", "write /etc/hosts", 40*time.Millisecond, "")
	sleep(5 * time.Second)
	say(plan.StepSay, "master-1", "waiting for quorum (1 of 3 members, at most 60s)", 0, "")
	sleep(19 * time.Second)
	say(plan.StepDone, "master-1", "start etcd.service", 24*time.Second, "")
	say(plan.StepFailed, "master-2", "", 24*time.Second, "start: unit failed\njournal: \x1b[31mno space left")
	say(plan.StageDone, "", "", 24*time.Second, "one failed")
	sleep(2 * time.Minute)
}

func TestPlainSaysEveryTenSecondsWhatIsStillRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := NewPlain(&b, Options{})
		story(p, time.Sleep)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		p.Report(plan.Event{Kind: plan.Note, Text: "too late"})
		golden(t, "plain.txt", b.String())
	})
}

func TestJSONIsOneEventALine(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b)
	story(j, func(time.Duration) {})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(b.Bytes()))
	for n := range bytes.Count(b.Bytes(), []byte("\n")) {
		var e plan.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
	}
	golden(t, "events.json", b.String())
}

func TestPipeAndDumbTerminalGetPlainLines(t *testing.T) {
	r := New(&bytes.Buffer{}, &bytes.Buffer{}, Options{})
	defer r.Close()
	if _, ok := r.(*Plain); !ok {
		t.Errorf("a pipe gets %T", r)
	}
	if _, ok := New(&bytes.Buffer{}, &bytes.Buffer{}, Options{JSON: true}).(*JSON); !ok {
		t.Error("-o json does not get JSON")
	}
}

func TestClockCountsMinutesBeyondTheHour(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "00:00.0", 65400 * time.Millisecond: "01:05.4", 61 * time.Minute: "61:00.0", -1: "00:00.0"} {
		if got := clock(d); got != want {
			t.Errorf("clock(%s) = %s, want %s", d, got, want)
		}
	}
}
