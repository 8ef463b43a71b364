package ui

import (
	"bytes"
	"os"
	"testing"

	"hactl/internal/testneeds"
)

// openTerminal returns a terminal without a reader.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		testneeds.Missing(t, "no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if !IsTerminal(f) {
		testneeds.Missing(t, "the pseudo-terminal's master is no terminal on this system")
	}
	return f
}

func env(kv ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == k {
				return kv[i+1]
			}
		}
		return ""
	}
}

func TestTerminalGetsTheLiveViewUnlessItIsDumb(t *testing.T) {
	tty := openTerminal(t)
	live := New(tty, &bytes.Buffer{}, Options{Getenv: env("TERM", "xterm")})
	defer live.Close()
	if _, ok := live.(*Live); !ok {
		t.Errorf("a terminal gets %T", live)
	}
	dumb := New(tty, &bytes.Buffer{}, Options{Getenv: env("TERM", "dumb")})
	defer dumb.Close()
	if _, ok := dumb.(*Plain); !ok {
		t.Errorf("a dumb terminal gets %T", dumb)
	}
}

func TestColourOnlyOnATerminalAndOnlyWhenWanted(t *testing.T) {
	tty := openTerminal(t)
	for name, c := range map[string]struct {
		o    Options
		want bool
	}{
		"terminal":       {Options{Getenv: env("TERM", "xterm")}, true},
		"NO_COLOR empty": {Options{Getenv: env("NO_COLOR", "")}, true},
		"NO_COLOR":       {Options{Getenv: env("NO_COLOR", "1")}, false},
		"--no-color":     {Options{NoColor: true, Getenv: env()}, false},
		"dumb":           {Options{Getenv: env("TERM", "dumb")}, false},
	} {
		if got := StyleFor(tty, c.o).Red("x") != "x"; got != c.want {
			t.Errorf("%s: colour %v, want %v", name, got, c.want)
		}
	}
	if StyleFor(&bytes.Buffer{}, Options{Getenv: env("TERM", "xterm")}).Red("x") != "x" {
		t.Error("a pipe is coloured")
	}
}
