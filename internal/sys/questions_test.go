package sys

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// ask puts a question to this machine; first are folders of other programs.
func ask[T any](t *testing.T, q Question[T], first ...string) (T, error) {
	t.Helper()
	out, err := run(t, q.Alone(), first...)
	if err != nil {
		var none T
		return none, fmt.Errorf("%s: %w: %s", q.Title, err, out)
	}
	return q.Parse(out)
}

// program writes a program of the shell into a folder of its own.
func program(t *testing.T, name, script string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.WriteFile(folder+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil { //nolint:gosec // it is to run
		t.Fatal(err)
	}
	return folder
}

const (
	etcdRuns = "Id=etcd.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nMainPID=7\nNeedDaemonReload=no\n"
	noTimer  = "Id=x.timer\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n"
)

func TestUnitsAreThoseThatSystemdNames(t *testing.T) {
	t.Parallel()
	bin := program(t, "systemctl", `case $* in *" -- etcd.service x.timer") printf '`+strings.ReplaceAll(etcdRuns+"\n"+noTimer, "\n", `\n`)+`' ;; *) exit 1 ;; esac`)
	got, err := ask(t, Units("etcd.service", "x.timer"), bin)
	want := map[string]Unit{"etcd.service": {Load: "loaded", Active: "active", Enabled: "enabled", Process: 7}, "x.timer": {Load: "not-found", Active: "inactive"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if !got["etcd.service"].Runs() || got["x.timer"].Runs() {
		t.Error("which one runs?")
	}
}

func TestBrokenAnswersAreErrors(t *testing.T) {
	t.Parallel()
	const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	units, hashes := Units("etcd.service", "x.timer"), Hashes("/a", "/b")
	both := And("both", HasAddress(netip.MustParseAddr("192.0.2.1")), units)
	for name, c := range map[string]struct {
		parse func(string) (any, error)
		bad   []string
	}{
		"units": {func(s string) (any, error) { return units.Parse(s) }, []string{
			"", etcdRuns, noTimer, "Failed to connect to bus", etcdRuns + "\n" + strings.Replace(noTimer, "UnitFileState=\n", "", 1), strings.Replace(etcdRuns, "enabled", "", 1) + "\n" + noTimer,
			strings.Replace(etcdRuns, "MainPID=7\n", "", 1) + "\n" + noTimer, strings.Replace(etcdRuns, "=7", "=x", 1) + "\n" + noTimer, strings.Replace(etcdRuns, "etcd", "other", 1) + "\n" + noTimer,
		}},
		"address":  {func(s string) (any, error) { return HasAddress(netip.Addr{}).Parse(s) }, []string{"", "maybe", "yes no"}},
		"restarts": {func(s string) (any, error) { return Restarts("x").Parse(s) }, []string{"", "x", "-1", "99999999999999999999"}},
		"status":   {func(s string) (any, error) { return StatusOf("x").Parse(s) }, []string{"", "StatusText=x", "ActiveState="}},
		"hashes":   {func(s string) (any, error) { return hashes.Parse(s) }, []string{"", sum, sum + "\n" + sum[1:], sum + "\n" + strings.ToUpper(sum), sum + "\nabsent\n" + sum}},
		"file":     {func(s string) (any, error) { return FileAt("/a").Parse(s) }, []string{"", "1 2", "1 2 " + sum[1:], "-1 2 " + sum, "x 2 " + sum, "1 x " + sum, "9999999999999999999 2 " + sum}},
		"entry":    {func(s string) (any, error) { return EntryAt("/a", "", 1).Parse(s) }, []string{"", "644", "644 root:root", "644 root:root ", "644 root:root regular file", "644 root:root regular file\n" + sum[1:], "644 root:root regular file\n" + sum + "\n!answer!"}},
		"program":  {func(s string) (any, error) { return ProgramAt("/a").Parse(s) }, []string{"", sum, sum + "\nmaybe", sum[1:] + "\nexecutable", "absent\nexecutable"}},
		"service":  {func(s string) (any, error) { return ServiceOf("x.service", "V", "").Parse(s) }, []string{"", "Failed to connect to bus", strings.Replace(etcdRuns, "ActiveState=active\n", "", 1), strings.Replace(etcdRuns, "enabled", "", 1), strings.Replace(etcdRuns, "=7", "=x", 1)}},
		"both":     {func(s string) (any, error) { return both.Parse(s) }, []string{"", "yes\n----\n", "yes\n" + etcdRuns + "\n" + noTimer + "----\n", "yes\n----\n" + etcdRuns + "\n" + noTimer, "\n----\n" + etcdRuns + "\n" + noTimer + "----\n"}},
	} {
		for _, answer := range c.bad {
			if got, err := c.parse(answer); err == nil || !strings.Contains(err.Error(), "answer") {
				t.Errorf("%s: %q gives %+v, %v", name, answer, got, err)
			}
		}
	}
}

func TestTwoQuestionsAreOneScript(t *testing.T) {
	t.Parallel()
	bin := program(t, "ip", "echo '1: lo    inet 192.0.2.1/32 scope global lo'")
	has := HasAddress(netip.MustParseAddr("192.0.2.1"))
	none := Hashes("/no such file")
	if got, err := ask(t, And("both", has, none), bin); err != nil || !got.First || len(got.Second) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ask(t, And("both", none, has), program(t, "ip", "exit 1")); err == nil {
		t.Errorf("one that could not look gives %+v", got)
	}
}

func TestServiceTellsOfItself(t *testing.T) {
	t.Parallel()
	bin := program(t, "systemctl", `case $* in *NRestarts*) echo 3 ;; "show -p ActiveState -p StatusText -- x.service") printf 'ActiveState=active\nStatusText=a=b\n' ;; esac`)
	if n, err := ask(t, Restarts("x.service"), bin); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got, err := ask(t, StatusOf("x.service"), bin); err != nil || got != (Status{"active", "a=b"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFilesAreHashed(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/it's a file"
	if err := os.WriteFile(file, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 0).UTC()
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
	const sum = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
	if got, err := ask(t, FileAt(file)); err != nil || got != (File{2, sum, at}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ask(t, FileAt(file+"s")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%+v, %v", got, err)
	}
	noOpenSSL := program(t, "openssl", "exit 1")
	for _, first := range [][]string{nil, {noOpenSSL}} {
		if got, err := ask(t, Hashes(file, file+"s", file), first...); err != nil || !reflect.DeepEqual(got, map[string]string{file: sum}) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, unreadable := range []string{t.TempDir() + "/" + strings.Repeat("x", 300), t.TempDir()} {
		if got, err := ask(t, Hashes(unreadable)); err == nil {
			t.Errorf("%.20s gives %v", unreadable, got)
		}
	}
	if got, err := Hashes().Parse(""); err != nil || len(got) != 0 || Hashes().Script != "" {
		t.Errorf("no files: %v, %v", got, err)
	}
}

// No answer of a host makes a parser panic.
func FuzzAnswers(f *testing.F) {
	f.Add(etcdRuns + "\n" + noTimer)
	f.Add("yes\n----\n" + etcdRuns + "----\n")
	f.Add("1 2 3\nabsent")
	f.Add("Avail Mounted on\n1 /\nend")
	f.Add("1700000000.000000001\n")
	f.Fuzz(func(t *testing.T, answer string) {
		units, err := Units("etcd.service").Parse(answer)
		if u := units["etcd.service"]; err == nil && (u.Load == "" || u.Active == "" || u.Process < 0) {
			t.Errorf("%q gives %+v", answer, u)
		}
		_, _ = And("both", HasAddress(netip.Addr{}), Units("a.service")).Parse(answer)
		_, _ = Hashes("/a", "/b").Parse(answer)
		_, _ = FileAt("/a").Parse(answer)
		_, _ = Restarts("a").Parse(answer)
		_, _ = StatusOf("a").Parse(answer)
		_, _ = IsThere("/a").Parse(answer)
		_, _ = Lines(answer)
		if at, err := Clock().Parse(answer); err == nil && at.UnixNano() < 0 {
			t.Errorf("%q gives %s", answer, at)
		}
		if free, err := FreeAt("/a").Parse(answer); err == nil && (len(free) != 1 || free[0].Bytes < 0) {
			t.Errorf("%q gives %+v", answer, free)
		}
	})
}
