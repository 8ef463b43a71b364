package ui

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"hactl/internal/plan"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// still returns a live view that never paints by itself.
func still(w io.Writer, width, height int, now *time.Time) *Live {
	return &Live{
		painter: &Painter{w: w, size: func() (int, int) { return width, height }}, now: func() time.Time { return *now },
		marks: marksFor(true), board: newBoard(), done: make(chan struct{}),
	}
}

func ev(k plan.Kind, host, what, text string) plan.Event {
	e := plan.Event{Kind: k, Stage: "etcd", Host: host, Text: text}
	if host != "" {
		e.Step = plan.ID("etcd/" + host + "/" + what)
	}
	return e
}

func TestViewNeverExceedsTheWindow(t *testing.T) {
	now := t0
	for _, hosts := range []int{0, 1, 3, 40} {
		for _, lanes := range []int{1, 5} {
			for _, width := range []int{1, 10, 24, 40, 60, 61, 130} {
				for _, height := range []int{1, 2, 3, 4, 5, 8, 13, 24, 50} {
					l := still(io.Discard, width, height, &now)
					l.Report(ev(plan.StageStart, "", "", "9 to do"))
					for h := range hosts {
						for n := range lanes {
							name, what := fmt.Sprintf("master-%d", h), fmt.Sprint(n)
							l.Report(ev(plan.StepStart, name, what, "write 文件 /etc/a/very/long/path/that/goes/on/and/on"))
							l.Report(ev(plan.StepSay, name, what, "waiting for quorum (1 of 3 members)"))
						}
					}
					lines := l.view(width, height)
					if len(lines) > height {
						t.Fatalf("%d hosts x %d in %dx%d: %d lines", hosts, lanes, width, height, len(lines))
					}
					for _, s := range lines {
						if width >= 24 && s.columns() > width {
							t.Fatalf("%d hosts x %d in %dx%d: %q takes %d columns", hosts, lanes, width, height, s.paint(Style{}), s.columns())
						}
					}
				}
			}
		}
	}
}

func TestViewShowsWhatIsWaitedForInANarrowWindow(t *testing.T) {
	now := t0
	l := still(io.Discard, 60, 20, &now)
	l.Report(ev(plan.StageStart, "", "", "2 to do"))
	l.Report(ev(plan.StepStart, "master-10", "unit", "start etcd.service"))
	l.Report(ev(plan.StepStart, "master-2", "unit", "enable and start etcd.service with a long name"))
	l.Report(ev(plan.StepSay, "master-2", "unit", "waiting for quorum"))
	now = now.Add(1500 * time.Millisecond)
	want := []string{
		"▸ etcd (2 to do, 0 done)                               1.5s",
		"  master-2   enable and start …: waiting for quorum    1.5s",
		"  master-10  start etcd.service                        1.5s",
	}
	var got []string
	for _, s := range l.view(59, 19) {
		got = append(got, s.paint(Style{}))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFinishedStageCollapsesToOneLineThatStays(t *testing.T) {
	now := t0
	var b bytes.Buffer
	l := still(&b, 80, 24, &now)
	l.Report(ev(plan.StageStart, "", "", "1 to do"))
	l.Report(ev(plan.StepStart, "master-1", "unit", "start etcd.service"))
	l.paint()
	l.Report(ev(plan.StepDone, "master-1", "unit", "start etcd.service"))
	done := ev(plan.StageDone, "", "", "")
	done.Elapsed = 2 * time.Second
	l.Report(done)
	b.Reset()
	l.paint()
	if got := b.String(); !strings.HasPrefix(got, "\x1b[2A\r✓ etcd ") || !strings.Contains(got, "1 change on 1 host") || !strings.HasSuffix(got, "\x1b[J") {
		t.Errorf("got %q", got)
	}
	b.Reset()
	l.paint()
	if b.Len() != 0 {
		t.Errorf("painted with nothing to show: %q", b.String())
	}
}

func TestPaintGoesUpOverWrappedLinesAfterTheWindowShrank(t *testing.T) {
	if got := rows([]int{79, 10, 0, 40}, 40); got != 2+1+1+1 {
		t.Errorf("rows = %d", got)
	}
}

func TestHostileTextDoesNotReachTheTerminal(t *testing.T) {
	now := t0
	var b bytes.Buffer
	l := still(&b, 80, 24, &now)
	evil := "\x1b]0;owned\a\x1b[2J\x9b31m\u202eevil\r\nnext"
	l.Report(plan.Event{Kind: plan.StageStart, Stage: evil, Text: evil})
	l.Report(plan.Event{Kind: plan.StepStart, Stage: evil, Host: evil, Step: plan.ID(evil), Text: evil})
	l.Report(plan.Event{Kind: plan.StepSay, Step: plan.ID(evil), Text: evil})
	l.Report(plan.Event{Kind: plan.StepFailed, Stage: "x", Step: "y", Err: evil})
	l.Report(plan.Event{Kind: plan.Note, Host: evil, Text: evil})
	l.paint()
	out := strings.NewReplacer("\x1b[K", "", "\x1b[J", "", "\r\n", "\n", "\r", "").Replace(b.String())
	if i := strings.IndexFunc(out, func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' || r >= 0x7f && r < 0xa0 }); i >= 0 {
		t.Errorf("control character at %d of %q", i, out)
	}
}

func TestLiveStopsAtCloseAndKeepsTheLastState(t *testing.T) {
	var b bytes.Buffer
	l := NewLive(&Painter{w: &b, size: func() (int, int) { return 80, 24 }}, Style{}, Options{Getenv: func(string) string { return "" }})
	l.Report(plan.Event{Kind: plan.Note, Text: "the end"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	l.Report(plan.Event{Kind: plan.Note, Text: "too late"})
	_ = l.Close()
	if !strings.Contains(got, "- the end") || b.String() != got {
		t.Errorf("got %q, later %q", got, b.String())
	}
}
