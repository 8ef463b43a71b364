//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hactl/internal/lab"
	"hactl/internal/plan"
	"hactl/internal/remote/faultproxy"
	"hactl/internal/ui"
)

// connectTimeout is what the inventories of a line say: a dial to a host that
// hangs is given up after twice that.
const connectTimeout = 3 * time.Second

// line is a lab whose hosts hactl reaches through proxies that break things.
type line struct {
	*rig
	to   map[string]*faultproxy.Proxy // by host
	isUp bool                         // the hosts are a cluster
}

func newLine(t *testing.T, c lab.Config) *line {
	t.Helper()
	l := &line{rig: newRig(t, c), to: map[string]*faultproxy.Proxy{}}
	for _, h := range l.everyHost() {
		p, err := faultproxy.NewIn(l.hubNetwork(), net.JoinHostPort(addressOf(t, l.rig, h), "22"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		l.to[h] = p
	}
	l.through(t, "inventory.yaml")
	return l
}

// hubNetwork is the lab's hub, where hactl runs. A socket belongs to the
// network of the thread that made it, also when another thread uses it.
func (r *rig) hubNetwork() faultproxy.Network {
	listen := func(addr string) (ln net.Listener, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never handed back
			var f *os.File
			if f, err = os.Open("/run/netns/hactl." + r.Name() + ".hub"); err != nil {
				return
			}
			defer f.Close()
			if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
				ln, err = net.Listen("tcp", addr)
			}
		}()
		<-done
		return ln, err
	}
	dial := func(addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return r.Dial(ctx, "tcp", addr)
	}
	return faultproxy.Network{Listen: listen, Dial: dial}
}

// through uses one of the lab's inventories with the proxies in the place of
// the hosts' own addresses.
func (l *line) through(t *testing.T, from string) {
	t.Helper()
	keys := map[string]string{} // by address
	for k := range strings.Lines(readText(t, l.Path("ssh", "known_hosts"))) {
		names, key, _ := strings.Cut(strings.TrimSpace(k), " ")
		keys[strings.Split(names, ",")[0]] = key
	}
	l.inventory(t, from, func(s string) string {
		s = strings.Replace(s, "ssh:\n", fmt.Sprintf("ssh:\n  connectTimeout: %s\n", connectTimeout), 1)
		for h, p := range l.to {
			own := addressOf(t, l.rig, h)
			_, port, _ := net.SplitHostPort(p.Addr)
			old := fmt.Sprintf("    address: %q\n", own)
			if !strings.Contains(s, old) || keys[own] == "" {
				t.Fatalf("%s is not as expected in %s", h, from)
			}
			s = strings.Replace(s, old, fmt.Sprintf("    address: 127.0.0.1\n    privateAddress: %q\n    ssh: {port: %s, hostKey: %q}\n", own, port, keys[own]), 1)
		}
		return s
	})
}

// asPlanned runs plan. Its result must be the one given.
func (l *line) asPlanned(t *testing.T, want string) result {
	t.Helper()
	res := l.must(t, 2, "plan", "-o", "json")
	if res.out != want {
		t.Errorf("the plan is another one:\n%s\nwant:\n%s", res.out, want)
	}
	return res
}

// items of a plan's JSON.
func items(t *testing.T, doc string) []ui.PlanItem {
	t.Helper()
	var d struct{ Items []ui.PlanItem }
	if err := json.Unmarshal([]byte(doc), &d); err != nil || len(d.Items) == 0 {
		t.Fatalf("no plan (%v): %s", err, tail(doc))
	}
	return d.Items
}

// stopped checks where a run that failed has left a host: the stage is finished
// there, and nothing after it was begun. want is the plan from before.
func (l *line) stopped(t *testing.T, host, stage, want string) {
	t.Helper()
	left := map[plan.ID]bool{}
	for _, i := range items(t, l.must(t, 2, "plan", "-o", "json").out) {
		if i.Host == host {
			left[i.ID] = true
		}
	}
	over, pending := false, 0
	for _, i := range items(t, want) {
		if i.Host != host {
			continue
		}
		over = over || i.Stage == stage
		if begun := !over || i.Stage == stage; begun && left[i.ID] {
			t.Errorf("%s was not finished on %s: %s is pending", i.Stage, host, i.ID)
		} else if !begun && !left[i.ID] {
			t.Errorf("%s was begun on %s: %s is done", i.Stage, host, i.ID)
		} else if left[i.ID] {
			pending++
		}
	}
	if !over || pending == 0 {
		t.Errorf("%s: nothing was pending in or after %s: this test looks in the wrong place", host, stage)
	}
}

// untouched checks that f changes nothing on any host.
func (l *line) untouched(t *testing.T, f func() result) result {
	t.Helper()
	before := map[string]string{}
	for _, h := range l.everyHost() {
		before[h] = l.touched(t, h)
	}
	res := f()
	for h, b := range before {
		if l.touched(t, h) != b {
			t.Errorf("%s was touched by: %s", h, res)
		}
	}
	return res
}

// saysWhy checks what an error owes a person: the exit code, one error line that
// has all the words (host, what was done, cause), and the hint.
func saysWhy(t *testing.T, res result, code int, hint string, words ...string) {
	t.Helper()
	if res.code != code {
		t.Errorf("want exit %d: %s", code, res)
	}
	saidIt, hinted := false, false
	for _, p := range paragraphs(res.err) {
		all := strings.HasPrefix(p, "error: ")
		for _, w := range words {
			all = all && strings.Contains(p, w)
		}
		saidIt = saidIt || all
		hinted = hinted || strings.HasPrefix(p, "hint: ") && strings.Contains(p, hint)
	}
	if !saidIt {
		t.Errorf("no error has all of %q: %s", words, res)
	}
	if !hinted {
		t.Errorf("no hint has %q: %s", hint, res)
	}
}

// paragraphs are lines with the indented ones that follow each.
func paragraphs(s string) []string {
	return strings.Split(strings.ReplaceAll(s, "\n       ", " "), "\n")
}

// logs waits until the run's log has the text.
func (x *running) logs(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(x.res.log); err == nil && strings.Contains(string(b), text) {
			return
		}
		if strings.Contains(readText(t, x.err), "error: ") {
			break
		}
	}
	x.cancel()
	t.Fatalf("the run never came to %q: %s", text, x.wait(t))
}

// failedAfter is the time from the fault to the last step that failed of it.
func (r result) failedAfter(t *testing.T, host string, fault time.Time) time.Duration {
	t.Helper()
	var last time.Time
	for _, e := range r.events(host) {
		if e.Kind == plan.StepFailed {
			last = e.Time
		}
	}
	if last.IsZero() {
		t.Errorf("no step failed on %s: %s", host, r)
	}
	return last.Sub(fault)
}

// begun is when the first step of a host was begun.
func (r result) begun(t *testing.T, host string) time.Time {
	t.Helper()
	for _, e := range r.events(host) {
		if e.Kind == plan.StepStart {
			return e.Time
		}
	}
	t.Fatalf("no step was begun on %s: %s", host, r)
	return time.Time{}
}

// events of a host, from up -o json.
func (r result) events(host string) []plan.Event {
	var out []plan.Event
	for l := range strings.Lines(r.out) {
		var e plan.Event
		if err := json.Unmarshal([]byte(l), &e); err == nil && e.Host == host {
			out = append(out, e)
		}
	}
	return out
}
