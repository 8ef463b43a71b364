package facts

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

// local is a host that runs what it is asked on this machine.
func local(t *testing.T) *remote.Fake {
	t.Helper()
	return remote.NewFake("here", func(c remote.Call) (*remote.Result, error) {
		var out, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.Cmd.Script)
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			return nil, err
		}
		return &remote.Result{Stdout: out.Bytes(), Stderr: stderr.Bytes()}, nil
	})
}

func TestGatherReadsTheMachineItRunsOnInOneRoundTrip(t *testing.T) {
	testneeds.Linux(t)
	testneeds.Tool(t, "ip")
	h := local(t)
	f, err := Gather(t.Context(), h, "/srv/no such*folder")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(h.Calls()); n != 1 {
		t.Errorf("%d round trips, want 1", n)
	}
	name, _ := os.Hostname()
	if f.Hostname != name || f.Arch != runtime.GOARCH || f.UID != os.Getuid() || f.MemoryBytes < 1<<20 || f.CPUs < 1 {
		t.Errorf("got host %q, arch %q, uid %d, %d bytes, %d CPUs", f.Hostname, f.Arch, f.UID, f.MemoryBytes, f.CPUs)
	}
	if f.InterfaceOf(netip.MustParseAddr("127.0.0.1")) == nil {
		t.Errorf("no interface holds 127.0.0.1: %v", f.Interfaces)
	}
	for _, key := range []string{"kernel/pid_max", "fs/file-max", "net/ipv4/ip_forward"} {
		want, err := os.ReadFile("/proc/sys/" + key)
		if err != nil {
			t.Fatal(err)
		}
		got := f.Sysctls[strings.ReplaceAll(key, "/", ".")]
		if got.Value != strings.TrimSpace(string(want)) || got.Writable != (os.Getuid() == 0) {
			t.Errorf("%s: got %+v, want %s", key, got, want)
		}
	}
	if d := f.Disk("/var/lib/etcd"); d == nil || d.SizeBytes == 0 || d.Type == "" || d.Mount == "" {
		t.Errorf("disk of /var/lib/etcd: %+v", d)
	}
	if off := time.Duration(f.ClockOffset * float64(time.Second)).Abs(); off > f.ClockError+time.Millisecond {
		t.Errorf("this machine's clock is %v off itself, more than the error of %v", off, f.ClockError)
	}
	brief, err := GatherBrief(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*brief, f.Brief) {
		t.Errorf("in brief %+v\nat length %+v", *brief, f.Brief)
	}
	if !slices.IsSorted(f.Processes) || len(f.Processes) == 0 {
		t.Errorf("processes: %v", f.Processes)
	}
}

func TestGatherPassesOnThatTheHostCouldNotBeLookedAt(t *testing.T) {
	h := remote.NewFake("gone", func(remote.Call) (*remote.Result, error) {
		return nil, &remote.UnreachableError{Host: "gone", Op: "run", Err: errors.New("connection lost")}
	})
	if _, err := Gather(t.Context(), h); !remote.Unreachable(err) {
		t.Errorf("got %v, want an unreachable host", err)
	}
}

func TestScriptIsPOSIXShell(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), testneeds.Path(t, "shellcheck"), "-s", "sh", "-e", "SC2010,SC2012,SC2015,SC2154", "-")
	cmd.Stdin = strings.NewReader(clockBefore + briefScript + restScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, strings.TrimSpace(string(out)))
	}
}
