package etcd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/sys/systest"
	"hactl/inventory/inventorytest"
)

func observed(t *testing.T, dataDir string) (Disk, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(observeScript(dataDir))).Output()
	if err != nil {
		return Disk{}, err
	}
	return parseDisk(string(out))
}

func TestDataDirectoryThatCannotBeReadIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	if d, err := observed(t, dir); err != nil || d.Data {
		t.Errorf("an empty one: %+v, %v", d, err)
	}
	if d, err := observed(t, dir+"/not/there"); err != nil || d.Data {
		t.Errorf("none: %+v, %v", d, err)
	}
	for _, c := range []struct {
		file string
		data bool
	}{{"snap/db", false}, {"wal/0.tmp", false}, {"wal/0000000000000000-0000000000000000.wal", true}} {
		touch(t, filepath.Join(dir, "member", c.file), "")
		if d, err := observed(t, dir); err != nil || d.Data != c.data {
			t.Errorf("with %s: %+v, %v", c.file, d, err)
		}
		if out, err := joiningIn(t, dir); err != nil || out != (joining{data: c.data, remains: !c.data}) {
			t.Errorf("with %s: %+v, %v", c.file, out, err)
		}
	}
	if d, err := observed(t, dir+"/"+strings.Repeat("n", 300)); err == nil { // ENAMETOOLONG, for root too
		t.Errorf("what cannot be looked at passes for %+v", d)
	}
	if out, err := joiningIn(t, dir+"/"+strings.Repeat("n", 300)); err == nil {
		t.Errorf("what cannot be looked at passes for %+v", out)
	}
}

func joiningIn(t *testing.T, dataDir string) (joining, error) {
	t.Helper()
	p := &Plan{Inv: masters(t, 1)}
	p.Inv.Etcd.DataDir = dataDir
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "LC_ALL=C; export LC_ALL\n"+sys.With(p.joining().Script)).Output()
	if err != nil {
		return joining{}, err
	}
	return p.joining().Parse(string(out))
}

func TestJoiningThatIsNotUnderstoodIsNotEmpty(t *testing.T) {
	p := &Plan{Inv: masters(t, 1)}
	for answer, want := range joinings {
		if got, err := p.joining().Parse(answer + "\n"); err != nil || got != want {
			t.Errorf("%q: %+v, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "empty", "prepared", "data remains", "empty remain", "no such file"} {
		if got, err := p.joining().Parse(answer); err == nil {
			t.Errorf("%q: %+v", answer, got)
		}
	}
}

func touch(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The unit that is installed says where the member's data is; what the
// inventory says now may be another place.
func TestDataInAnotherFolderThanTheInventorysIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  Disk
	}{
		"nothing there":        {func(*testing.T, string) {}, Disk{}},
		"still in the old one": {func(t *testing.T, dir string) { t.Helper(); touch(t, dir+"/old/member/wal/0.wal", "") }, Disk{Elsewhere: "/old"}},
		"moved by hand":        {func(t *testing.T, dir string) { t.Helper(); touch(t, dir+"/new/member/wal/0.wal", "") }, Disk{Data: true}},
		"copied, not moved": {func(t *testing.T, dir string) {
			t.Helper()
			touch(t, dir+"/old/member/wal/0.wal", "")
			touch(t, dir+"/new/member/wal/0.wal", "")
		}, Disk{Data: true, Elsewhere: "/old"}},
		"another name of the same": {func(t *testing.T, dir string) {
			t.Helper()
			touch(t, dir+"/old/member/wal/0.wal", "")
			if err := os.Symlink(dir+"/old", dir+"/new"); err != nil {
				t.Fatal(err)
			}
		}, Disk{Data: true}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := planOf(t, inventorytest.Three(t))
			p.Inv.Etcd.DataDir = dir + "/old"
			unit, _, err := p.unit(p.Inv.Masters()[0])
			if err != nil {
				t.Fatal(err)
			}
			touch(t, dir+unitFile, string(unit))
			c.spoil(t, dir)
			script := strings.ReplaceAll(observeScript(dir+"/new"), unitFile, dir+unitFile)
			out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(script)).Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := parseDisk(strings.ReplaceAll(string(out), dir, "")); got != c.want || err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// The hint for it leads to where hactl goes on.
func TestDataMovedByHandIsWhereTheUnitSays(t *testing.T) {
	dir := t.TempDir()
	p := planOf(t, inventorytest.Three(t))
	render := func(dataDir string) string {
		p.Inv.Etcd.DataDir = dataDir
		unit, config, err := p.unit(p.Inv.Masters()[0])
		must(t, err)
		unit = bytes.ReplaceAll(unit, []byte("="+config), []byte("=X"))
		return strings.ReplaceAll(string(unit), dataDir+" holds no log", "it holds no log") // the message may be stale
	}
	touch(t, dir+unitFile, render(dir+"/var/old"))
	touch(t, dir+"/var/old/member/wal/0.wal", "")
	script := strings.NewReplacer("systemctl", "true", " -o etcd -g etcd", "", unitFile, dir+unitFile).Replace(moveByHand(dir+"/var/old", dir+"/new"))
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	unit, err := os.ReadFile(dir + unitFile)
	must(t, err)
	if want := render(dir + "/new"); string(unit) != want {
		t.Errorf("got %s\nwant %s", unit, want)
	}
	if d, err := observed(t, dir+"/new"); !d.Data || err != nil {
		t.Errorf("%+v, %v", d, err)
	}
}

// etcd would begin an empty cluster on an empty folder, or come back as a voter
// that has forgotten what it acknowledged.
func TestUnitRefusesToStartAVoterWithoutItsLog(t *testing.T) {
	const message = "holds no log of it. Is the disk mounted?"
	for name, c := range map[string]struct {
		there  []string
		starts bool
	}{
		"a bootstrap":               {nil, true},
		"a member":                  {[]string{establishedFile, "/data/member/wal/0.wal"}, true},
		"a learner":                 {[]string{bootstrapFile}, true},
		"its disk is gone":          {[]string{establishedFile}, false},
		"its log is gone":           {[]string{establishedFile, "/data/member/snap/db"}, false},
		"and it had joined once":    {[]string{establishedFile, bootstrapFile}, false},
		"a start that began no log": {[]string{establishedFile, "/data/member/wal/0.tmp"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.there {
				touch(t, dir+f, "ETCD_INITIAL_CLUSTER_STATE=existing\n")
			}
			p := planOf(t, inventorytest.One(t))
			p.Inv.Etcd.DataDir = "/data"
			unit, _, err := p.unit(p.Inv.Masters()[0])
			if err != nil {
				t.Fatal(err)
			}
			_, rest, ok := strings.Cut(string(unit), "\nExecStartPre=/bin/sh -c '")
			script, _, closed := strings.Cut(rest, "'\n")
			if !ok || !closed || strings.ContainsAny(script, "$%\\'\n") {
				t.Fatalf("systemd would change it: %q", script)
			}
			script = strings.NewReplacer("/etc/etcd", dir+"/etc/etcd", "/data", dir+"/data").Replace(script)
			out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", script).CombinedOutput()
			if (err == nil) != c.starts || strings.Contains(string(out), message) == c.starts {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestMemberThatCannotBeAskedIsNotRestartedUnasked(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	m := p.Inv.Masters()[0]
	asked := errors.New("the cluster was asked")
	dial := func(context.Context) (*Cluster, error) { return nil, asked }
	for name, c := range map[string]struct {
		says string
		err  error
		asks bool // the cluster, whether it can spare the member
		ok   bool
	}{
		"it runs":              {says: systest.Services("etcd.service", "active"), asks: true},
		"it does not":          {says: systest.Services("etcd.service", "inactive"), ok: true},
		"systemd says nothing": {},
		"the session is lost":  {err: &remote.UnreachableError{Host: m.Name, Op: "run", Err: errors.New("cut")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := remote.NewFake(m.Name, func(remote.Call) (*remote.Result, error) { return &remote.Result{Stdout: []byte(c.says)}, c.err })
			_, err := p.guardRestart(t.Context(), plan.Env{Host: h}, m, dial)
			if errors.Is(err, asked) != c.asks || (err == nil) != c.ok {
				t.Errorf("%v", err)
			}
		})
	}
}
