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
		Look: []Look{{Key: s.key(), Script: s.lookScript(), Unit: s.Unit}},
		Check: func(_ context.Context, env Env) (*Change, error) {
			a, err := env.Saw(s.key())
			if err != nil {
				return nil, err
			}
			return s.check(a)
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

func (s Service) key() string { return "service " + s.Unit }

// lookScript reads the environment of the main process.
//
// NeedDaemonReload=yes has two meanings since systemd 255: the files of this unit
// differ from what systemd has loaded, or units were enabled or disabled on this
// host and systemd has not read them anew since. The second is the same for all
// units, init.scope included, which has no file; it says nothing of this unit.
// That one is asked for before and after the unit, since it comes and goes.
func (s Service) lookScript() string {
	u := remote.Quote(s.Unit)
	return `about_process ` + u + ` || exit 1
echo "$s"
case $s in *NeedDaemonReload=yes*) case $(systemctl show -p NeedDaemonReload --value -- init.scope ` + u + ` init.scope | tr -d '\n') in
noyesno|'') ;; *) echo NeedDaemonReload=all ;; esac;; esac
case $N$e$N in *"${N}` + ConfigEnv + `="*) e=$N$e; e=${e##*"${N}` + ConfigEnv + `="}; echo "` + ConfigEnv + `=${e%%"$N"*}";; esac
` + s.readStarted() + `exit 0`
}

// startedDir holds a file for each unit: what sha256sum printed of its Reads when
// it was started last. It is gone with a reboot, as the processes are.
const startedDir = "/run/hactl-started/"

func (s Service) readStarted() string {
	if len(s.Reads) == 0 {
		return ""
	}
	return `[ ! -r ` + startedDir + remote.Quote(s.Unit) + ` ] || while read -r h f; do echo "started $f=$h"; done <` + startedDir + remote.Quote(s.Unit) + "\n"
}

// startedWithOther is a file that the process was started with another content
// of, as far as p, the answer to a look, tells, and whether a reload is enough; empty:
// there is none.
func (s Service) startedWithOther(p map[string]string) (path string, reload bool) {
	for _, f := range slices.Sorted(maps.Keys(s.Reads)) {
		if sum := sha256.Sum256(s.Reads[f]); p["started "+f] == hex.EncodeToString(sum[:]) {
			continue
		}
		if !slices.Contains(s.Reloaded, f) {
			return f, false
		}
		path = f
	}
	return path, path != ""
}

func (s Service) check(a Answer) (*Change, error) {
	if a.Exit != 0 {
		return nil, a.Failed(s.Unit)
	}
	p := map[string]string{}
	for line := range strings.Lines(a.Out) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		p[k] = v
	}
	if p["ActiveState"] == "" || p["LoadState"] == "" || p["UnitFileState"] == "" && p["LoadState"] == "loaded" {
		return nil, fmt.Errorf("look at %s: unreadable answer", s.Unit)
	}
	c := s.due(p)
	if c == nil {
		return nil, nil
	}
	was := Former{Absent: p["LoadState"] == "not-found", Value: strings.TrimSpace(p["UnitFileState"] + " " + p["ActiveState"])}
	if p[ConfigEnv] != "" { // an older hactl started it
		was = Former{Absent: true}
	}
	c.Made = []Made{{Kind: "unit", Name: s.Unit, Former: was}}
	s.revertible(c)
	return c, nil
}

// due is what the unit needs, from its properties; nil when it is as it has to be.
func (s Service) due(p map[string]string) *Change {
	running := p["ActiveState"] == "active" || s.NoBlock && p["ActiveState"] == "activating" && p["MainPID"] != "0"
	other, reload := s.startedWithOther(p)
	switch {
	case s.Absent:
		return s.leftover(p)
	case p["LoadState"] == "not-found" && running:
		return s.restart("its unit is gone")
	case p["LoadState"] == "not-found":
		return s.start("enable and start " + s.Unit)
	case p["ActiveState"] == "activating" && !running: // systemd may be faster
		c := s.restart("")
		c.Op, c.Summary = Start, fmt.Sprintf("start or restart %s (is activating)", s.Unit)
		return c
	case !running:
		return s.start(fmt.Sprintf("start %s (is %s)", s.Unit, p["ActiveState"]))
	case s.Config != "" && p[ConfigEnv] != s.Config:
		return s.restart("the running process has another configuration")
	case other != "" && !reload:
		return s.restart("its process was started with another " + other)
	case p["NeedDaemonReload"] == "yes":
		return s.restart("its unit changed after the process was started")
	case reload:
		return &Change{Op: Reload, Summary: fmt.Sprintf("reload %s: its process has another %s", s.Unit, other), Acts: []string{"enable", "start", "reload"}}
	case p["UnitFileState"] != "enabled":
		return &Change{Op: Update, Summary: fmt.Sprintf("enable %s (is %s)", s.Unit, p["UnitFileState"]), Acts: []string{"enable"}}
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
func (s Service) leftover(p map[string]string) *Change {
	stopped := p["ActiveState"] == "inactive" || p["ActiveState"] == "failed"
	starts := strings.HasPrefix(p["UnitFileState"], "enabled") || strings.HasPrefix(p["UnitFileState"], "linked")
	if stopped && !starts {
		return nil
	}
	return &Change{Op: Delete, Summary: fmt.Sprintf("stop and disable %s (is %s)", s.Unit, strings.TrimSpace(p["ActiveState"]+" "+p["UnitFileState"])), Acts: []string{"stop", "disable"}}
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
	block, begun, was := "", "", ""
	if s.NoBlock {
		block, begun = "--no-block ", " && "+s.begun()
		if verb == "restart" { // the process that runs may have the wanted HACTL_CONFIG, too
			was = `was=$(main_process "$u")
`
		}
	}
	// A reload runs every generator: a fifth of a second on one core. It is done
	// without where systemd, asked now, has the wanted configuration and knows that
	// the unit is enabled: a unit that was not named yet is read from the disk as
	// it is. NeedDaemonReload alone would not do: it says no of a new drop-in folder.
	script := "u=" + remote.Quote(s.Unit) + `
[ "$(property_of LoadState "$u")" != masked ] || systemctl unmask --quiet -- "$u"
is_enabled "$u" || ` + EnableUnit + ` "$u" || exit
` + s.reload() + `
systemctl reset-failed -- "$u" 2>/dev/null
` + was + `systemctl ` + block + verb + ` -- "$u"` + begun
	_, err := env.Host.Run(ctx, remote.Cmd{Script: script, Title: verb + " " + s.Unit, Timeout: s.Wait + 30*time.Second})
	if err != nil {
		return s.explain(ctx, env, err)
	}
	return nil
}

// EnableUnit begins a command that enables a unit by its files alone. When systemd
// is asked to, as with enable --no-reload, it says NeedDaemonReload=yes of every
// unit from then on (since version 255).
const EnableUnit = "systemctl --root=/ enable --quiet --"

// reload makes systemd read the unit $u, unless it has.
func (s Service) reload() string {
	const reload = "systemctl daemon-reload || exit"
	if s.Config == "" {
		return reload
	}
	return `s=" $(systemctl show -p Environment -p NeedDaemonReload -p UnitFileState -- "$u" | tr '\n=' '  ') "
case $s in *` + remote.Quote(" "+ConfigEnv+" "+s.Config+" ") + `*) ;; *) s= ;; esac
case $s in *" NeedDaemonReload no "*) ;; *) s= ;; esac
case $s in *" UnitFileState enabled "*) ;; *) ` + reload + ` ;; esac`
}

// begun waits until the wanted process is there, however far it is, and is another
// than $was. On a busy host a queued start may not have been looked at yet, or a
// process is still systemd's own, about to become the unit's.
func (s Service) begun() string {
	return fmt.Sprintf(`{ begun() { has_process %[1]s && [ "$p" != "${was:-0}" ] && tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx %[2]s; }
wait_until %[3]d "the process did not start" begun; }`, remote.Quote(s.Unit), remote.Quote(ConfigEnv+"="+s.Config), int(s.Wait/time.Second))
}

// ready waits until the unit is active. One of Type=simple is that before its
// program has begun, and has to stay it for a second, as one process.
func (s Service) ready(ctx context.Context, env Env) error {
	script := "u=" + remote.Quote(s.Unit) + fmt.Sprintf(`
steady() {
is_running "$u" || return
[ "$(property_of Type "$u")" = simple ] || return 0
p=$(main_process "$u"); sleep 1; T=$((T-10))
[ "$p" = "$(main_process "$u")" ] && is_running "$u"
}
wait_until %d "" steady 2>/dev/null`, int(s.Wait/time.Second))
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
