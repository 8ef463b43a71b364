package plan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// ConfigEnv is the environment variable by which a running process tells which
// configuration it was started with. Rule: no handlers. A restart "because the
// file just changed" is lost when the run dies in between; asking the process
// is not.
const ConfigEnv = "HACTL_CONFIG"

// Service is a systemd unit that must be enabled and running, by a process
// that was started with this configuration.
type Service struct {
	ID     ID
	Host   string
	Unit   string // "etcd.service"
	Config string // wanted value of HACTL_CONFIG; empty: any process will do
	// Reads are the files that the process loads only at its start, by path, with
	// their wanted content: its unit and its configuration. An ExecStartPre of the
	// unit (template "started") records their hashes in /run/hactl-started. That
	// catches a process that was started from an edited file which has been
	// reverted since: the file is right, the process is not.
	Reads map[string][]byte
	// Reloaded are those of Reads that the process reads anew when its unit is reloaded:
	// where it has everything else, it is not restarted.
	Reloaded []string
	Lane     string
	// NoBlock queues the start and does not wait: an etcd member reports ready
	// only once it has joined, so members that wait for one another deadlock. What
	// is waited for is a process with this Config, which must not be empty.
	NoBlock bool
	// Wait bounds Ready; 0 means 60 s. Not used with NoBlock.
	Wait time.Duration
	// Absent wants that the unit neither runs nor starts with the host. Its file is
	// another step's, a [File] that is Absent, and comes after it.
	Absent bool
	Guard  func(ctx context.Context, env Env) error // asked before a restart, a start or a stop
	Ready  func(ctx context.Context, env Env) error // instead of waiting for the unit to be active
}

// Step returns the step that keeps the unit.
func (s Service) Step() Step {
	if s.Wait == 0 {
		s.Wait = 60 * time.Second
	}
	st := Step{
		ID: s.ID, Host: s.Host, Lane: s.Lane, Title: s.Unit, Guard: s.Guard,
		Look: []Look{LookFor(s.question())},
		Check: func(_ context.Context, env Env) (*Change, error) {
			seen, err := Answered(env, s.question())
			if err != nil {
				return nil, err
			}
			return s.check(seen), nil
		},
		Apply: s.apply,
	}
	if s.Config != "" {
		st.Owns = []Made{{Kind: "unit", Name: s.Unit, Former: Former{Absent: true}}}
	}
	switch {
	case s.Absent:
		st.Apply = s.stop
	case s.Ready != nil:
		st.Ready = func(ctx context.Context, env Env) error {
			if err := s.Ready(ctx, env); err != nil {
				return s.explain(ctx, env, err)
			}
			return nil
		}
	case !s.NoBlock:
		st.Ready = s.ready
	}
	return st
}

// startedDir holds a file for each unit: what sha256sum printed of its Reads when
// it was started last. It is gone with a reboot, as the processes are.
const startedDir = "/run/hactl-started/"

// question asks for the unit and for what its main process was started with.
func (s Service) question() sys.Question[sys.Service] {
	if len(s.Reads) == 0 {
		return sys.ServiceOf(s.Unit, ConfigEnv, "")
	}
	return sys.ServiceOf(s.Unit, ConfigEnv, startedDir+s.Unit)
}

// startedWithOther is a file that the process was started with another content of, as far as
// was seen, and whether a reload is enough; empty: there is none.
func (s Service) startedWithOther(seen sys.Service) (path string, reload bool) {
	for _, f := range slices.Sorted(maps.Keys(s.Reads)) {
		if seen.Started[f] == hexSum(s.Reads[f]) {
			continue
		}
		if !slices.Contains(s.Reloaded, f) {
			return f, false
		}
		path = f
	}
	return path, path != ""
}

func (s Service) check(seen sys.Service) *Change {
	c := s.due(seen)
	if c == nil {
		return nil
	}
	was := Former{Absent: seen.Load == "not-found", Value: strings.TrimSpace(seen.Enabled + " " + seen.Active)}
	if seen.Config != "" { // an older hactl started it
		was = Former{Absent: true}
	}
	c.Made = []Made{{Kind: "unit", Name: s.Unit, Former: was}}
	s.revertible(c)
	return c
}

// due is what the unit needs; nil when it is as it has to be.
func (s Service) due(seen sys.Service) *Change {
	running := seen.Runs() || s.NoBlock && seen.Active == "activating" && seen.Process != 0
	other, reload := s.startedWithOther(seen)
	switch {
	case s.Absent:
		return s.leftover(seen.Unit)
	case seen.Load == "not-found" && running:
		return s.restart("its unit is gone")
	case seen.Load == "not-found":
		return s.start("enable and start " + s.Unit)
	case seen.Active == "activating" && !running: // systemd may be faster
		c := s.restart("")
		c.Op, c.Summary = Start, fmt.Sprintf("start or restart %s (is activating)", s.Unit)
		return c
	case !running:
		return s.start(fmt.Sprintf("start %s (is %s)", s.Unit, seen.Active))
	case s.Config != "" && seen.Config != s.Config:
		return s.restart("the running process has another configuration")
	case other != "" && !reload:
		return s.restart("its process was started with another " + other)
	case seen.Reload:
		return s.restart("its unit changed after the process was started")
	case reload:
		return &Change{Op: Reload, Summary: fmt.Sprintf("reload %s: its process has another %s", s.Unit, other), Acts: []string{"enable", "start", "reload"}}
	case seen.Enabled != "enabled":
		return &Change{Op: Update, Summary: fmt.Sprintf("enable %s (is %s)", s.Unit, seen.Enabled), Acts: []string{"enable"}}
	}
	return nil
}

// start and restart are the changes of a unit. The reason may differ when the
// step's turn comes, since its files are written before. Where a restart was
// shown, a process that ended meanwhile may be started; where a start was shown, a
// process that runs by now is not restarted.
func (s Service) start(what string) *Change {
	return &Change{Op: Start, Summary: what, Acts: []string{"enable", "start"}}
}

func (s Service) restart(why string) *Change {
	return &Change{Op: Restart, Summary: "restart " + s.Unit + ": " + why, Acts: RestartActs()}
}

// leftover is what there is of a unit that must not be there.
func (s Service) leftover(u sys.Unit) *Change {
	stopped := u.Active == "inactive" || u.Active == "failed"
	starts := strings.HasPrefix(u.Enabled, "enabled") || strings.HasPrefix(u.Enabled, "linked")
	if stopped && !starts {
		return nil
	}
	return &Change{Op: Delete, Summary: fmt.Sprintf("stop and disable %s (is %s)", s.Unit, strings.TrimSpace(u.Active+" "+u.Enabled)), Acts: []string{"stop", "disable"}}
}

func (s Service) stop(ctx context.Context, env Env, _ *Change) error {
	script := "u=" + remote.Quote(s.Unit) + `
stop_unit "$u" || exit 1
systemctl --root=/ disable --quiet -- "$u" 2>/dev/null
systemctl reset-failed -- "$u" 2>/dev/null; systemctl daemon-reload`
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: "stop " + s.Unit, Timeout: s.Wait + 90*time.Second})
	if err != nil {
		return s.explain(ctx, env, err)
	}
	return nil
}

// revertible gives a change of a unit what makes it undone, once its files are
// those of before.
func (s Service) revertible(c *Change) {
	switch c.Op {
	case Restart, Reload:
		again := s
		again.Config, again.NoBlock = "", false // what it is started with is in its files
		c.Revert = func(ctx context.Context, env Env) error {
			if err := again.apply(ctx, env, c); err != nil {
				return err
			}
			if s.Ready != nil {
				return s.Ready(ctx, env)
			}
			return again.ready(ctx, env)
		}
	case Start:
		c.Revert = func(ctx context.Context, env Env) error { return s.stop(ctx, env, c) }
	case Update:
		c.Revert = func(context.Context, Env) error { return nil } // enabled: it was running before, too
	case Create, Delete, Do: // no changes of a unit
	}
}

// RestartActs are the [Change.Acts] of a service that is restarted.
func RestartActs() []string { return []string{"enable", "start", "reload", "restart"} }

func (s Service) apply(ctx context.Context, env Env, c *Change) error {
	verb := "restart"
	switch c.Op {
	case Update:
		verb = "start"
	case Reload:
		verb = "reload"
	case Create, Delete, Start, Restart, Do:
	}
	anew := "systemctl daemon-reload"
	if s.Config != "" {
		anew = `reload_for "$u" ` + remote.Quote(s.assignment())
	}
	script := "u=" + remote.Quote(s.Unit) + `
enable_unit "$u" && ` + anew + ` || exit
systemctl reset-failed -- "$u" 2>/dev/null
` + s.act(verb)
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: verb + " " + s.Unit, Timeout: s.Wait + 30*time.Second})
	if err != nil {
		return s.explain(ctx, env, err)
	}
	return nil
}

// act is the line that starts, restarts or reloads the unit $u.
func (s Service) act(verb string) string {
	if !s.NoBlock {
		return "systemctl " + verb + ` -- "$u"`
	}
	was := "0"
	if verb == "restart" { // the process that runs may have the wanted HACTL_CONFIG, too
		was = `$(main_process "$u")`
	}
	return fmt.Sprintf(`was=%s; systemctl --no-block %s -- "$u" && wait_until %d "the process did not start" has_begun "$u" "$was" %s`,
		was, verb, int(s.Wait/time.Second), remote.Quote(s.assignment()))
}

// assignment is what a process of the wanted configuration has in its environment.
func (s Service) assignment() string { return ConfigEnv + "=" + s.Config }

// ready waits until the unit is active, for good: see is_steady.
func (s Service) ready(ctx context.Context, env Env) error {
	script := fmt.Sprintf("wait_until %d '' is_steady %s 2>/dev/null", int(s.Wait/time.Second), remote.Quote(s.Unit))
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: "wait for " + s.Unit, Timeout: s.Wait + 10*time.Second})
	if err != nil {
		return s.explain(ctx, env, &wait.OverError{Bound: wait.Bound(ctx, s.Wait), Err: err, Text: fmt.Sprintf("%s not active within %s", s.Unit, wait.Bound(ctx, s.Wait))})
	}
	return nil
}

// explain adds the unit's last journal lines to err, unless it is known already
// what to do: a disk that is full or read-only is no matter of the unit.
func (s Service) explain(ctx context.Context, env Env, err error) error {
	if remote.Unreachable(err) || remote.HintOf(err) != "" {
		return err
	}
	res, jerr := env.Host.Run(ctx, remote.Cmd{
		Script: "journalctl --no-pager -n 8 -o cat -u " + remote.Quote(s.Unit), Title: "read journal", Timeout: 10 * time.Second,
	})
	if jerr == nil && len(res.Stdout) > 0 {
		err = fmt.Errorf("%w; journal: %s", err, strings.TrimSpace(string(res.Stdout)))
	}
	return remote.Hint(err, "on %s: journalctl -u %s", env.Host.Name(), s.Unit)
}

// Digest names a configuration by a short hash over its parts; it is what a
// Service's Config holds.
func Digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		s := sha256.Sum256(p)
		h.Write(s[:])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
