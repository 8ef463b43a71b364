package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/remote/sshdtest"
)

func TestRunGivesOutputExitAndStderr(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	res, err := c.Run(t.Context(), Cmd{Script: "echo out; echo err >&2; exit 3", Title: "try it"})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Exit != 3 || exit.Stderr != "err" || exit.Host != "master-1" || Unreachable(err) {
		t.Fatalf("error is %#v", err)
	}
	if string(res.Stdout) != "out\n" || strings.TrimSpace(string(res.Stderr)) != "err" {
		t.Errorf("result %q %q", res.Stdout, res.Stderr)
	}
}

func TestScriptGetsTheFunctionsThatItCalls(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	for _, stdin := range [][]byte{nil, []byte("in")} {
		res, err := c.Run(t.Context(), Cmd{Script: "cat; is_there / && ! is_there /no && echo there", Stdin: stdin})
		if err != nil || string(res.Stdout) != string(stdin)+"there\n" {
			t.Errorf("%+v, %v", res, err)
		}
	}
	f := NewFake("m1", func(c Call) (*Result, error) { return &Result{Stdout: []byte(c.Cmd.Script)}, nil })
	if res, _ := f.Run(t.Context(), Cmd{Script: "is_there /"}); !strings.HasPrefix(string(res.Stdout), "says_absent() {") || !strings.HasSuffix(string(res.Stdout), "}\nis_there /") {
		t.Errorf("a host of tests gets %s", res.Stdout)
	}
}

func TestRunKeepsOddScriptsWhole(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	for script, want := range map[string]string{
		`printf '%s' "it's a \"test\" \$HOME \\ $((1+1))"`: `it's a "test" $HOME \ 2`,
		"cat <<'X'\na'b\"c\nX":                             "a'b\"c\n",
		"trap 'echo bye' EXIT; echo hi":                    "hi\nbye\n",
		"echo $# \"$*\"":                                   "0 \n",
		"cat":                                              "", // stdin is empty, not open
		"set -e; false | true; echo on":                    "on\n",
		"printf 'no newline'":                              "no newline",
		"printf 'a\\0b'":                                   "a\x00b",
	} {
		if got := mustRun(t, c, script); got != want {
			t.Errorf("%q printed %q, want %q", script, got, want)
		}
	}
}

func TestRunPassesStdinAndEOF(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	in := bytes.Repeat([]byte("x\x00\n'"), 300_000) // larger than any window or pipe
	res, err := c.Run(t.Context(), Cmd{Script: "cat", Stdin: in})
	if err != nil || !bytes.Equal(res.Stdout, in) {
		t.Fatalf("got %d bytes, %v", len(res.Stdout), err)
	}
	if _, err := c.Run(t.Context(), Cmd{Script: "true", Stdin: in}); err != nil {
		t.Errorf("a command that does not read its stdin: %v", err)
	}
}

func TestScriptTooLongForAnArgument(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	pad := "# " + strings.Repeat("'x", 200_000) + "\n"
	for _, in := range [][]byte{nil, []byte("hello")} {
		res, err := c.Run(t.Context(), Cmd{Script: pad + "cat; echo; echo end", Stdin: in})
		if want := string(in) + "\nend\n"; err != nil || string(res.Stdout) != want {
			t.Errorf("stdin %q: got %v, %v", in, res, err)
		}
	}
}

func TestLoginNoiseIsNotOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{Banner: "KEEP OUT\x1b[31m\n", Profile: "echo welcome; echo 'no newline' >&2; printf 'quote of the day'"})
	var mu sync.Mutex
	var lines []string
	w.opts.Began = func(_, title, script string) { w.opts.Log("", title, "$ "+script) }
	w.opts.Log = func(_, title, line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, title+"|"+line)
	}
	c := w.connect(t)
	res, err := c.Run(t.Context(), Cmd{Script: "echo out; echo err >&2", Title: "t"})
	if err != nil || string(res.Stdout) != "out\n" || string(res.Stderr) != "err\n" {
		t.Fatalf("got %q %q %v", res.Stdout, res.Stderr, err)
	}
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(lines, "\n")
	if !strings.Contains(all, "banner|KEEP OUT") || strings.Contains(all, "\x1b") || strings.Contains(all, "welcome") || !strings.Contains(all, "t|out") || !strings.Contains(all, "t|err") || !strings.Contains(all, "t|$ echo out; echo err >&2") {
		t.Errorf("log:\n%s", all)
	}
}

func TestHostWithoutAShellIsNamed(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{Profile: "echo 'This account is currently not available.'; exit 1"}).connect(t)
	_, err := c.Run(t.Context(), Cmd{Script: "true", Title: "look"})
	wantUnreachable(t, err, "This account is currently not available.", "login shell")
}

func TestOutputComesLineByLineAndClean(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	var got []string
	_, err := c.Run(t.Context(), Cmd{
		Script: `printf 'one\ntw'; sleep 0.05; printf 'o\r\n\033[31mred\033[0m\n10%%\r20%%\rlast'`,
		Output: func(l string) { got = append(got, l) },
	})
	if want := "one two red 10% 20% last"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTooMuchOutputIsAnError(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	_, err := c.Run(t.Context(), Cmd{Script: "head -c 40000000 /dev/zero; sleep 600", Title: "dump", Timeout: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "more than 16 MiB") || Unreachable(err) || HintOf(err) == "" {
		t.Errorf("error %v", err)
	}
}

func TestTimeoutEndsTheCommandOnTheHost(t *testing.T) {
	t.Parallel()
	for name, stdin := range map[string][]byte{"lifeline": nil, "stdin": []byte("x")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sshdtest.Config{MaxSessions: 1})
			limit := newByHand()
			w.opts.expire = limit.expire
			c := w.connect(t)
			pidFile := filepath.Join(t.TempDir(), "pid")
			script := fmt.Sprintf("sleep 300 & echo $! >%s; echo begun; wait", pidFile)
			b := newBegun()
			go func() { <-b.ch; close(limit.over) }()
			// The limit on the host itself is an hour: what ends it is not that.
			_, err := c.Run(t.Context(), Cmd{Script: script, Stdin: stdin, Title: "sleep", Timeout: time.Hour, Output: b.see})
			wantUnreachable(t, err, "sleep: no answer within 1h0m0s", "journal")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v is no DeadlineExceeded", err)
			}
			gone(t, pidFile)
			c.opts.expire = context.WithTimeout
			if got := mustRun(t, c, "echo on"); got != "on\n" {
				t.Errorf("connection after a timeout: %q", got)
			}
			if n := c.link.active; n != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}

// gone waits until the process whose pid is in the file has ended.
func gone(t *testing.T, pidFile string) {
	t.Helper()
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(b))
	if pid == "" { // of no process there is no stat either: that would look like its end
		t.Fatalf("%s is empty", pidFile)
	}
	eventually(t, "the command's child is gone", func() bool {
		st, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(st), ") Z ")
	})
}

func TestInterruptIsNamed(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := newBegun()
	go func() { <-b.ch; cancel() }()
	_, err := c.Run(ctx, Cmd{Script: "echo begun; sleep 300", Title: "work", Output: b.see})
	wantUnreachable(t, err, "work: interrupted", "")
}

func TestConnectionCutInTheMiddleOfACommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	c := w.connect(t)
	dir := t.TempDir()
	b := newBegun()
	go func() { <-b.ch; p.Cut() }()
	_, err := c.Run(t.Context(), Cmd{
		Script: fmt.Sprintf("echo x >>%s/ran; sleep 300 & echo $! >%s/pid; echo begun; wait", dir, dir), Title: "work", Output: b.see,
	})
	wantUnreachable(t, err, "outcome unknown", "run the same command again")
	gone(t, dir+"/pid") // the lifeline: nothing goes on that nobody watches
	if got := mustRun(t, c, "cat "+dir+"/ran"); got != "x\n" {
		t.Errorf("the command ran %q times", got)
	}
	if n := w.srv.Connections(); n != 2 {
		t.Errorf("%d connections, want a second one", n)
	}
}

func TestSilentHostIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	w.opts.keepAlive = 100 * time.Millisecond
	c := w.connect(t)
	b := newBegun()
	go func() { <-b.ch; p.Hang() }()
	_, err := c.Run(t.Context(), Cmd{Script: "echo begun; sleep 300", Title: "work", Timeout: time.Hour, Output: b.see})
	wantUnreachable(t, err, "no answer for 300ms", "run the same command again")
}

func TestSessionsShareOneConnection(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("MaxSessions %d", limit), func(t *testing.T) {
			w := newWorld(t, sshdtest.Config{MaxSessions: limit})
			c := w.connect(t)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					res, err := c.Run(bg, Cmd{Script: fmt.Sprintf("sleep 0.02; echo %d", i)})
					if err != nil || string(res.Stdout) != fmt.Sprintln(i) {
						t.Errorf("%d: %v %v", i, res, err)
					}
				})
			}
			wg.Wait()
			if n := w.srv.Connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// Where sshd allows one session, a command waits as long as the one before it takes:
// its own time begins when it has the session.
func TestTimeInTheQueueForASessionIsNotTheCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{MaxSessions: 1})
	queue := &queued{timeout: 13 * time.Minute}
	w.opts.expire = queue.expire
	c := w.connect(t)
	file := filepath.Join(t.TempDir(), "file")
	mustRun(t, c, ":") // it is known now that there is one session
	first, b := make(chan error, 1), newBegun()
	go func() {
		_, err := c.Run(bg, Cmd{Script: "echo begun; until [ -e " + file + " ]; do sleep 0.01; done", Output: b.see})
		first <- err
	}()
	<-b.ch
	second := make(chan error, 1)
	go func() {
		_, err := c.Run(bg, Cmd{Script: ":", Title: "look", Timeout: queue.timeout})
		second <- err
	}()
	eventually(t, "the second command waits", func() bool { return queue.asked.Load() > 0 })
	eventually(t, "no time of it runs", func() bool { return queue.running.Load() == 0 })
	write(t, file, "", 0o600)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// queued is an expiry that counts the times that run for commands with a timeout.
type queued struct {
	timeout        time.Duration
	asked, running atomic.Int32
}

func (q *queued) expire(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout != q.timeout {
		return context.WithTimeout(ctx, timeout)
	}
	q.running.Add(1)
	q.asked.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	return ctx, sync.OnceFunc(func() { q.running.Add(-1); cancel() })
}

// A command that waits for what another one brings leaves its session to that.
func TestAWaitLeavesItsSessionToWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{MaxSessions: 1}).connect(t)
	file, asked := filepath.Join(t.TempDir(), "file"), make(chan struct{})
	waited := make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(asked) })
		_, err := Await(bg, c, Cmd{Script: "echo asked; [ -e " + file + " ] || exit 75", Output: func(string) { once() }}, hang)
		waited <- err
	}()
	<-asked
	mustRun(t, c, ": >"+file)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	_, err := Await(bg, c, Cmd{Script: "exit 75"}, 0)
	if !SaysNotYet(err) {
		t.Errorf("after its bound: %v", err)
	}
}

func TestConnectionLostBeforeTheCommandBeganIsDialledAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sshdtest.Config{DropSessionsOpen: 1})
	c := w.connect(t)
	if got := mustRun(t, c, "echo on"); got != "on\n" {
		t.Errorf("got %q", got)
	}
	if n := w.srv.Connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestUseAfterCloseIsAnError(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	c.Close()
	_, err := c.Run(t.Context(), Cmd{Script: "true"})
	wantUnreachable(t, err, "closed by hactl", "")
}

func TestProcessListShowsWhoseCommandItIs(t *testing.T) {
	t.Parallel()
	c := newWorld(t, sshdtest.Config{}).connect(t)
	if got := mustRun(t, c, "tr '\\0' ' ' </proc/$PPID/cmdline"); !strings.Contains(got, "hactl-r:") {
		t.Errorf("parent is %q", got)
	}
}
