package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/ui"
)

func stateIn(dir string) func(string) string {
	return func(k string) string { return map[string]string{"XDG_STATE_HOME": dir}[k] }
}

func TestLogFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog("", "up", stateIn(dir), ui.NewRedactor())
	if err != nil {
		t.Fatal(err)
	}
	l.Printf("hello\nworld \x1b[31m")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Printf("too late")
	for path, want := range map[string]os.FileMode{l.path: 0o600, filepath.Dir(l.path): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
	}
	text, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(text), " hello\n    world\n") {
		t.Errorf("got %q", text)
	}
}

func TestOnlyTheNewestFiftyLogsStay(t *testing.T) {
	dir := t.TempDir()
	logs := filepath.Join(dir, "hactl", "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(logs, "notes.log")
	for i := range 60 {
		writeEmpty(t, filepath.Join(logs, fmt.Sprintf("20260101T0000%02d.000Z-up.log", i)))
	}
	writeEmpty(t, mine)
	l, err := openLog("", "up", stateIn(dir), ui.NewRedactor())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left, err := filepath.Glob(filepath.Join(logs, "2*.log"))
	if err != nil || len(left) != keptLogs {
		t.Errorf("%d logs are left, want %d (%v)", len(left), keptLogs, err)
	}
	if filepath.Base(left[0]) != "20260101T000011.000Z-up.log" {
		t.Errorf("the oldest left is %s", left[0])
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a file that is not ours was removed: %v", err)
	}
}

func writeEmpty(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRunWithoutAFolderForLogsSaysSoAndGoesOn(t *testing.T) {
	if _, err := openLog("", "up", func(string) string { return "" }, ui.NewRedactor()); err == nil {
		t.Error("no error without XDG_STATE_HOME and HOME")
	}
	var l *runLog
	l.Printf("nothing happens")
	l.Remote("m1", "true", "")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
