package drill

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/testneeds"
)

// sh runs a script as a host would.
func sh(t *testing.T, script string) (string, error) {
	t.Helper()
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// targets counts them: tests that run side by side must not hit one another's.
var targets atomic.Int32

// target starts a process of a name and a mark that no other process has.
func target(t *testing.T) (name, mark string, cmd *exec.Cmd) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		testneeds.Missing(t, "no /proc here: %v", err)
	}
	name = fmt.Sprintf("drill%d.%d", os.Getpid()%100000, targets.Add(1))
	self, err := exec.LookPath("sleep")
	if err != nil {
		testneeds.Missing(t, "no sleep here: %v", err)
	}
	path := filepath.Join(t.TempDir(), name)
	// By another process: a program that this one writes cannot be started while a
	// child of another test still has the open file ("text file busy").
	if out, err := exec.Command("cp", self, path).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", self, err, out)
	}
	cmd = exec.Command(path, "61.5")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return name, "61.5", cmd
}

// injectHere does what an injection does on a host, without arming.
func injectHere(t *testing.T, f Fault, do bool) (proved bool) {
	t.Helper()
	before, err := sh(t, sys.With(f.Before))
	if err != nil || before == "" {
		t.Fatalf("identify: %q, %v", before, err)
	}
	head := "BEFORE='" + before + "'\n"
	if do {
		if out, err := sh(t, sys.With(head+f.Do)); err != nil {
			t.Fatalf("do: %s, %v", out, err)
		}
	}
	for range 1500 {
		if _, err := sh(t, sys.With(head+f.Proof)); err == nil {
			return true
		} else if !do {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func TestSignalsReachTheProcessAndAreProved(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"KILL", "TERM", "STOP"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			name, mark, _ := target(t)
			f := signalMatching(name, mark, signal)
			if injectHere(t, f, false) {
				t.Fatal("proved before anything was done")
			}
			if !injectHere(t, f, true) {
				t.Fatal("not proved")
			}
		})
	}
}

func TestHungProcessGoesOnAfterTheUndo(t *testing.T) {
	t.Parallel()
	name, mark, cmd := target(t)
	f := signalMatching(name, mark, "STOP")
	if !injectHere(t, f, true) {
		t.Fatal("not hung")
	}
	for range 2 { // safe to run twice
		if out, err := sh(t, sys.With(f.Undo)); err != nil {
			t.Fatalf("undo: %s, %v", out, err)
		}
	}
	if state, _ := sh(t, sys.With(fmt.Sprintf("state_of %d", cmd.Process.Pid))); state == "T" {
		t.Error("still stopped")
	}
}

func TestProcessOfTheNameButNotOfKubeadmIsSpared(t *testing.T) {
	t.Parallel()
	name, _, _ := target(t)
	if got, _ := sh(t, sys.With(signalMatching(name, "no-such-flag", "KILL").Before)); got != "" {
		t.Errorf("found %q", got)
	}
}

// everyFault is each fault that some scenario does to a host.
func everyFault(t *testing.T) map[string]Fault {
	t.Helper()
	c := &Cluster{VIP: netip.MustParseAddr("10.0.0.100")}
	for i := range 5 {
		c.Members = append(c.Members, &Member{Name: fmt.Sprintf("m%d", i), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), SSHPorts: []int{22, 2222}, Master: i < 4})
	}
	s := &State{Owner: "m0", Leader: "m1", Holders: map[string]string{"kube-controller-manager": "m1_a", "kube-scheduler": "m2_b"}}
	out := map[string]Fault{}
	for _, sc := range Scenarios() {
		hits, err := sc.Hits(c, s)
		if err != nil {
			t.Fatalf("%s: %v", sc.Name, err)
		}
		for _, h := range hits {
			out[sc.Name] = h.Fault
		}
	}
	return out
}

func TestEveryScriptParses(t *testing.T) {
	t.Parallel()
	for name, f := range everyFault(t) {
		for part, script := range map[string]string{"before": f.Before, "do": f.Do, "proof": f.Proof, "undo": f.Undo} {
			cmd := exec.Command("sh", "-n")
			cmd.Stdin = strings.NewReader(sys.With(script) + "\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %s", name, part, out)
			}
		}
	}
}

func TestEveryFaultCanBeUndoneAndProved(t *testing.T) {
	t.Parallel()
	for _, sc := range Scenarios() {
		if sc.Undone == "" || sc.Heals != strings.Contains(sc.Undone, "restart") {
			t.Errorf("%s heals by itself: %t; undone: %q", sc.Name, sc.Heals, sc.Undone)
		}
	}
	for name, f := range everyFault(t) {
		if f.Before == "" || f.Do == "" || !f.Power && (f.Undo == "" || f.Proof == "") {
			t.Errorf("%s lacks a part: %+v", name, f)
		}
	}
}

// The kernel's own nft takes the rules, in a network namespace of their own.
func TestCutRulesLoadAndUndo(t *testing.T) {
	t.Parallel()
	if _, err := sh(t, "command -v nft unshare && unshare -n nft list tables"); err != nil {
		testneeds.Missing(t, "nft does not run in a network namespace here: %v", err)
	}
	for _, vip := range []string{"10.0.0.100", "fd00::100"} {
		friend := netip.MustParseAddr(strings.TrimSuffix(vip, "0"))
		f := cutOff(&Member{SSHPorts: []int{22, 2222}}, netip.MustParseAddr(vip), friend)
		steps := fmt.Sprintf(`%[1]s >/dev/null || exit 11
( %[3]s ) 2>/dev/null && exit 12
( %[2]s
) || exit 13
( %[3]s ) || exit 14
nft list ruleset
( %[2]s
) || exit 15
( %[4]s ) || exit 16
( %[4]s ) || exit 17
( %[3]s ) 2>/dev/null && exit 18
exit 0`, f.Before, f.Do, f.Proof, f.Undo)
		out, err := exec.Command("unshare", "-n", "sh", "-c", steps).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", vip, err, out)
		}
		if !strings.Contains(string(out), friend.String()) || vip == "10.0.0.100" && !strings.Contains(string(out), "table arp") {
			t.Errorf("%s: rules are missing:\n%s", vip, out)
		}
	}
}

// An apiserver that is not ready for another reason was not asked to stop.
func TestOnlyShutdownProvesThatAnApiserverStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before, err := sh(t, sys.With(fmt.Sprintf("identify %d", os.Getpid())))
	if err != nil {
		t.Fatal(before, err)
	}
	hit := stopAPIServer(nil, &Member{API: "192.0.2.11:6443"})
	for answer, proved := range map[string]bool{
		"[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed": false,
		"ok": false,
		"":   false,
		"[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed": true,
	} {
		curl := "#!/bin/sh\nprintf '%s' " + remote.Quote(answer) + "\n"
		if err := os.WriteFile(filepath.Join(dir, "curl"), []byte(curl), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := sh(t, sys.With("PATH="+dir+":$PATH\nBEFORE='"+before+"'\n"+hit.Fault.Proof))
		if (err == nil) != proved {
			t.Errorf("%q proves it: %t", answer, err == nil)
		}
	}
}
