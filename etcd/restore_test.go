package etcd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/sys/systest"
)

// restored is a master's disk in a folder, on which the scripts of a restore really run.
// etcdutl writes what it was given as the new log.
type restored struct {
	*Restore
	root string
	cut  int // the n-th command of a script fails; 0: none
}

// commands are those that change the disk: each of them can be the last one.
var commands = []string{"etcdutl", "chown", "mv", "mkdir", "rm", "sync"}

func newRestored(t *testing.T) *restored {
	t.Helper()
	inv := masters(t, 3)
	m := material(t, 3)
	m.Identity.Generation = 3
	r := &restored{root: t.TempDir()}
	inv.Etcd.DataDir = r.root + "/data"
	r.Restore = &Restore{Plan: &Plan{Inv: inv, PKI: m}, Masters: inv.Masters(), SHA256: "abc", Of: 1, Etcdutl: "etcdutl"}
	for _, dir := range []string{inv.Etcd.DataDir, r.root + "/bin", r.root + "/run"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range commands {
		real, _ := exec.LookPath(name)
		run := `exec ` + real + ` "$@"`
		switch name {
		case "chown":
			run = "exit 0"
		case "etcdutl":
			run = `for a in "$@"; do case $a in --data-dir=*) d=${a#*=};; esac; done; mkdir -p "$d/member" && echo "$*" >"$d/member/log"`
		}
		script := fmt.Sprintf("#!/bin/sh\nn=$(($(cat %[1]s/n) + 1)); echo $n >%[1]s/n; [ $n != \"$CUT\" ] || exit 99\nPATH=$REAL; %[2]s\n", r.root, run)
		if err := os.WriteFile(r.root+"/bin/"+name, []byte(script), 0o755); err != nil { //nolint:gosec // it is to run
			t.Fatal(err)
		}
	}
	return r
}

// host runs scripts on the disk.
func (r *restored) host() remote.Host {
	return remote.NewFake("m1", func(c remote.Call) (*remote.Result, error) {
		if c.Kind != "run" {
			return nil, nil
		}
		if err := os.WriteFile(r.root+"/n", []byte("0"), 0o600); err != nil {
			return nil, err
		}
		script := strings.NewReplacer("/var/lib/hactl", r.root+"/run", "/run/hactl", r.root+"/run/hactl").Replace(c.Cmd.Script)
		cmd := exec.Command("sh", "-c", script) //nolint:noctx,gosec // short, and the test's own
		cmd.Env = append(os.Environ(), "PATH="+r.root+"/bin:"+os.Getenv("PATH"), "REAL="+os.Getenv("PATH"), fmt.Sprint("CUT=", r.cut))
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return &remote.Result{Exit: exit.ExitCode(), Stderr: exit.Stderr, Stdout: out}, nil
		}
		return &remote.Result{Stdout: out}, err
	})
}

// swap runs the step as a whole, and reports whether it found something to do.
func (r *restored) swap(t *testing.T) (due bool, err error) {
	t.Helper()
	hosts := plan.Hosts{"m1": r.host()}
	p, err := plan.Make(t.Context(), []plan.Stage{{Name: "restore", Steps: []plan.Step{r.Swap(r.Masters[0])}}}, hosts, plan.Discard)
	if err != nil || p.Err() != nil {
		t.Fatal(err, p.Err())
	}
	if len(p.Pending()) == 0 {
		return false, nil
	}
	_, err = p.Apply(t.Context(), hosts, plan.Discard, nil)
	return true, err
}

func (r *restored) member(t *testing.T, content string) {
	t.Helper()
	dir := r.Inv.Etcd.DataDir + "/member"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/log", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// log is what a folder of the data directory holds, "" when it is not there.
func (r *restored) log(folder string) string {
	b, _ := os.ReadFile(filepath.Join(r.Inv.Etcd.DataDir, folder, "log"))
	return string(b)
}

func TestRestoreKeepsTheDataOfBefore(t *testing.T) {
	r := newRestored(t)
	r.member(t, "old")
	if due, err := r.swap(t); !due || err != nil {
		t.Fatal(due, err)
	}
	got := r.log("member")
	for _, want := range []string{"--bump-revision=2000000000", "--mark-compacted", "--initial-cluster-token=" + r.Token(), "--initial-cluster=m1=https://192.0.2.1:2380,m2=", "--name=m1"} {
		if !strings.Contains(got, want) {
			t.Errorf("etcdutl was called without %s: %s", want, got)
		}
	}
	if r.log("member.before-r3") != "old" {
		t.Error("the data of before is gone")
	}
	if due, _ := r.swap(t); due {
		t.Error("it is restored a second time")
	}
}

func TestRestoreOnAnEmptyMaster(t *testing.T) {
	r := newRestored(t)
	if due, err := r.swap(t); !due || err != nil || r.log("member") == "" {
		t.Fatal(due, err)
	}
	if due, _ := r.swap(t); due {
		t.Error("it is restored a second time")
	}
}

// Whatever command is the last one of a run, the next run has the new data in place and
// the data of before beside it.
func TestRestoreCutAtAnyCommandIsCompletedByTheNext(t *testing.T) {
	for _, old := range []string{"", "old"} {
		cuts := 0
		for n := 1; ; n++ {
			r := newRestored(t)
			if old != "" {
				r.member(t, old)
			}
			r.cut = n
			_, err := r.swap(t)
			if err == nil {
				break
			}
			cuts++
			r.cut = 0
			if _, err := r.swap(t); err != nil {
				t.Fatalf("after a cut at %d: %v", n, err)
			}
			if !strings.Contains(r.log("member"), r.Token()) || r.log("member.before-r3") != old {
				t.Errorf("after a cut at %d: new %q, before %q", n, r.log("member"), r.log("member.before-r3"))
			}
			if left, _ := os.ReadDir(r.Inv.Etcd.DataDir); len(left) != 2 {
				t.Errorf("after a cut at %d there is %v", n, left)
			}
		}
		if cuts < 7 {
			t.Errorf("%d cuts only: does the script run the commands of the test?", cuts)
		}
	}
}

// The revision begins above whatever clients of the cluster have seen, also when an old
// snapshot is restored again and again.
func TestRevisionIsRaisedByTheGenerationsInBetween(t *testing.T) {
	r := newRestored(t)
	for _, c := range []struct{ generation, of, want int }{{2, 1, 1e9}, {3, 1, 2e9}, {3, 2, 1e9}, {2, 0, 2e9}} {
		r.PKI.Identity.Generation, r.Of = c.generation, c.of
		if got := r.bump(); got != c.want {
			t.Errorf("generation %d from one of %d: %d, want %d", c.generation, c.of, got, c.want)
		}
	}
}

func TestRestoreThatIsUnderWayIsReadFromItsMark(t *testing.T) {
	file := t.TempDir() + "/restoring"
	look := func(text string) ([2]string, error) {
		if text != "" {
			must(t, os.WriteFile(file, []byte(text), 0o600))
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", sys.With(strings.ReplaceAll(restoreBegun.Script, restoringFile, file))).Output()
		must(t, err)
		return restoreBegun.Parse(string(out))
	}
	if got, err := look(""); err != nil || got != [2]string{} {
		t.Errorf("none: %q, %v", got, err)
	}
	if got, err := look("token sum\n"); err != nil || got != [2]string{"token", "sum"} {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"\n", "token", "token sum more"} {
		if got, err := look(text); err == nil || !strings.Contains(remote.HintOf(err), "remove it") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, answer := range []string{"", "token sum", "none begun", "begun", "none token sum"} {
		if got, err := restoreBegun.Parse(answer); err == nil {
			t.Errorf("%q: %q", answer, got)
		}
	}
}

// Room that has gone since the run began is missed before the member stops.
func TestMasterWithoutRoomIsNotFenced(t *testing.T) {
	r := newRestored(t)
	r.Size = 100 << 20
	for free, refuses := range map[int64]bool{300 << 20: true, 301 << 20: false} {
		h := remote.NewFake("m1", func(remote.Call) (*remote.Result, error) {
			return &remote.Result{Stdout: []byte(systest.Free(free))}, nil
		})
		err := r.Fence(r.Masters[0]).Guard(t.Context(), plan.Env{Host: h})
		var refused *RefusedError
		if errors.As(err, &refused) != refuses || (err != nil) != refuses || refuses && !strings.Contains(remote.HintOf(err), "make room") {
			t.Errorf("%d bytes are free: %v", free, err)
		}
	}
}
