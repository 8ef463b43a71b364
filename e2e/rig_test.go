//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"hactl/internal/lab"
)

// rig is a lab, the operator's folder beside it and the real hactl.
type rig struct {
	*lab.Lab
	bin  string   // hactl
	runs string   // folder of what the runs of hactl wrote: stdout, stderr, logs
	inv  string   // inventory that runs use
	env  []string // for hactl, beyond the environment of this process
	n    int      // runs so far
}

// newRig boots a lab for this test alone; it goes with the test, or stays with KEEP=1.
func newRig(t *testing.T, c lab.Config) *rig {
	t.Helper()
	r := bootRig(t, c)
	t.Cleanup(func() { r.dispose(t) })
	return r
}

func bootRig(t *testing.T, c lab.Config) *rig {
	t.Helper()
	if err := makeRoom(); err != nil {
		t.Fatalf("remove a spare cluster: %v", err)
	}
	booted := false
	defer func() {
		if !booted { // bootLab has ended the test
			spare.Lock()
			spare.labs--
			spare.Unlock()
		}
	}()
	r := &rig{bin: hactlBinary(t), Lab: bootLab(t, c)}
	booted = true
	r.runs = r.Path("runs")
	if err := os.MkdirAll(r.runs, 0o700); err != nil {
		t.Fatal(err)
	}
	r.reset()
	return r
}

// reset makes the next runs use the lab's own inventory and nothing else.
func (r *rig) reset() { r.inv, r.env = r.Path("inventory.yaml"), nil }

// dispose copies what the runs wrote to the artifacts, and takes the lab down.
func (r *rig) dispose(t *testing.T) {
	if to := os.Getenv("E2E_ARTIFACTS"); to != "" {
		if err := os.CopyFS(filepath.Join(to, r.Name()), os.DirFS(r.runs)); err != nil {
			t.Logf("copy the runs to the artifacts: %v", err)
		}
	}
	if err := r.giveUp(); err != nil {
		t.Errorf("lab down: %v", err)
	}
}

func (r *rig) giveUp() error {
	spare.Lock()
	spare.labs--
	spare.Unlock()
	return removeOrKeep(r.Lab)
}

// artifacts is the folder in which reports of a run are kept: E2E_ARTIFACTS, or out
// in the root of the tree.
func artifacts() string {
	if to := os.Getenv("E2E_ARTIFACTS"); to != "" {
		return to
	}
	return filepath.Join("..", "out")
}

// spare are converged clusters of three masters and a worker that no test uses at
// the moment. A bring-up costs a minute, so tests of a running cluster use one after
// another what an earlier test brought up, if there is one.
var spare struct {
	sync.Mutex
	rigs []*rig
	labs int // of all rigs that there are, spare or not
}

// makeRoom counts one more lab, and removes a spare one if there are as many as
// scenarios that run at a time. Each lab costs memory and processor time, and the
// kernel may have real-time priority for two labs only.
func makeRoom() error {
	spare.Lock()
	spare.labs++
	full := spare.labs > turns.places
	spare.Unlock()
	if full {
		if r := takeSpare(); r != nil {
			return r.giveUp()
		}
	}
	return nil
}

// bareCluster is the hosts of such a cluster as they come from the installer. If the
// test passes, it leaves them as a converged cluster, for the next one.
func bareCluster(t *testing.T) *rig {
	t.Helper()
	r := bootRig(t, lab.Config{Name: nextName("ha"), Masters: 3, Workers: 1})
	t.Cleanup(func() { r.passOn(t) })
	return r
}

// cluster is a healthy cluster of three masters and a worker that is as its
// inventory wants: one that an earlier test left, or else a new one. The test must
// leave it so.
func cluster(t *testing.T) *rig {
	t.Helper()
	if r := takeSpare(); r != nil {
		t.Cleanup(func() { r.passOn(t) })
		t.Logf("uses the cluster of lab %s", r.Name())
		r.healthy(t)
		return r
	}
	r := bareCluster(t)
	took(t, "up of three masters and a worker", r.must(t, 0, "up", "--yes").took)
	r.nodesReady(t, 4)
	return r
}

func takeSpare() *rig {
	spare.Lock()
	defer spare.Unlock()
	if len(spare.rigs) == 0 {
		return nil
	}
	r := spare.rigs[0]
	spare.rigs = spare.rigs[1:]
	return r
}

// passOn keeps the cluster for the next test. After a failure it goes: the next
// test must not fail by what this one left.
func (r *rig) passOn(t *testing.T) {
	if t.Failed() || t.Skipped() {
		r.dispose(t)
		return
	}
	r.reset()
	spare.Lock()
	defer spare.Unlock()
	spare.rigs = append(spare.rigs, r)
}

// closeSpares takes down what the tests left.
func closeSpares() error {
	var errs []error
	for r := takeSpare(); r != nil; r = takeSpare() {
		errs = append(errs, r.giveUp())
	}
	return errors.Join(errs...)
}

// keptFile marks the folder of a lab that KEEP=1 has kept.
const keptFile = "kept"

func isKept(l *lab.Lab) bool {
	_, err := os.Stat(l.Path(keptFile))
	return err == nil
}

// removeOrKeep takes a lab down. With KEEP=1 it stays, and how to get in and how to
// remove it is printed.
func removeOrKeep(l *lab.Lab) error {
	if keep := os.Getenv("KEEP"); keep == "" || keep == "0" {
		return remove(l)
	}
	if err := os.WriteFile(l.Path(keptFile), nil, 0o600); err != nil {
		return err
	}
	name, at := l.Name(), l.Dir
	fmt.Printf(`kept lab %[1]s; what hactl wrote is in %[2]s/runs
  its hosts:   bin/hactl lab status --name %[1]s
  get in:      bin/hactl lab exec --name %[1]s %[3]s -- bash
  hactl there: bin/hactl lab hub --name %[1]s -- bin/hactl status -i %[2]s/inventory.yaml
  remove it:   bin/hactl lab down --name %[1]s && rm -r %[2]s
`, name, at, l.Hosts()[0].Name)
	return nil
}

// remove takes a lab down, with the folder and what others wrote into it.
func remove(l *lab.Lab) error {
	if err := l.Down(context.Background()); err != nil {
		return err
	}
	return os.RemoveAll(l.Dir)
}

var names struct {
	sync.Mutex
	n int
}

// nextName is a name of a lab that no other of this run has.
func nextName(what string) string {
	names.Lock()
	defer names.Unlock()
	names.n++
	return named(fmt.Sprintf("%s-%d", what, names.n))
}

// bootLab makes a lab in a folder of its own.
func bootLab(t *testing.T, c lab.Config) *lab.Lab {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(os.TempDir(), "hactl-"+c.Name)
	}
	// Not t.Log: a cluster is used by several tests.
	c.Report = func(line string) { fmt.Printf("lab %s: %s\n", c.Name, line) }
	l, err := lab.Up(t.Context(), c)
	if err == nil {
		return l
	}
	if _, downErr := lab.Down(context.Background(), c.Name, c.Dir); downErr != nil {
		t.Errorf("lab down: %v", downErr)
	}
	_ = os.RemoveAll(c.Dir)
	t.Fatalf("lab up: %v", err)
	return nil
}
