package prober

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An owner's apiserver that is silent and at work keeps the address for a while;
// one that stops working loses it, and so does one that is not known to work.
func TestSilentOwnerAtWorkKeepsTheAddressForAWhile(t *testing.T) {
	const slow = 200 * time.Millisecond
	none := errors.New("no process")
	for _, c := range []struct {
		name  string
		share float64 // of a processor, used or waited for
		err   error
		want  time.Duration // of silence
	}{
		{"at work", 2 * busyShare, nil, busyFor * slow},
		{"hardly at work", busyShare / 2, nil, slow},
		{"at work, with an answer now and then", 2 * busyShare, nil, busyFor * slow},
		{"stopped", 0, nil, slow},
		{"not to be read", 2 * busyShare, none, slow},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			r := startWith(t, http.StatusOK, http.StatusOK, func(cfg *Config) {
				cfg.Slow = slow
				cfg.ProcessorTime = func() (time.Duration, error) {
					return time.Duration(c.share * float64(time.Since(began))), c.err
				}
			})
			r.settled(t)
			reaches(t, &r.peer.whole, wholeRise+1)
			r.stays(t, "0", slow)
			r.local.hang.Store(true)
			from := time.Now()
			if strings.Contains(c.name, "now and then") {
				go func() {
					time.Sleep(4 * slow) // two answers that are not late
					r.local.hang.Store(false)
					for n := r.local.asked.Load(); r.local.asked.Load() < n+2 && time.Since(from) < time.Minute; {
						time.Sleep(time.Millisecond)
					}
					r.local.hang.Store(true)
				}()
			}
			r.becomes(t, "1")
			if took := time.Since(from); took < c.want/2 || took > c.want+slow {
				t.Errorf("unfit after %v, want about %v", took, c.want)
			}
		})
	}
}

// Answers that come later than what counts as hung are no better than none.
func TestOwnerThatIsAlwaysLateLosesTheAddress(t *testing.T) {
	const slow = 200 * time.Millisecond
	began := time.Now()
	r := startWith(t, http.StatusOK, http.StatusOK, func(cfg *Config) {
		cfg.Slow = slow
		cfg.ProcessorTime = func() (time.Duration, error) { return time.Since(began), nil }
	})
	r.settled(t)
	reaches(t, &r.peer.whole, wholeRise+1)
	r.stays(t, "0", slow)
	r.local.delay.Store(int64(slow * 3 / 2)) // a probe times out after twice slow
	from := time.Now()
	r.becomes(t, "1")
	if took := time.Since(from); took < busyFor*slow/2 {
		t.Errorf("unfit after %v, want about %v", took, busyFor*slow)
	}
	r.local.delay.Store(0)
	r.becomes(t, "0")
}

// A prober that is stopped says nothing about an apiserver that it was asking.
func TestProbeCutOffByTheEndSaysNothing(t *testing.T) {
	a := newAPIServer(t, http.StatusOK)
	ctx, cancel := context.WithCancel(t.Context())
	target := newTarget(Config{Slow: time.Minute, Rise: 1, Client: &http.Client{}}, a.URL+path)
	ended := make(chan struct{})
	go func() { target.watch(ctx, 5*time.Millisecond, nil); close(ended) }()
	reaches(t, &a.asked, 2)
	a.hang.Store(true)
	time.Sleep(50 * time.Millisecond) // the next probe is on its way
	cancel()
	<-ended
	if !target.ok.Load() {
		t.Error("it counts as sick")
	}
}

// Only the monotonic clock tells how long something took: the wall clock may be
// set meanwhile.
func TestInstantsAreOnTheMonotonicClock(t *testing.T) {
	var i instant
	if !i.get().IsZero() {
		t.Errorf("at first %v", i.get())
	}
	now := time.Now()
	i.set(now)
	if got := i.get(); !got.Equal(now) || !strings.Contains(got.String(), " m=") {
		t.Errorf("%v for %v", got, now)
	}
	i.set(processStart)
	if i.get().IsZero() {
		t.Error("the start of the process counts as none")
	}
	i.set(time.Time{})
	if !i.get().IsZero() {
		t.Errorf("none is %v", i.get())
	}
}

func TestWorkIsJudgedByTheLastSpan(t *testing.T) {
	const span = time.Second
	var w work
	var used time.Duration
	at := time.Now()
	note := func(n int, each time.Duration, err error) {
		for range n {
			at, used = at.Add(span/10), used+each
			w.note(at, span, func() (time.Duration, error) { return used, err })
		}
	}
	for _, c := range []struct {
		name string
		n    int
		each time.Duration
		err  error
		want bool
	}{
		{"one sample", 1, span, nil, false},
		{"two are too near", 1, span, nil, false},
		{"half a processor", 10, span / 20, nil, true},
		{"stopped just now", 3, 0, nil, true},
		{"stopped for the whole span", 10, 0, nil, false},
		{"at work again", 5, span / 10, nil, true},
		{"gone", 1, span, errors.New("gone"), false},
	} {
		note(c.n, c.each, c.err)
		if got := w.busy(span); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	note(30, span, nil)
	if n := len(w.samples); n > 12 {
		t.Errorf("%d samples are kept", n)
	}
	at = at.Add(span)
	w.note(at, span, func() (time.Duration, error) { return 0, errors.New("not to be read") })
	w.note(at, span, func() (time.Duration, error) { t.Error("looked again at once"); return 0, nil })
}

// The kernel's own figures: a process that spins is at work, stopped it is not.
func TestProcessorTimeOfAProcess(t *testing.T) {
	name := "hactl-spins"
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sh, file); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), file, "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	read := ProcessorTime(name)
	share := func() float64 {
		before, err := read()
		if err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		time.Sleep(300 * time.Millisecond)
		after, err := read()
		if err != nil {
			t.Fatal(err)
		}
		return float64(after-before) / float64(time.Since(from))
	}
	if got := share(); got < 0.8 || got > 1.2 {
		t.Errorf("a process that spins is at work for %.2f of a processor", got)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if got := share(); got > 0.05 {
		t.Errorf("a stopped one for %.2f", got)
	}
	if _, err := ProcessorTime("hactl-nobody")(); err == nil || !strings.Contains(err.Error(), "hactl-nobody") {
		t.Errorf("nobody of the name: %v", err)
	}
}

func TestSchedstatThatIsNone(t *testing.T) {
	for _, s := range []string{"", "1", "a b c", "1 b"} {
		if d, err := schedstat([]byte(s)); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
	if d, err := schedstat([]byte("100 20 3\n")); err != nil || d != 120 {
		t.Errorf("%v, %v", d, err)
	}
}
