package prober

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
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
			synctest.Test(t, func(t *testing.T) {
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
					time.Sleep(4 * slow)
					r.local.hang.Store(false) // for two answers: a third would make it healthy
					reaches(t, &r.local.asked, r.local.asked.Load()+2)
					r.local.hang.Store(true)
				}
				r.becomes(t, "1")
				if took := time.Since(from); took < c.want-2*interval || took > c.want+2*interval {
					t.Errorf("unfit after %v, want about %v", took, c.want)
				}
			})
		})
	}
}

// Answers that come later than what counts as hung are no better than none.
func TestOwnerThatIsAlwaysLateLosesTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
		if took := time.Since(from); took < busyFor*slow-2*interval || took > busyFor*slow+2*interval {
			t.Errorf("unfit after %v, want about %v", took, busyFor*slow)
		}
		r.local.delay.Store(0)
		r.becomes(t, "0")
	})
}

// A prober that is stopped says nothing about an apiserver that it was asking.
func TestProbeCutOffByTheEndSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := lan{}
		a := n.newAPIServer(t, http.StatusOK)
		ctx, cancel := context.WithCancel(t.Context())
		target := newTarget(Config{Slow: time.Minute, Rise: 1, Client: n.client()}, a.URL+path)
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
	})
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
	// The kernel lets Start return a moment before it gives the process its name.
	for end := time.Now().Add(20 * time.Second); !called(strconv.Itoa(cmd.Process.Pid), name); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no process is called %s", name)
		}
	}
	read := ProcessorTime(name)
	// A look takes a while on a busy machine, and at which instant of it the kernel's
	// figure was read is not known: the share lies between least and most.
	share := func(d time.Duration) (least, most float64) {
		outer := time.Now()
		before, err := read()
		if err != nil {
			t.Fatal(err)
		}
		inner := time.Now()
		time.Sleep(d)
		short := time.Since(inner)
		after, err := read()
		if err != nil {
			t.Fatal(err)
		}
		used := float64(after - before)
		return used / float64(time.Since(outer)), used / float64(short)
	}
	// A wait for the processor that has not ended is not in the figure yet: over three
	// seconds even half a second of it is less than what may be missing.
	if least, most := share(3 * time.Second); most < 0.8 || least > 1.2 {
		t.Errorf("a process that spins is at work for %.2f to %.2f of a processor", least, most)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Wait4(cmd.Process.Pid, nil, syscall.WUNTRACED, nil); err != nil { // until it has stopped
		t.Fatal(err)
	}
	if _, most := share(300 * time.Millisecond); most > 0.05 {
		t.Errorf("a stopped one for %.2f", most)
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
