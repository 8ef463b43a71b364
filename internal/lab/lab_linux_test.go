package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestV1NamesComeFromMountOptions(t *testing.T) {
	for in, want := range map[string]string{
		"rw,cpu,cpuacct":                      "cpu,cpuacct",
		"rw,memory":                           "memory",
		"rw,xattr,name=systemd":               "name=systemd",
		"rw,cpuset,release_agent=/x,noprefix": "cpuset",
	} {
		if got := v1Name(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestBaseIsNamedByItsContent(t *testing.T) {
	full := baseID("bookworm", false)
	if full == baseID("bookworm", true) || full == baseID("trixie", false) || baseID(EL9, true) == baseID("bookworm", true) {
		t.Fatal("two bases have one name")
	}
	old := clusterPackages
	defer func() { clusterPackages = old }()
	clusterPackages = append(clusterPackages[:len(clusterPackages):len(clusterPackages)], "vim-tiny")
	if baseID("bookworm", false) == full {
		t.Error("another package list has the same name")
	}
}

func TestPIDOfAnotherProcessIsNotTheHost(t *testing.T) {
	l := testLab(t, Config{Masters: 1})
	if err := os.MkdirAll(l.Path("hosts", "master-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.recordPID("master-1", os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if pid, alive := l.pid("master-1"); !alive || pid != os.Getpid() {
		t.Fatalf("pid %d, alive %v", pid, alive)
	}
	// The same number with another start time is a process that came later.
	path := l.Path("hosts", "master-1", "pid")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Fields(string(b))[0]+" 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, alive := l.pid("master-1"); alive {
		t.Error("a process that took over the number counts as the host")
	}
}

func TestKilledProcessIsWaitedFor(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it was killed
	if err := killAndWait(t.Context(), cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, state, err := procStat(cmd.Process.Pid); err == nil && state != "Z" {
		t.Errorf("it is still there in state %s", state)
	}
}

func TestLockIsExclusiveAndSurvivesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := lockFile(ctx, path, func() { waited = true }); err == nil || !waited {
		t.Fatalf("second lock: %v, waited %v", err, waited)
	}
	// The holder removes the file, as Down does: a waiter must lock the new one.
	got := make(chan error, 1)
	go func() {
		_, err := lockFile(t.Context(), path, func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			unlock()
		})
		got <- err
	}()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the lock is held on a file that was removed: %v", err)
	}
}

// removeTree asks mountIn before it removes. Only the question is tested on a
// real mount: a test that removes would do harm on the day the answer is wrong.
func TestMountsAreFoundAtAndBelowAFolder(t *testing.T) {
	if at, err := mountIn("/proc"); err != nil || at != "/proc" {
		t.Errorf("at /proc: %q, %v", at, err)
	}
	if at, err := mountIn("/pro"); err != nil || at != "" {
		t.Errorf("a folder whose name begins alike: %q, %v", at, err)
	}
	if at, err := mountIn(t.TempDir()); err != nil || at != "" {
		t.Errorf("an ordinary folder: %q, %v", at, err)
	}
}

func TestOverlayFolderKeepsModeOfTheBase(t *testing.T) {
	base, upper := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, "etc/ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []hostFile{{path: "root/.ssh/authorized_keys", mode: 0o600}, {path: "etc/ssh/key", mode: 0o600}} {
		if err := overlayFile(base, upper, f); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]os.FileMode{"root": 0o700, "root/.ssh": 0o700, "etc": 0o755, "etc/ssh": 0o755, "etc/ssh/key": 0o600} {
		info, err := os.Stat(filepath.Join(upper, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestDebootstrapProgressEndsWithTheReason(t *testing.T) {
	last := followDebootstrap(strings.NewReader("I: Retrieving a 1\nI: Validating a 1\nE: Couldn't download packages: b\n"), func(string) {})
	if last != "E: Couldn't download packages: b" {
		t.Errorf("got %q", last)
	}
}
