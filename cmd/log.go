package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/ui"
)

// keptLogs is how many log files stay in the state folder.
const keptLogs = 50

// runLog is the log file of one run: everything that happens, without secrets.
// A nil runLog drops everything.
type runLog struct {
	path  string
	start time.Time

	mu   sync.Mutex
	file *os.File
	text io.WriteCloser // redacts into file
}

// openLog makes the log file of a run of verb, 0600 in a 0700 folder, and
// removes the oldest beyond keptLogs. path, when not empty, is used instead of
// the state folder, where nothing is removed.
func openLog(path, verb string, getenv func(string) string, r *ui.Redactor) (*runLog, error) {
	now := time.Now()
	if path == "" {
		dir, err := logFolder(getenv)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the log folder: %w", err)
		}
		pruneLogs(dir, keptLogs-1)
		path = filepath.Join(dir, fmt.Sprintf("%s-%s.log", now.UTC().Format("20060102T150405.000Z"), verb))
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log file: %w", err)
	}
	return &runLog{path: path, start: now, file: f, text: r.Writer(f)}, nil
}

// logFolder is hactl/logs in the user's state folder (XDG base directories).
func logFolder(getenv func(string) string) (string, error) {
	base := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home := getenv("HOME")
		if home == "" {
			return "", errors.New("neither XDG_STATE_HOME nor HOME is set")
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "hactl", "logs"), nil
}

// pruneLogs keeps the newest files; their names sort by time. Other files in
// the folder are none of ours and stay.
func pruneLogs(dir string, keep int) {
	names, err := filepath.Glob(filepath.Join(dir, "[0-9]*T[0-9]*Z-*.log"))
	if err != nil || len(names) <= keep {
		return
	}
	slices.Sort(names)
	for _, n := range names[:len(names)-keep] {
		_ = os.Remove(n)
	}
}

// Printf writes one entry; further lines of it are indented.
func (l *runLog) Printf(format string, args ...any) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	msg := strings.ReplaceAll(strings.TrimSpace(remote.Clean(fmt.Sprintf(format, args...))), "\n", "\n    ")
	_, _ = fmt.Fprintf(l.text, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), msg)
}

// Remote logs a line of a command's output, on stdout or stderr, or what happens
// to the connection; it fits remote.Options.Log.
func (l *runLog) Remote(host, title, line string) {
	l.Printf("%s: %s: %s", host, title, line)
}

// Report logs an event.
func (l *runLog) Report(e plan.Event) {
	s := string(e.Kind)
	for _, part := range []string{e.Stage, string(e.Step), string(e.Op), e.Text, e.Err} {
		if part != "" {
			s += " | " + part
		}
	}
	if e.Step == "" && e.Host != "" {
		s += " | host=" + e.Host
	}
	if e.Elapsed > 0 {
		s += " | took=" + e.Elapsed.Round(time.Millisecond).String()
	}
	l.Printf("%s", s)
}

// Close ends the file; entries after it are dropped.
func (l *runLog) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.text.Close(), l.file.Close())
	l.file = nil
	return err
}
