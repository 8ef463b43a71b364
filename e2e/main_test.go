//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gofrs/flock"

	"hactl/internal/lab"
)

// tierEnv chooses the tests that run when none are named: core (the default), all, or vm.
const tierEnv = "HACTL_E2E_TIER"

// labUpChildEnv makes the test binary a process that boots a lab: name:folder.
const labUpChildEnv = "HACTL_E2E_LAB_UP"

// runID is part of the name of every lab, so that two runs of the tests on one
// machine do not use the same lab.
var runID = strconv.FormatInt(int64(os.Getpid()), 36)

// named is the name of a lab of this run.
func named(what string) string { return "e2e-" + runID + "-" + what }

// lockOf is the file that a run holds locked until it ends.
func lockOf(id string) string { return filepath.Join(os.TempDir(), "hactl-e2e-"+id+".lock") }

// labWatchWord makes the test binary what boots a host of a lab: labWatchWord, folder, host.
const labWatchWord = "lab-watch"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == labWatchWord {
		if err := lab.Watch(context.Background(), os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lab.Watcher = []string{"/proc/self/exe", labWatchWord}
	if name, dir, ok := strings.Cut(os.Getenv(labUpChildEnv), ":"); ok {
		labUpChild(name, dir)
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if err := chooseTier(); err != nil {
		return 1, err
	}
	if err := turns.open(); err != nil {
		return 1, err
	}
	// How many run at a time is for turns to say.
	if err := flag.Set("test.parallel", "1000"); err != nil {
		return 1, err
	}
	removeLabsOfDeadRuns()
	held, err := tryLock(lockOf(runID))
	if err != nil {
		return 1, err
	}
	// Held until the end: the lock of a file that is collected as garbage is gone, and
	// another run then takes the labs of this one down.
	defer func() { os.Remove(held.Path()) }()
	endOnSignal()
	code = m.Run()
	return code, errors.Join(closeSpares(), writeFigures())
}

// endOnSignal takes the labs of this run down, or keeps them with KEEP=1, when the
// run is interrupted.
func endOnSignal() {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		fmt.Fprintf(os.Stderr, "e2e: %v: the labs go\n", <-got)
		for _, name := range lab.Names() {
			if !strings.HasPrefix(name, named("")) {
				continue
			}
			l, err := lab.Open(name, "")
			if err == nil {
				err = removeOrKeep(l)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "e2e: lab down %s: %v\n", name, err)
			}
		}
		os.Remove(lockOf(runID))
		os.Exit(130)
	}()
}

// chooseTier sets the test binary's own -run and -skip, unless -run was given.
func chooseTier() error {
	flag.Parse()
	if flag.Lookup("test.run").Value.String() != "" {
		return nil
	}
	switch tier := os.Getenv(tierEnv); tier {
	case "", "core":
		return flag.Set("test.run", "^("+strings.Join(slices.Concat(core, []string{"TestEveryScenarioIsInOneTier"}), "|")+")$")
	case "all":
		return flag.Set("test.skip", "^("+strings.Join(slices.Concat(byHand, machines), "|")+")$")
	case "vm":
		return flag.Set("test.run", "^("+strings.Join(machines, "|")+")$")
	default:
		return fmt.Errorf("%s=%s: write core, all or vm", tierEnv, tier)
	}
}

// removeLabsOfDeadRuns takes down the labs of runs that were killed before they
// could do it. Labs that were kept on purpose (KEEP=1) stay.
func removeLabsOfDeadRuns() {
	for _, name := range lab.Names() {
		parts := strings.SplitN(name, "-", 3)
		if len(parts) != 3 || parts[0] != "e2e" {
			continue
		}
		l, openErr := lab.Open(name, "")
		if openErr == nil && isKept(l) {
			continue
		}
		held, err := tryLock(lockOf(parts[1]))
		if err != nil {
			continue // that run is still alive
		}
		if openErr == nil {
			err = remove(l)
		} else {
			_, err = lab.Down(context.Background(), name, "")
		}
		fmt.Fprintf(os.Stderr, "e2e: removed lab %s of a run that was killed (%v)\n", name, err)
		os.Remove(held.Path())
		_ = held.Close()
	}
}

// tryLock takes the lock at once or not at all; it ends with the process.
func tryLock(path string) (*flock.Flock, error) {
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW), flock.SetPermissions(0o600))
	free, err := l.TryLock()
	if err == nil && !free {
		err = fmt.Errorf("%s is locked by another run", path)
	}
	return l, err
}
