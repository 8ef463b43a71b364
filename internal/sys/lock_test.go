package sys

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"hactl/internal/testneeds"
)

func TestLockSaysByItsExitCodeWhyItIsNotTaken(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	noSleep := program(t, "sleep", ":")
	label := fmt.Sprintf("hactl-writer-%d", os.Getpid())
	writer := exec.CommandContext(t.Context(), "timeout", "60", "sh", "-c", "read x", label)
	ends, err := writer.StdinPipe()
	if err == nil {
		err = writer.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ends.Close(); _ = writer.Wait() })
	none, busy := "no-such-[w]riter", strings.Replace(label, "w", "[w]", 1)
	for name, c := range map[string]struct{ script, says string }{
		"free":                        {"hold_lock lock me " + none + " 75 76 30", "held PID"},
		"a command of before runs":    {"hold_lock lock me " + busy + " 75 76 30", "exit status 76"},
		"another has it":              {"exec 8>lock; flock 8; echo bob >&8; hold_lock lock me " + none + " 75 76 30", "bob exit status 75"},
		"another without a name":      {"exec 8>lock; flock 8; hold_lock lock me " + none + " 75 76 30", "exit status 75"},
		"broken, and free":            {"echo bob pid=1 >lock; break_lock lock", ""},
		"broken, and never taken":     {"break_lock lock", ""},
		"broken, of another process":  {"exec 8>lock; flock 8; echo bob pid=1 >&8; break_lock lock", "bob pid=1 no process with the lock open exit status 1"},
		"broken, of a nameless taker": {"exec 8>lock; flock 8; break_lock lock", "no process with the lock open exit status 1"},
	} {
		dir := t.TempDir()
		out, err := run(t, "cd "+dir+"; echo PID $$ >pid; exec </dev/null; "+c.script, noSleep)
		if err != nil {
			out += " " + err.Error()
		}
		pid, _ := os.ReadFile(dir + "/pid")
		out = strings.ReplaceAll(strings.Join(strings.Fields(out), " "), strings.Fields(string(pid))[1], "PID")
		if left, _ := os.ReadFile(dir + "/lock"); out != c.says || strings.Contains(string(left), "me") {
			t.Errorf("%s: %q, and %q is left; want %q", name, out, left, c.says)
		}
	}
}
