package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/fakehost"
	"hactl/internal/remote"
)

// upOne makes the plan of one step and applies it; the change is what was shown, nil
// for in sync.
func upOne(t *testing.T, s Step, h remote.Host) *Change {
	t.Helper()
	hosts := Hosts{s.Host: h}
	p := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, hosts)
	if _, err := p.Apply(t.Context(), hosts, Discard, nil); err != nil {
		t.Fatal(err)
	}
	if again := mustMake(t, []Stage{{Name: "s", Steps: []Step{s}}}, hosts); len(again.Pending()) != 0 {
		t.Errorf("afterwards: %+v", again.Pending()[0].Change)
	}
	return p.Stages[0].Items[0].Change
}

func TestAbsentFilesAndExecutablesAreRemoved(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "f")
	for name, s := range map[string]Step{
		"file":       File{ID: "f", Host: "m1", Path: p, Content: []byte("other"), Keep: "never mind", Absent: true}.Step(),
		"executable": Executable{ID: "x", Host: "m1", Path: p, Absent: true}.Step(),
	} {
		t.Run(name, func(t *testing.T) {
			if c := upOne(t, s, shell(t, "m1")); c != nil {
				t.Errorf("nothing is there: %+v", c)
			}
			write(t, p, "left", 0o755)
			c := upOne(t, s, shell(t, "m1"))
			if c == nil || c.Op != Delete || c.Summary != "remove "+p || c.Made[0].SHA256 != "" || c.Made[0].Former.SHA256 != sum("left") {
				t.Fatalf("%+v", c)
			}
			if name == "file" && (c.Before != "left" || c.After != "") {
				t.Errorf("%q becomes %q", c.Before, c.After)
			}
			if _, err := os.Stat(p); !os.IsNotExist(err) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

func TestFolderInPlaceOfAnAbsentFileIsNotRemoved(t *testing.T) {
	t.Parallel()
	c, err := checked(t, File{ID: "f", Host: "m1", Path: t.TempDir(), Absent: true}.Step())
	if c != nil || err == nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRemovedUnitFileIsForgottenBySystemd(t *testing.T) {
	t.Parallel()
	h := remote.NewFake("m1", nil)
	f := File{ID: "f", Host: "m1", Path: "/etc/systemd/system/x.service", Absent: true}.Step()
	if err := f.Apply(t.Context(), Env{Host: h}, nil); err != nil || !strings.HasSuffix(h.Calls()[0].Cmd.Script, "&& systemctl daemon-reload") {
		t.Errorf("%v: %+v", err, h.Calls())
	}
}

func TestAbsentServiceNeitherRunsNorStartsWithTheHost(t *testing.T) {
	t.Parallel()
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Absent: true, Config: "abc"}
	for state, due := range map[string]bool{
		"not-found inactive -":      false,
		"loaded inactive disabled":  false,
		"loaded failed static":      false,
		"loaded active enabled":     true,
		"loaded active disabled":    true,
		"loaded inactive enabled":   true,
		"loaded activating static":  true,
		"not-found active -":        true,
		"loaded deactivating no":    true,
		"loaded inactive linked":    true,
		"masked inactive masked":    false,
		"loaded inactive generated": false,
	} {
		f := strings.Fields(state)
		c, err := answered(s.Step(), Answer{Out: "LoadState=" + f[0] + "\nActiveState=" + f[1] + "\nUnitFileState=" + strings.Trim(f[2], "-")})
		if err != nil || (c != nil) != due || due && (c.Op != Delete || c.Made[0].Former.Value != strings.TrimSpace(strings.Trim(f[2], "-")+" "+f[1])) {
			t.Errorf("%s: %+v, %v", state, c, err)
		}
	}
	if c, err := answered(s.Step(), Answer{Exit: 1}); c != nil || err == nil {
		t.Errorf("could not look: %+v, %v", c, err)
	}
}

// runningUnit is a host on which x.service starts with the host and runs, as process 7.
func runningUnit(t *testing.T) *fakehost.Host {
	t.Helper()
	return fakehost.New(t, "m1", fakehost.File("etc/systemd/system/x.service", "[Service]\nEnvironment=HACTL_CONFIG=abc\n"), fakehost.File("state/units/x.service.enabled", ""),
		fakehost.File("state/units/x.service.pid", "7\n"), fakehost.File("proc/7/comm", "x\n"), fakehost.File("proc/7/environ", "HACTL_CONFIG=abc\x00"))
}

func TestAbsentServiceIsStoppedAndDisabled(t *testing.T) {
	t.Parallel()
	h := runningUnit(t)
	s := Service{ID: "s", Host: "m1", Unit: "x.service", Absent: true}.Step()
	if c := upOne(t, s, h); c == nil || c.Op != Delete || s.Ready != nil {
		t.Fatalf("%+v", c)
	}
	for _, left := range []string{"state/units/x.service.enabled", "state/units/x.service.pid"} {
		if h.Disk().Has(left) {
			t.Errorf("%s is still there", left)
		}
	}
}

func TestMaskedServiceIsUnmaskedEnabledAndStarted(t *testing.T) {
	t.Parallel()
	h := runningUnit(t)
	h.Remove("state/units/x.service.pid")
	h.Add(fakehost.File("state/units/x.service.enabled", "masked\n"))
	if c := upOne(t, Service{ID: "s", Host: "m1", Unit: "x.service", Config: "abc"}.Step(), h); c == nil || c.Op != Start {
		t.Errorf("%+v", c)
	}
}

func TestFileChangesAreMadeUndone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		former string // content, empty: absent
		mode   os.FileMode
		absent bool // wanted
		secret bool
		back   bool // can be made undone
	}{
		"written":            {back: true},
		"rewritten":          {former: "old", mode: 0o600, back: true},
		"removed":            {former: "old", mode: 0o640, absent: true, back: true},
		"of other mode":      {former: "new", mode: 0o600, back: true},
		"a secret":           {former: "old", mode: 0o600, secret: true},
		"a long one":         {former: strings.Repeat("x", maxDiff+1), mode: 0o600},
		"a secret of before": {secret: true, back: true}, // there was none
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "f")
			if c.former != "" {
				write(t, p, c.former, c.mode)
			}
			h := shell(t, "m1")
			f := File{ID: "f", Host: "m1", Path: p, Content: []byte("new"), Owner: me(t), Secret: c.secret, Absent: c.absent}
			change := upOne(t, f.Step(), h)
			if (change.Revert != nil) != c.back {
				t.Fatalf("can be made undone: %v", change.Revert != nil)
			}
			if !c.back {
				return
			}
			if err := change.Revert(t.Context(), Env{Host: h}); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(p)
			if c.former == "" {
				if !os.IsNotExist(err) {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			info, serr := os.Stat(p)
			if err != nil || serr != nil || string(b) != c.former || info.Mode().Perm() != c.mode {
				t.Errorf("%q, %v, %v, %v", b, info.Mode(), err, serr)
			}
		})
	}
}

func TestServiceChangesAreMadeUndone(t *testing.T) {
	t.Parallel()
	for op, want := range map[Op]string{Restart: "101\n", Reload: "7\n", Start: "", Update: "7\n"} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			h := runningUnit(t)
			s := Service{ID: "s", Host: "m1", Unit: "x.service", Config: "another", NoBlock: true, Wait: time.Second}
			c := &Change{Op: op}
			s.revertible(c)
			if err := c.Revert(t.Context(), Env{Host: h}); err != nil {
				t.Fatal(err)
			}
			if got := h.Content("state/units/x.service.pid"); got != want {
				t.Errorf("its process is %q, wanted %q", got, want)
			}
		})
	}
}
