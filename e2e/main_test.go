//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/lab"
)

// runID is part of every lab's name, so that two runs of the tests on one
// machine do not meet.
var runID = strconv.FormatInt(int64(os.Getpid()), 36)

// labUpChildEnv makes the test binary a process that boots a lab: name:folder.
const labUpChildEnv = "HACTL_E2E_LAB_UP"

// named is the name of a lab of this run.
func named(what string) string { return "e2e-" + runID + "-" + what }

// lockOf is held for as long as a run lives.
func lockOf(id string) string { return filepath.Join(os.TempDir(), "hactl-e2e-"+id+".lock") }

func TestMain(m *testing.M) {
	if name, dir, ok := strings.Cut(os.Getenv(labUpChildEnv), ":"); ok {
		labUpChild(name, dir)
		return
	}
	removeLabsOfDeadRuns()
	held, err := tryLock(lockOf(runID))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	stalls.run()
	begun := time.Now()
	code := m.Run()
	fmt.Println("e2e: this machine stood still", stalls.summary(begun))
	os.Remove(held.Name())
	os.Exit(code)
}

// removeLabsOfDeadRuns takes down what a run left behind that was killed
// before it could clean up: nobody else would.
func removeLabsOfDeadRuns() {
	for _, name := range lab.Names() {
		parts := strings.SplitN(name, "-", 3)
		if len(parts) != 3 || parts[0] != "e2e" {
			continue
		}
		held, err := tryLock(lockOf(parts[1]))
		if err != nil {
			continue // it lives
		}
		_, err = lab.Down(context.Background(), name, "")
		fmt.Fprintf(os.Stderr, "e2e: removed lab %s of a run that was killed (%v)\n", name, err)
		os.Remove(held.Name())
		held.Close()
	}
}

// tryLock takes the lock at once or not at all; it ends with the process.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
