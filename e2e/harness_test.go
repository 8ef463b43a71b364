//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/bundle"
	"hactl/internal/lab"
)

// hang bounds every wait of the tests. It is far beyond what any of them takes on a
// busy machine: only something that never comes reaches it. runTimeout bounds one run of
// hactl in the same way, and askEvery is the time between two looks. A machine that is
// emulated is given longer, and asked less often, since a look takes its only processor for
// half a minute: see vmRig.
var (
	hang       = 10 * time.Minute
	runTimeout = 3 * hang
	askEvery   = 500 * time.Millisecond
)

// hactlBinary is HACTL_BIN, or what make build made.
func hactlBinary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("HACTL_BIN")
	if bin == "" {
		bin = filepath.Join("..", "bin", "hactl")
	}
	bin, err := filepath.Abs(bin)
	if err == nil {
		_, err = os.Stat(bin)
	}
	if err != nil {
		t.Fatalf("no hactl to test: %v; run make build", err)
	}
	return bin
}

// dyingBinary is hactl with the switch by which it kills itself at a call
// (dieAt), built beside the released one, which does not have it: hactl-prober
// must be in the same folder.
func dyingBinary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(filepath.Dir(hactlBinary(t)), "hactl-sweep")
	buildDying.Do(func() {
		cmd := exec.Command("go", "build", "-trimpath", "-tags", "sweep", "-o", bin, "hactl/cmd/hactl") //nolint:noctx // shared by tests
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			errDying = fmt.Errorf("build hactl with the tag sweep: %w: %s", err, out)
		}
	})
	if errDying != nil {
		t.Fatal(errDying)
	}
	return bin
}

var (
	buildDying sync.Once
	errDying   error
)

// result is what one run of hactl left behind.
type result struct {
	args     string
	code     int
	out, err string
	took     time.Duration
	cpu      time.Duration
	log      string // path
}

// String is for failure messages: the end of what was said.
func (r result) String() string {
	return fmt.Sprintf("hactl %s: exit %d after %s\nstdout: %s\nstderr: %s", r.args, r.code, r.took.Round(time.Millisecond), tail(r.out), tail(r.err))
}

func tail(s string) string {
	if most := 2500; len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// running is a hactl that was started.
type running struct {
	cmd      *exec.Cmd
	res      result
	out, err string // paths
	start    time.Time
	cancel   context.CancelFunc
}

// start runs hactl in the hub, in the background.
func (r *rig) start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r.n++
	base := filepath.Join(r.runs, fmt.Sprintf("%03d-%s", r.n, args[0]))
	full := append([]string{r.bin, "-i", r.inv, "--log-file", base + ".log"}, args...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runTimeout)
	cmd, err := r.HubExec(ctx, full...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), append(r.env, env...)...)
	x := &running{cmd: cmd, out: base + ".out", err: base + ".err", cancel: cancel}
	x.res = result{args: strings.Join(args, " "), log: base + ".log"}
	if cmd.Stdout, err = os.Create(x.out); err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr, err = os.Create(x.err); err != nil {
		t.Fatal(err)
	}
	x.start = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return x
}

// wait ends with the run; the code of one that was killed is -1.
func (x *running) wait(t *testing.T) result {
	t.Helper()
	err := x.cmd.Wait()
	x.cancel()
	x.res.took = time.Since(x.start)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	x.res.code = x.cmd.ProcessState.ExitCode()
	x.res.cpu = x.cmd.ProcessState.UserTime() + x.cmd.ProcessState.SystemTime()
	x.res.out, x.res.err = readText(t, x.out), readText(t, x.err)
	return x.res
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hactl runs it and waits.
func (r *rig) hactl(t *testing.T, args ...string) result {
	t.Helper()
	return r.start(t, nil, args...).wait(t)
}

// must is hactl with that exit code, or the end of the test.
func (r *rig) must(t *testing.T, code int, args ...string) result {
	t.Helper()
	res := r.hactl(t, args...)
	if res.code != code {
		t.Fatalf("want exit %d: %s", code, res)
	}
	t.Logf("hactl %s: exit %d, %s", res.args, res.code, res.took.Round(10*time.Millisecond))
	return res
}

// upResult is the last line of hactl up -o json.
type upResult struct {
	Kind       string
	Changed    int
	Kubeconfig string
	Trips      int
	Status     struct {
		Healthy bool
		VIP     string
		Checks  []struct{ Area, What, State, Detail string }
	}
}

func (r result) up(t *testing.T) upResult {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var u upResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &u); err != nil || u.Kind != "result" {
		t.Fatalf("no result in the last line (%v): %s", err, r)
	}
	return u
}

// inSync asks once for a plan, which must be empty.
func (r *rig) inSync(t *testing.T) {
	t.Helper()
	if res := r.must(t, 0, "plan"); !strings.Contains(res.out, "in sync") {
		t.Errorf("plan does not say so: %s", res)
	}
}

// comesInSync is for hosts that have just booted, or a process that was just
// restarted without hactl: until they answer, a plan cannot look or finds a process
// that has not started yet.
func (r *rig) comesInSync(t *testing.T) {
	t.Helper()
	eventually(t, "the plan is empty", func() error {
		if res := r.hactl(t, "plan"); res.code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
}

// inventory writes an inventory of the lab, changed by edit, and uses it.
func (r *rig) inventory(t *testing.T, from string, edit func(string) string) {
	t.Helper()
	r.inv = r.Path("used.yaml")
	if err := os.WriteFile(r.inv, []byte(edit(readText(t, r.Path(from)))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withDemo adds the demo's images to an inventory without a worker.
func withDemo(s string) string {
	return strings.Replace(s, "artifacts:\n", "artifacts:\n  demo: true\n", 1)
}

// without removes hosts, by name, from the text of an inventory.
func without(names ...string) func(string) string {
	return func(s string) string {
		head, list, _ := strings.Cut(s, "hosts:\n")
		var keep strings.Builder
		for _, h := range strings.SplitAfter(list, "role: control-plane\n") {
			for _, h := range strings.SplitAfter(h, "role: worker\n") {
				if name, _, _ := strings.Cut(strings.TrimPrefix(h, "  - name: "), "\n"); !slices.Contains(names, name) {
					keep.WriteString(h)
				}
			}
		}
		return head + "hosts:\n" + keep.String()
	}
}

// kubectl runs the bundle's kubectl in the hub, through the VIP, with the
// kubeconfig that hactl saved.
func (r *rig) kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	dir, err := bundle.Find(bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	full := append([]string{filepath.Join(dir, "bin", "kubectl"), "--kubeconfig", r.Path(r.Name() + ".kubeconfig"), "--request-timeout=20s"}, args...)
	cmd, err := r.HubExec(ctx, full...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// kubectlSays is what kubectl reads. It asks again while nothing answers: the VIP may
// be moving.
func (r *rig) kubectlSays(t *testing.T, args ...string) string {
	t.Helper()
	var out string
	eventually(t, "kubectl "+strings.Join(args, " "), func() (err error) {
		out, err = r.kubectl(t, "", args...)
		return err
	})
	return out
}

// noAnswer is what kubectl says of a request whose connection was refused or lost, or
// one that the apiserver sent to etcd and got no answer for.
var noAnswer = regexp.MustCompile(`Unable to connect to the server|The connection to the server|"https://|reading response body|` +
	`etcdserver: request timed out|etcdserver: leader changed|unable to return a response in the time allotted`)

// kubectlDoes makes a change. Only one that got no answer is tried again, and then
// finds what it may have done.
func (r *rig) kubectlDoes(t *testing.T, args ...string) {
	t.Helper()
	done := func(err error) bool {
		return slices.Contains(args, "create") && strings.Contains(err.Error(), "already exists") ||
			slices.Contains(args, "delete") && strings.Contains(err.Error(), "(NotFound)")
	}
	for start, again := time.Now(), false; ; again = true {
		_, err := r.kubectl(t, "", args...)
		if err == nil || again && done(err) {
			return
		}
		if !noAnswer.MatchString(err.Error()) || time.Since(start) > hang {
			t.Fatal(err)
		}
		t.Log(err)
		time.Sleep(time.Second)
	}
}

// eventually waits for f to succeed, and returns how long that took.
func eventually(t *testing.T, what string, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		waited := time.Since(start)
		if err == nil {
			t.Logf("%s after %s", what, waited.Round(100*time.Millisecond))
			return waited
		}
		if waited > hang {
			t.Fatalf("%s: not within %s: %v", what, hang, err)
		}
		time.Sleep(askEvery)
	}
}

// then is a step of a scenario: later ones need it, so the first that fails ends the
// test. Steps are no subtests, since a subtest can be asked for alone.
func then(t *testing.T, what string, f func(*testing.T)) {
	t.Helper()
	start := time.Now()
	t.Logf("== %s", what)
	f(t)
	if t.Failed() {
		t.Fatalf("in the step: %s", what)
	}
	t.Logf("== done in %s", time.Since(start).Round(100*time.Millisecond))
}

// touched is a fingerprint of everything on a host that hactl may change.
func (r *rig) touched(t *testing.T, host string) string {
	t.Helper()
	return labOutput(t, r.Lab, host, `find /etc /usr/bin /usr/local /opt/cni /var/lib/hactl /var/lib/etcd -maxdepth 6 -type f ! -path '*/member/*' -printf '%p %s %T@ %C@\n' 2>/dev/null | sort | sha256sum
systemctl show -p ActiveEnterTimestampMonotonic etcd keepalived kubelet containerd`)
}

// holders are the hosts with the VIP at this moment: none or two while it moves.
func (r *rig) holders(t *testing.T) []string {
	t.Helper()
	all, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, h := range all {
		if h.Role == lab.Master && h.State != lab.StateOff && labOutput(t, r.Lab, h.Name, "ip -o address show to "+r.VIP()) != "" {
			found = append(found, h.Name)
		}
	}
	return found
}

// owner is the one host with the VIP, once there is one.
func (r *rig) owner(t *testing.T) string {
	t.Helper()
	var found []string
	eventually(t, "one owner of the VIP", func() error {
		if found = r.holders(t); len(found) != 1 {
			return fmt.Errorf("it is on %q", found)
		}
		return nil
	})
	return found[0]
}

func (r *rig) healthy(t *testing.T) time.Duration {
	t.Helper()
	return eventually(t, "healthy", func() error {
		if res := r.hactl(t, "status"); res.code != 0 {
			return errors.New(res.String())
		}
		return nil
	})
}
