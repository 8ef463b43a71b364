package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
	"hactl/templates"
)

// SnapshotDir is the folder on a master in which its timer keeps snapshots.
const SnapshotDir = "/var/lib/hactl/snapshots"

// The timer of a master, what it starts, and the script of that.
const (
	timerUnit    = "hactl-snapshot.timer"
	timerFile    = "/etc/systemd/system/" + timerUnit
	timerService = "/etc/systemd/system/hactl-snapshot.service"
	timerScript  = "/usr/local/libexec/hactl/snapshot"
)

// Timer returns the steps of a master's scheduled snapshots. order, 0 to 254, is
// another one on every master and decides when in each period its snapshot is saved.
// Without a schedule the timer is removed; what it saved stays.
func (p *Plan) Timer(m *inventory.Host, order int) ([]plan.Step, error) {
	b := p.Inv.Backup
	if b.Schedule == "" {
		return p.noTimer(m), nil
	}
	data := map[string]any{
		"Dir": SnapshotDir, "DataDir": remote.Quote(p.Inv.Etcd.DataDir), "Keep": b.Keep, "ClientURL": ClientURL(m), "PKI": pkiDir, "Cluster": p.Inv.Cluster,
		"Script": timerScript, "Calendar": calendar(b.Period(), order),
	}
	var steps []plan.Step
	for _, f := range []struct {
		what, template, path string
		mode                 fs.FileMode
	}{
		{"snapshot-script", "snapshot.sh.tmpl", timerScript, 0o755},
		{"snapshot-service", "hactl-snapshot.service.tmpl", timerService, 0o644},
		{"snapshot-timer-unit", "hactl-snapshot.timer.tmpl", timerFile, 0o644},
	} {
		content, err := templates.Render(f.template, data)
		if err != nil {
			return nil, err
		}
		steps = append(steps, plan.File{ID: id(m, f.what), Host: m.Name, Path: f.path, Content: content, Mode: f.mode, Lane: Lane}.Step())
	}
	return append(steps, timerRuns(m, calendar(b.Period(), order))), nil
}

// timerRuns returns the step that keeps the timer waiting for its next run. A timer has no
// process to ask for its configuration: systemd says which calendar it has loaded.
func timerRuns(m *inventory.Host, calendar string) plan.Step {
	ours := []plan.Made{{Kind: "unit", Name: timerUnit, Former: plan.Former{Absent: true}}}
	return plan.Script{
		ID: id(m, "snapshot-timer"), Host: m.Name, Title: timerUnit, Lane: Lane, Op: plan.Start, Timeout: time.Minute, Owns: ours,
		Unit: timerUnit, Look: `about_unit ` + timerUnit + ` || exit 1
case $s in *UnitFileState=enabled*) ;; *) echo "it is not enabled"; exit 0;; esac
case $s in *ActiveState=active*) ;; *) echo "it does not run"; exit 0;; esac
case $(property_of TimersCalendar ` + timerUnit + `) in *` + remote.Quote("OnCalendar="+calendar+" ;") + `*) echo ok;; *) echo "it has another schedule";; esac`,
		Summary: "start the timer of snapshots", Made: func(string) []plan.Made { return ours },
		Acts: func(string) []string { return []string{"start"} },
		Run:  "enable_unit " + timerUnit + " && systemctl daemon-reload && systemctl restart " + timerUnit,
	}.Step()
}

func (p *Plan) noTimer(m *inventory.Host) []plan.Step {
	steps := []plan.Step{plan.Service{ID: id(m, "snapshot-timer"), Host: m.Name, Unit: timerUnit, Absent: true, Lane: Lane}.Step()}
	for what, path := range map[string]string{"snapshot-timer-unit": timerFile, "snapshot-service": timerService, "snapshot-script": timerScript} {
		steps = append(steps, plan.File{ID: id(m, what), Host: m.Name, Path: path, Absent: true, Lane: Lane}.Step())
	}
	return steps
}

// calendar is when the snapshots of a master are saved, in the words of systemd: once in
// each period of the day, in UTC, so that masters agree.
func calendar(period time.Duration, order int) string {
	at := period * time.Duration(order) / 255 //nolint:mnd // orders
	h, m, s := int(at.Hours()), int(at.Minutes())%60, int(at.Seconds())%60
	switch {
	case period < time.Hour:
		return fmt.Sprintf("*-*-* *:%02d/%d:%02d UTC", m, int(period.Minutes()), s)
	case period < 24*time.Hour:
		return fmt.Sprintf("*-*-* %02d/%d:%02d:%02d UTC", h, int(period.Hours()), m, s)
	}
	return fmt.Sprintf("*-*-* %02d:%02d:%02d UTC", h, m, s)
}

// Scheduled is what a master says of its timer and of what it saved.
type Scheduled struct {
	Now       time.Time // the host's clock
	Installed time.Time // when the timer got its unit; zero: it has none
	Active    bool      // the timer waits for its next run
	Last      LastRun
	Saved     []SavedOnHost // verified, the newest first
}

// LastRun is what came of the timer's last run.
type LastRun struct {
	State  string `json:"state"` // "saved", "skipped", "failed", or "" before the first
	Reason string `json:"reason"`
	At     int64  `json:"at"` // Unix seconds
}

// SavedOnHost is a snapshot on a master.
type SavedOnHost struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"saved"`
}

// Newest is the newest snapshot, nil when there is none.
func (s *Scheduled) Newest() *SavedOnHost {
	if len(s.Saved) == 0 {
		return nil
	}
	return &s.Saved[0]
}

const lookScheduled = `echo "now $(date +%s)"
[ ! -e ` + timerFile + ` ] || echo "installed $(stat -c %Y ` + timerFile + `)"
! is_running ` + timerUnit + ` || echo active
[ ! -e ` + SnapshotDir + `/result.json ] || echo "last $(cat ` + SnapshotDir + `/result.json)"
[ ! -d ` + SnapshotDir + ` ] || find ` + SnapshotDir + ` -maxdepth 1 -name '*.db' -printf 'saved %T@ %s %p\n' | sort -rn -k 2`

// LookScheduled asks a master for its scheduled snapshots.
func LookScheduled(ctx context.Context, h remote.Host) (*Scheduled, error) {
	return remote.Ask(ctx, h, sys.Question[*Scheduled]{Title: "look at the snapshots", Script: lookScheduled, Parse: parseScheduled}, 0)
}

func parseScheduled(text string) (*Scheduled, error) {
	out := &Scheduled{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(remote.Clean(strings.TrimSpace(line)), " ")
		var err error
		switch key {
		case "now":
			out.Now, err = unix(value)
		case "installed":
			out.Installed, err = unix(value)
		case "active":
			out.Active = true
		case "last":
			err = json.Unmarshal([]byte(value), &out.Last)
		case "saved":
			err = out.addSaved(value)
		}
		if err != nil {
			return nil, fmt.Errorf("unreadable answer %q: %w", remote.Clean(line), err)
		}
	}
	if out.Now.IsZero() {
		return nil, fmt.Errorf("the answer has no time")
	}
	return out, nil
}

func (s *Scheduled) addSaved(line string) error {
	at, rest, _ := strings.Cut(line, " ")
	size, path, _ := strings.Cut(rest, " ")
	seconds, _, _ := strings.Cut(at, ".")
	when, err := unix(seconds)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(size, 10, 64)
	s.Saved = append(s.Saved, SavedOnHost{Path: path, Bytes: n, Modified: when})
	return err
}

func unix(seconds string) (time.Time, error) {
	n, err := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(n, 0).UTC(), err
}
