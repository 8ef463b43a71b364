package plan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

// checked runs the step's look on a host and its check on the answer.
func checked(t *testing.T, s Step) (*Change, error) {
	t.Helper()
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, Hosts{s.Host: shell(t, s.Host)})
	return p.Stages[0].Items[0].Change, p.Stages[0].Items[0].Err
}

// answered is the check of a step whose host gave that answer.
func answered(s Step, a Answer) (*Change, error) {
	return s.Check(context.Background(), Env{seen: map[string]Answer{s.Look[0].Key: a}})
}

func TestFileStepSeesEveryDifference(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plain.conf")
	f := File{ID: "f", Host: "m1", Path: path, Content: []byte("wanted\n"), Mode: 0o640, Owner: me(t)}
	for _, c := range []struct {
		name    string
		prepare func()
		op      Op
		summary string
		before  string
	}{
		{"absent", func() {}, Create, "write " + path, ""},
		{"other content", func() { write(t, path, "old", 0o640) }, Update, "rewrite " + path, "old"},
		{"empty", func() { write(t, path, "", 0o640) }, Update, "rewrite " + path, ""},
		{"markers and binary in it", func() { write(t, path, "\nhactl-00 0 0\n\x00\xff\r\n", 0o640) }, Update, "rewrite " + path, "\nhactl-00 0 0\n\x00\xff\r\n"},
		{"too large for a diff", func() { write(t, path, strings.Repeat("x", maxDiff+1), 0o640) }, Update, "rewrite " + path, ""},
		{"other mode", func() { write(t, path, "wanted\n", 0o604) }, Update, "set " + path + " to 640 " + me(t) + " (is 604 " + me(t) + ")", "wanted\n"},
		{"in sync", func() { write(t, path, "wanted\n", 0o640) }, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.prepare()
			got, err := checked(t, f.Step())
			switch {
			case err != nil:
				t.Fatal(err)
			case c.op == "":
				if got != nil {
					t.Fatalf("%+v", got)
				}
			case got == nil || got.Op != c.op || got.Summary != c.summary || got.Before != c.before || got.After != "wanted\n":
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestFileStepNeverReplacesWhatIsNoRegularFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, make := range map[string]func(string) error{
		"a directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"a symbolic link": func(p string) error { return os.Symlink("/etc/hostname", p) },
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(dir, strings.ReplaceAll(name, " ", ""))
			if err := make(p); err != nil {
				t.Fatal(err)
			}
			c, err := checked(t, File{ID: "f", Host: "m1", Path: p, Content: []byte("x")}.Step())
			if c != nil || err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "a ")) || remote.HintOf(err) == "" {
				t.Fatalf("%+v, %v", c, err)
			}
		})
	}
}

func TestFileBelowAFileIsAbsent(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "f")
	write(t, p, "x", 0o600)
	c, err := checked(t, File{ID: "f", Host: "m1", Path: p + "/below", Content: []byte("x")}.Step())
	if err != nil || c == nil || c.Op != Create {
		t.Fatalf("%+v, %v", c, err)
	}
}

// A stat that fails for another reason than absence is "could not look".
func TestFileThatCannotBeLookedAtIsUnknown(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), strings.Repeat("n", 300)) // ENAMETOOLONG, for root too
	loop := filepath.Join(t.TempDir(), "loop")                // ELOOP
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{p, loop + "/f"} {
		c, err := checked(t, File{ID: "f", Host: "m1", Path: p, Content: []byte("x")}.Step())
		if c != nil || err == nil {
			t.Fatalf("%+v, %v", c, err)
		}
		if !strings.Contains(err.Error(), ": exit 1: stat: ") {
			t.Errorf("without its reason: %v", err)
		}
	}
}

func TestFilesAreLookedAtTogetherAndToldApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Names that are the end or the beginning of one another, a folder, a link,
	// and what is not there.
	steps := []Step{}
	for _, name := range []string{"f", "a/f", "f.conf", "a", "link", "gone", "a/gone"} {
		steps = append(steps, File{ID: ID(name), Host: "m1", Path: dir + "/" + name, Content: []byte(name), Owner: me(t)}.Step())
	}
	if err := errors.Join(os.Mkdir(dir+"/a", 0o755), os.Symlink(dir+"/f", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/f", "f", 0o644)
	write(t, dir+"/a/f", "other", 0o644)
	write(t, dir+"/f.conf", "f.conf", 0o600)
	p := mustMake(t, []Stage{{Name: "s", Steps: steps}}, Hosts{"m1": shell(t, "m1")})
	var got []string
	for _, i := range p.Stages[0].Items {
		switch {
		case i.Err != nil:
			got = append(got, string(i.Step.ID)+" refused")
		case i.Change != nil:
			got = append(got, string(i.Step.ID)+" "+strings.Fields(i.Change.Summary)[0])
		default:
			got = append(got, string(i.Step.ID)+" in sync")
		}
	}
	if s := strings.Join(got, ", "); s != "f in sync, a/f rewrite, f.conf set, a refused, link refused, gone write, a/gone write" {
		t.Error(s)
	}
}

func TestKeptFileIsNeverReplaced(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "ca.crt")
	f := File{ID: "f", Host: "m1", Path: p, Content: []byte("ours"), Owner: me(t), Keep: "restore the store"}
	if c, err := checked(t, f.Step()); err != nil || c == nil || c.Op != Create {
		t.Fatalf("absent: %+v, %v", c, err)
	}
	write(t, p, "theirs", 0o644)
	c, err := checked(t, f.Step())
	if c != nil || err == nil || remote.HintOf(err) != "restore the store" {
		t.Fatalf("%+v, %v", c, err)
	}
	write(t, p, "ours", 0o600) // the same content may get its mode
	if c, err := checked(t, f.Step()); err != nil || c == nil || c.Op != Update {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestSecretFileShowsHashesOnly(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "key")
	write(t, p, "old-secret", 0o600)
	f := File{ID: "f", Host: "m1", Path: p, Content: []byte("new-secret"), Mode: 0o600, Owner: me(t), Secret: true}
	h := shell(t, "m1")
	var said string
	spy := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		res, err := h.Run(t.Context(), c.Cmd)
		said += c.Cmd.Script + string(res.Stdout)
		return res, err
	})
	it := mustMake(t, []Stage{{Name: "s", Steps: []Step{f.Step()}}}, Hosts{"m1": spy}).Stages[0].Items[0]
	if it.Err != nil || it.Change == nil {
		t.Fatalf("%+v", it)
	}
	c := it.Change
	if !c.Secret || c.Before+c.After != "" || c.Pin != sum("old-secret") || c.Want != sum("new-secret") {
		t.Fatalf("%+v", c)
	}
	if strings.Contains(said, "-secret") || strings.Contains(said, "b2xkLXNlY3JldA") {
		t.Fatal("the content crossed the wire")
	}
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func FuzzFileCheck(f *testing.F) {
	file := File{Path: "/etc/f", Content: []byte("wanted")}
	file.fill()
	good := "644 root:root regular file\n" + file.sum()
	f.Add(good, 0)
	f.Add("absent", 1)
	f.Add("644 root:root regular file\nzz\n!!", 0)
	f.Add("644 root:root directory\n"+file.sum(), 0)
	f.Add(good+"\n\x00", 0)
	f.Fuzz(func(t *testing.T, out string, exit int) {
		c, err := answered(file.Step(), Answer{Out: out, Exit: exit})
		inSync := c == nil && err == nil
		real := exit == 0 && strings.HasPrefix(out, "644 root:root regular") && strings.Contains(out, "\n"+file.sum())
		if inSync && !real {
			t.Fatalf("%q, exit %d, was taken for in sync", out, exit)
		}
		if c != nil && c.Op == Create && (out != "absent" || exit != 0) {
			t.Fatalf("%q, exit %d, was taken for absent", out, exit)
		}
	})
}

func TestServiceStepAsksTheRunningProcess(t *testing.T) {
	t.Parallel()
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc"}
	state := func(load, active, file, pid, config string) string {
		out := "MainPID=" + pid + "\nLoadState=" + load + "\nActiveState=" + active + "\nSubState=s\nUnitFileState=" + file + "\nNeedDaemonReload=no"
		if config != "" {
			out += "\nHACTL_CONFIG=" + config
		}
		return out
	}
	const sumA = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" // of "a"
	for name, c := range map[string]struct {
		out     string
		exit    int
		noBlock bool
		reads   string // content of /etc/a that is wanted; empty: the process reads no file
		reload  bool   // the process reads /etc/a anew when its unit is reloaded
		op      Op
		text    string // of the summary or the error
	}{
		"in sync":                      {out: state("loaded", "active", "enabled", "7", "abc")},
		"no such unit":                 {out: state("not-found", "inactive", "", "0", ""), op: Start, text: "enable and start"},
		"its unit file was removed":    {out: state("not-found", "active", "", "7", "abc"), op: Restart, text: "its unit is gone"},
		"its unit file is another":     {out: state("loaded", "active", "enabled", "7", "abc") + "\nNeedDaemonReload=yes", op: Restart, text: "its unit changed"},
		"all units are to be reloaded": {out: state("loaded", "active", "enabled", "7", "abc") + "\nNeedDaemonReload=yes\nNeedDaemonReload=all"},
		"stopped":                      {out: state("loaded", "inactive", "enabled", "0", ""), op: Start, text: "is inactive"},
		"failed":                       {out: state("loaded", "failed", "enabled", "0", ""), op: Start, text: "is failed"},
		"starting":                     {out: state("loaded", "activating", "enabled", "7", "abc"), op: Start, text: "is activating"},
		"starting is enough":           {out: state("loaded", "activating", "enabled", "7", "abc"), noBlock: true},
		"waiting for its restart":      {out: state("loaded", "activating", "enabled", "0", ""), noBlock: true, op: Start, text: "is activating"},
		"starting with another":        {out: state("loaded", "activating", "enabled", "7", "old"), noBlock: true, op: Restart, text: "another configuration"},
		"another configuration":        {out: state("loaded", "active", "enabled", "7", "old"), op: Restart, text: "another configuration"},
		"started by hand":              {out: state("loaded", "active", "enabled", "7", ""), op: Restart, text: "another configuration"},
		"not enabled":                  {out: state("loaded", "active", "disabled", "7", "abc"), op: Update, text: "is disabled"},
		"masked while it runs":         {out: state("masked", "active", "masked", "7", "abc"), op: Update, text: "is masked"},
		"systemctl failed":             {out: state("loaded", "active", "enabled", "7", "abc"), exit: 1, text: "exit 1"},
		"nothing":                      {text: "unreadable"},
		"garbage":                      {out: "Failed to connect to bus", text: "unreadable"},
		"cut after the first property": {out: "ActiveState=active", text: "unreadable"},
		"started with what is wanted":  {reads: "a", out: state("loaded", "active", "enabled", "7", "abc") + "\nstarted /etc/a=" + sumA},
		"started with another file":    {reads: "b", out: state("loaded", "active", "enabled", "7", "abc") + "\nstarted /etc/a=" + sumA, op: Restart, text: "started with another /etc/a"},
		"reload is enough":             {reads: "b", reload: true, out: state("loaded", "active", "enabled", "7", "abc") + "\nstarted /etc/a=" + sumA, op: Reload, text: "another /etc/a"},
		"reload is not enough":         {reads: "b", reload: true, out: state("loaded", "active", "enabled", "7", "old") + "\nstarted /etc/a=" + sumA, op: Restart, text: "another configuration"},
		"its unit is another, too":     {reads: "b", reload: true, out: state("loaded", "active", "enabled", "7", "abc") + "\nNeedDaemonReload=yes\nstarted /etc/a=" + sumA, op: Restart, text: "its unit changed"},
		"stopped, with another file":   {reads: "b", reload: true, out: state("loaded", "inactive", "enabled", "0", "") + "\nstarted /etc/a=" + sumA, op: Start, text: "is inactive"},
		"with an unknown file":         {reads: "a", out: state("loaded", "active", "enabled", "7", "abc"), op: Restart, text: "started with another /etc/a"},
		"stopped, whatever it read":    {reads: "b", out: state("loaded", "inactive", "enabled", "0", "") + "\nstarted /etc/a=" + sumA, op: Start, text: "is inactive"},
		"cut before the last":          {out: "LoadState=loaded\nActiveState=active\nSubState=running", text: "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.NoBlock = c.noBlock
			if c.reads != "" {
				s.Reads = map[string][]byte{"/etc/a": []byte(c.reads)}
			}
			if c.reload {
				s.Reloaded = []string{"/etc/a"}
			}
			got, err := answered(s.Step(), Answer{Out: c.out, Exit: c.exit})
			switch {
			case c.op == "" && c.text == "":
				if got != nil || err != nil {
					t.Fatalf("%+v, %v", got, err)
				}
			case c.op == "":
				if got != nil || err == nil || !strings.Contains(err.Error(), c.text) {
					t.Fatalf("%+v, %v", got, err)
				}
			case err != nil || got == nil || got.Op != c.op || !strings.Contains(got.Summary, c.text):
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzServiceCheck(f *testing.F) {
	s := Service{Unit: "x.service", Config: "abc"}
	f.Add("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nHACTL_CONFIG=abc", 0)
	f.Add("ActiveState=active\nHACTL_CONFIG=abc\nUnitFileState=enabled", 0)
	f.Add("=\n==\nActiveState", 0)
	f.Fuzz(func(t *testing.T, out string, exit int) {
		c, err := answered(s.Step(), Answer{Out: out, Exit: exit})
		if c != nil || err != nil {
			return
		}
		for _, need := range []string{"LoadState=", "ActiveState=active", "UnitFileState=enabled", "HACTL_CONFIG=abc"} {
			if exit != 0 || !strings.Contains(out, need) {
				t.Fatalf("%q, exit %d, was taken for in sync", out, exit)
			}
		}
	})
}

func TestServiceApplyNeverRunsBackThroughItsEffect(t *testing.T) {
	t.Parallel()
	for op, want := range map[Op]string{Start: ` restart -- "$u"`, Restart: ` restart -- "$u"`, Reload: ` reload -- "$u"`, Update: ` start -- "$u"`} {
		h := remote.NewFake("m1", nil)
		s := Service{ID: "s", Host: "m1", Unit: "x.service"}.Step()
		if err := s.Apply(t.Context(), Env{Host: h}, &Change{Op: op}); err != nil {
			t.Fatal(err)
		}
		got := h.Calls()[0].Cmd.Script
		if !strings.HasSuffix(got, want) || !strings.Contains(got, "u=x.service\n") || !strings.Contains(got, " && systemctl daemon-reload || exit\n") {
			t.Errorf("%s: %s", op, got)
		}
	}
}

func TestServiceFailureQuotesTheJournal(t *testing.T) {
	t.Parallel()
	h := remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		if strings.HasPrefix(c.Cmd.Script, "journalctl") {
			return &remote.Result{Stdout: []byte("bind: address already in use\n")}, nil
		}
		return &remote.Result{Exit: 1}, nil
	})
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Wait: time.Second}.Step()
	err := s.Ready(t.Context(), Env{Host: h})
	if err == nil || !strings.Contains(err.Error(), "x.service not active within 1s") || !strings.Contains(err.Error(), "address already in use") ||
		remote.HintOf(err) != "on m1: journalctl -u x.service" {
		t.Fatalf("%v", err)
	}
}

// The hint was the journal's, in which nothing of the disk stands.
func TestServiceOnASickDiskKeepsTheHint(t *testing.T) {
	t.Parallel()
	sick := remote.Hint(remote.ErrReadOnly, "remount it")
	h := remote.NewFake("m1", func(remote.Call) (*remote.Result, error) { return nil, sick })
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Wait: time.Second}.Step()
	err := s.Apply(t.Context(), Env{Host: h}, &Change{Op: Update})
	if !errors.Is(err, remote.ErrReadOnly) || remote.HintOf(err) != "remount it" {
		t.Errorf("error %v, hint %q", err, remote.HintOf(err))
	}
}

func TestQueuedServiceHasNoWaitOfItsOwn(t *testing.T) {
	t.Parallel()
	if (Service{ID: "s", NoBlock: true}).Step().Ready != nil {
		t.Error("a queued start is waited for: members that wait for one another deadlock")
	}
	own := func(context.Context, Env) error { return nil }
	if (Service{ID: "s", NoBlock: true, Ready: own}).Step().Ready == nil {
		t.Error("its own Ready got lost")
	}
}

func TestScriptStepAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		look, summary, err string
	}{
		"ok":                       {look: "echo ok"},
		"something is missing":     {look: "echo 'missing: a b'", summary: "install (missing: a b)"},
		"could not look":           {look: "echo ok; exit 3", err: "look at thing: exit 3"},
		"said nothing":             {look: ":", err: "look at thing: exit 0"},
		"repaints the terminal":    {look: `printf 'no\033[2Jpe'`, summary: "install (nope)"},
		"ok among other words":     {look: "echo ok; echo ok", summary: "install (ok\nok)"},
		"stderr is not the answer": {look: "echo ok >&2", err: "look at thing: exit 0: ok"},
		"its reason":               {look: "echo no >&2; exit 4", err: "look at thing: exit 4: no"},
		"a reason on stdout":       {look: "echo no; exit 4", err: "look at thing: exit 4: no"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := checked(t, Script{ID: "s", Host: "m1", Title: "thing", Summary: "install", Look: c.look}.Step())
			switch {
			case c.err != "":
				if got != nil || err == nil || !strings.HasPrefix(err.Error(), c.err) {
					t.Fatalf("%+v, %v", got, err)
				}
			case err != nil:
				t.Fatal(err)
			case c.summary == "":
				if got != nil {
					t.Fatalf("%+v", got)
				}
			case got == nil || got.Summary != c.summary || got.Op != Do:
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestExecutableStepSeesEveryDifference(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "prober")
	x := Executable{ID: "x", Host: "m1", Local: "/dev/null", SHA256: sum("program"), Path: p}
	for _, c := range []struct {
		name    string
		prepare func()
		op      Op
	}{
		{"absent", func() {}, Create},
		{"another one", func() { write(t, p, "older", 0o755) }, Update},
		{"not executable", func() { write(t, p, "program", 0o644) }, Update},
		{"in sync", func() { write(t, p, "program", 0o755) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.prepare()
			got, err := checked(t, x.Step())
			if err != nil || (got == nil) != (c.op == "") || got != nil && got.Op != c.op {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
	x.Path = filepath.Join(t.TempDir(), strings.Repeat("n", 300)) // ENAMETOOLONG is not absence
	if c, err := checked(t, x.Step()); c != nil || err == nil {
		t.Fatalf("%+v, %v", c, err)
	}
	x.Path = p
	if c, err := answered(x.Step(), Answer{Exit: 1}); c != nil || err == nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := answered(x.Step(), Answer{Out: "absent", Exit: 1}); c != nil || err == nil {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestDigestNamesContentAndItsBounds(t *testing.T) {
	t.Parallel()
	a := Digest([]byte("ab"), []byte("c"))
	if a != Digest([]byte("ab"), []byte("c")) || len(a) != 16 {
		t.Error("not stable")
	}
	for _, other := range []string{Digest([]byte("a"), []byte("bc")), Digest([]byte("abc")), Digest([]byte("ab"), []byte("d")), Digest([]byte("ab"), []byte("c"), nil)} {
		if a == other {
			t.Error("two configurations share a name")
		}
	}
}
