package cmd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hactl/internal/drill"
	"hactl/internal/exitcode"
	"hactl/internal/ops"
	"hactl/internal/testneeds"
)

// openTerminal returns a terminal of 60 columns and 6 lines to write to, and the end
// at which a person would read.
func openTerminal(t *testing.T) (terminal, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		testneeds.Missing(t, "no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	fd := int(person.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 6, Col: 60})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return terminal, person
}

// shown reads what a person sees up to a text.
func shown(t *testing.T, person *os.File, upTo string) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.HasSuffix(strings.TrimRight(got.String(), "\r\n "), upTo) {
		n, err := person.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(buf[:n])
	}
	return strings.ReplaceAll(got.String(), "\r\n", "\n")
}

func TestDrillBreaksNothingUnlessAPersonSaysYes(t *testing.T) {
	scenarios, err := drill.Find("apiservers-down", "keepalived-stopped", "owner-cut-off")
	if err != nil {
		t.Fatal(err)
	}
	cluster := &drill.Cluster{Name: "prod", Members: []*drill.Member{{Name: "a", Master: true}, {Name: "b", Master: true}, {Name: "c", Master: true}}}
	for answer, goesOn := range map[string]bool{"y\n": true, "YES\n": true, " yes \n": true, "n\n": false, "\n": false, "": false, "yess\n": false} {
		terminal, person := openTerminal(t)
		o := &ops.DrillOptions{Options: drill.Options{Repeat: 3}}
		err := (&app{stdin: strings.NewReader(answer), stderr: terminal, noColor: true, getenv: func(string) string { return "" }}).confirm(t.Context(), o.Question(cluster, scenarios))
		if goesOn && err != nil || !goesOn && exitcode.Of(err) != exitcode.Interrupted {
			t.Errorf("%q: %v", answer, err)
		}
		said := shown(t, person, "[y/N]")
		for _, want := range []string{
			"about to break cluster prod on purpose:\n", "  !  owner-cut-off ", "the VIP's owner loses the network\n",
			"  -  apiservers-down ", "--accept-risk=quorum", "2 scenarios, 3 runs each. Go on?",
		} {
			if !strings.Contains(said, want) {
				t.Errorf("%q is not in\n%s", want, said)
			}
		}
	}
	var pipe strings.Builder
	if err := (&app{stdin: strings.NewReader("y\n"), stderr: &pipe, getenv: func(string) string { return "" }}).confirm(t.Context(), (&ops.DrillOptions{Options: drill.Options{Repeat: 1}}).Question(cluster, scenarios)); exitcode.Of(err) != exitcode.Usage {
		t.Errorf("nobody reads the question: %v", err)
	}
}

func TestTimelineOfARunningDrillIsDrawnOverItself(t *testing.T) {
	terminal, person := openTerminal(t)
	p := (&app{stderr: terminal, getenv: func(string) string { return "" }}).drillView(&verbRun{})
	o := p.observer()
	if o.Frame == nil {
		t.Fatal("a terminal gets no timeline")
	}
	f := drill.Frame{Scenario: "node-back", Phase: "fault", Elapsed: 2 * time.Second, Owner: []string{"m2"}, Mark: "   F", Rows: []drill.Row{
		{Name: "vip/ready/new", Cells: "###~..", GapMS: 312},
		{Name: "etcd/write", Cells: strings.Repeat("#", 60)}, // wider than the terminal
		{Name: "one", Cells: "#"},
		{Name: "two", Cells: "#"}, // more than it has lines
	}}
	o.Frame(f)
	const end = "\x1b[J" // of each painting
	plain := strings.NewReplacer("\x1b[K", "", "\r", "")
	first := strings.TrimSuffix(plain.Replace(shown(t, person, end)), end)
	for _, want := range []string{"node-back: fault, 2", "VIP: m2   etcd leader: nobody\n", "vip/ready/new ###~..  gap 312 ms\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in\n%s", want, first)
		}
	}
	lines := strings.Split(strings.TrimSuffix(first, "\n"), "\n")
	if last := fmt.Sprintf("  %-13s #", "one"); lines[len(lines)-1] != last {
		t.Errorf("the last line is %q, expected %q", lines[len(lines)-1], last)
	}
	if len(lines) != 5 {
		t.Errorf("%d lines on a terminal of 6", len(lines))
	}
	for _, l := range lines {
		if len([]rune(l)) > 59 {
			t.Errorf("wider than the terminal: %q", l)
		}
	}
	o.Frame(f)
	if again := plain.Replace(shown(t, person, end)); !strings.HasPrefix(again, "\x1b[5A  node-back") {
		t.Errorf("not drawn over the first: %q", again)
	}
	o.Say("undone\x1b[31m")
	said := plain.Replace(shown(t, person, end))
	if !strings.HasPrefix(said, "\x1b[5A") || !strings.Contains(said, "undone\n") || strings.Contains(said, "[31m") {
		t.Errorf("%q", said)
	}
	p.close() // nothing of it is left to erase
	if o := (&app{stderr: &strings.Builder{}, getenv: func(string) string { return "" }}).drillView(&verbRun{}).observer(); o.Frame != nil {
		t.Error("a pipe gets a timeline")
	}
}
