package etcd

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/goldentest"
	"hactl/internal/plan"
	"hactl/inventory/inventorytest"
)

func TestTimerOfAMaster(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	p.Inv.Backup.Schedule, p.Inv.Backup.Keep = "6h", 4
	steps, err := p.Timer(p.Inv.Masters()[1], 34)
	if err != nil {
		t.Fatal(err)
	}
	files := goldentest.Puts(t, steps)
	goldentest.Check(t, "timer", files)
	goldentest.Units(t, map[string][]byte{"hactl-snapshot.timer": files[timerFile].Content, "hactl-snapshot.service": files[timerService].Content})
	goldentest.Shell(t, map[string]string{"snapshot": string(files[timerScript].Content), "look": lookScheduled})
}

// Without a schedule everything of the timer is removed, and what it saved stays.
func TestWithoutAScheduleThereIsNoTimer(t *testing.T) {
	p := planOf(t, inventorytest.One(t))
	steps, err := p.Timer(p.Inv.Masters()[0], 4)
	if err != nil || len(steps) != 4 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	ids := map[plan.ID]bool{}
	for _, s := range steps {
		ids[s.ID] = true
	}
	p.Inv.Backup.Schedule = "1h"
	with, err := p.Timer(p.Inv.Masters()[0], 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range with {
		if !ids[s.ID] {
			t.Errorf("%s is made and never removed", s.ID)
		}
	}
}

// Masters have priorities 30 apart: their snapshots must not begin at the same time, in
// any period.
func TestMastersSaveAtDifferentTimes(t *testing.T) {
	for _, period := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour} {
		seen := map[string]bool{}
		for order := 4; order < 255; order += 30 {
			seen[calendar(period, order)] = true
		}
		if len(seen) != 9 {
			t.Errorf("%s: %d times for 9 masters: %v", period, len(seen), seen)
		}
	}
	for want, got := range map[string]string{
		"*-*-* *:02/15:00 UTC": calendar(15*time.Minute, 34), "*-*-* 00/6:48:00 UTC": calendar(6*time.Hour, 34), "*-*-* 03:12:00 UTC": calendar(24*time.Hour, 34), "*-*-* 00/1:08:00 UTC": calendar(time.Hour, 34),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// scriptWorld is a host on which the script of the timer runs, with stand-ins for etcd's
// programs and for df.
type scriptWorld struct {
	t           *testing.T
	dir, script string
}

func newScriptWorld(t *testing.T, keep int) *scriptWorld {
	t.Helper()
	w := &scriptWorld{t: t, dir: t.TempDir()}
	p := planOf(t, inventorytest.One(t))
	p.Inv.Backup.Schedule, p.Inv.Backup.Keep, p.Inv.Etcd.DataDir = "1h", keep, w.dir+"/etcd"
	steps, err := p.Timer(p.Inv.Masters()[0], 4)
	if err != nil {
		t.Fatal(err)
	}
	text := string(goldentest.Puts(t, steps)[timerScript].Content)
	text = strings.NewReplacer(SnapshotDir, w.dir+"/snapshots", "/run/hactl.lock", w.dir+"/lock", "/var/lib/hactl/restoring", w.dir+"/restoring").Replace(text)
	w.script = w.write("script", text)
	w.write("etcd/member/snap/db", strings.Repeat("x", 4096))
	body := strings.Repeat("d", 1024)
	w.write("good", body+string(sum(body)))
	w.write("bin/etcdctl", "#!/bin/sh\nfor f; do :; done\n[ \"$MODE\" != silent ] || { echo 'context deadline exceeded' >&2; exit 1; }\ncp "+w.dir+"/good \"$f\"; case $MODE in truncated) truncate -s 700 \"$f\";; flipped) printf X | dd of=\"$f\" bs=1 seek=9 conv=notrunc 2>/dev/null;; esac\n")
	w.write("bin/etcdutl", "#!/bin/sh\n[ \"$MODE\" != torn ] || { echo 'page 7: unreachable' >&2; exit 1; }\necho '{\"hash\":1,\"revision\":42,\"totalKey\":3}'\n")
	w.write("bin/df", "#!/bin/sh\necho h; echo \"dev 9 9 $FREE 1% /\"\n")
	w.write("bin/sync", "#!/bin/sh\n")
	return w
}

func sum(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }

func (w *scriptWorld) write(name, text string) string {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o755); err != nil { //nolint:gosec // programs
		w.t.Fatal(err)
	}
	return p
}

// run runs the script and returns the result that it noted, and the snapshots that are there.
func (w *scriptWorld) run(env ...string) (string, []string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "sh", w.script)
	cmd.Env = append(append(os.Environ(), "FREE=1000000", "PATH="+w.dir+"/bin:"+os.Getenv("PATH")), env...)
	_ = cmd.Run() // what came of it is in the result
	result, err := os.ReadFile(w.dir + "/snapshots/result.json")
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := filepath.Glob(w.dir + "/snapshots/*")
	if err != nil {
		w.t.Fatal(err)
	}
	hidden, _ := filepath.Glob(w.dir + "/snapshots/.part*")
	var names []string
	for _, p := range append(all, hidden...) {
		if n := filepath.Base(p); n != "result.json" {
			names = append(names, n)
		}
	}
	return string(result), names
}

// A snapshot that is not in order never gets a name, and those of before stay.
func TestTimerKeepsOnlyWhatItVerified(t *testing.T) {
	for mode, want := range map[string]string{
		"silent": `"reason":"etcdctl snapshot save: context deadline exceeded`, "truncated": "has no checksum at its end", "flipped": "the checksum of the snapshot is wrong", "torn": "etcdutl snapshot status: page 7",
	} {
		w := newScriptWorld(t, 1)
		w.write("snapshots/demo-20200101T000000Z.db", "old")
		result, files := w.run("MODE=" + mode)
		if !strings.Contains(result, `"state":"failed"`) || !strings.Contains(result, want) {
			t.Errorf("%s: %s", mode, result)
		}
		if !slices.Equal(files, []string{"demo-20200101T000000Z.db"}) {
			t.Errorf("%s: there are %v", mode, files)
		}
	}
}

func TestTimerKeepsTheLastOnes(t *testing.T) {
	w := newScriptWorld(t, 3)
	// The second was saved when the clock was ahead.
	for _, n := range []string{"20200101T000000Z", "21000101T000000Z", "20200102T000000Z", "20200103T000000Z"} {
		w.write("snapshots/demo-"+n+".db", "old")
	}
	result, files := w.run()
	if !strings.Contains(result, `"state":"saved"`) || !strings.Contains(result, `"revision":42`) {
		t.Errorf("%s", result)
	}
	if len(files) != 3 || !slices.Contains(files, "demo-20200103T000000Z.db") || !slices.ContainsFunc(files, func(n string) bool { return strings.Contains(result, n) }) {
		t.Errorf("%s: there are %v", result, files)
	}
	s, err := parseScheduled(fmt.Sprintf("now 100\ninstalled 50\nactive\nlast %ssaved 90.5 1056 /x.db\n", result))
	if err != nil || s.Last.State != "saved" || s.Newest().Bytes != 1056 || s.Now.Sub(s.Newest().Modified) != 10*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

// The timer leaves a host alone on which hactl is at work, or which lacks space.
func TestTimerSkipsWhileHactlIsAtWork(t *testing.T) {
	w := newScriptWorld(t, 3)
	w.write("lock", "")
	hold := exec.CommandContext(t.Context(), "flock", "-F", w.dir+"/lock", "sh", "-c", "echo a person, hactl up >"+w.dir+"/lock; echo; exec sleep 60")
	out, err := hold.StdoutPipe()
	if err != nil || hold.Start() != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 1)) // it holds the lock
	if result, files := w.run(); !strings.Contains(result, `"state":"skipped"`) || !strings.Contains(result, "a person, hactl up") || len(files) > 0 {
		t.Errorf("%s: %v", result, files)
	}
	_ = hold.Process.Kill()
	_ = hold.Wait()
	w.write("restoring", "")
	if result, _ := w.run(); !strings.Contains(result, "a restore is under way") {
		t.Errorf("%s", result)
	}
	_ = os.Remove(w.dir + "/restoring")
	if result, files := w.run("FREE=7"); !strings.Contains(result, `"state":"failed"`) || !strings.Contains(result, "7 KiB free") || len(files) > 0 {
		t.Errorf("%s: %v", result, files)
	}
}
