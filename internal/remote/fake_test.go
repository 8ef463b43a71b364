package remote

import (
	"errors"
	"testing"
)

func TestFakeRecordsAndAnswers(t *testing.T) {
	f := NewFake("h", func(c Call) (*Result, error) {
		if c.Cmd.Script == "bad" {
			return &Result{Exit: 2, Stderr: []byte("no\x07")}, nil
		}
		return &Result{Stdout: []byte(c.Cmd.Script)}, nil
	})
	if res, err := f.Run(bg, Cmd{Script: "x"}); err != nil || string(res.Stdout) != "x" {
		t.Errorf("%v %v", res, err)
	}
	var exit *ExitError
	if _, err := f.Run(bg, Cmd{Script: "bad"}); !errors.As(err, &exit) || exit.Exit != 2 || exit.Stderr != "no" {
		t.Errorf("%v", err)
	}
	n := NewCounting(f)
	for i, want := range []bool{true, false} {
		if sent, err := n.Send(bg, Upload{Path: "/p", SHA256: "a"}); err != nil || sent != want {
			t.Errorf("send %d: %v %v", i, sent, err)
		}
	}
	if err := n.Put(bg, File{Path: "/q"}); err != nil || n.Trips() != 4 || len(f.Calls()) != 5 {
		t.Errorf("%v, %d trips, %d calls", err, n.Trips(), len(f.Calls()))
	}
	release, err := Lock(bg, n, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(bg, f, "bob"); !errors.As(err, new(*LockedError)) {
		t.Errorf("%v", err)
	}
	release()
	if _, err := Lock(bg, f, "bob"); err != nil {
		t.Error(err)
	}
}

func TestCutLetsNothingThroughFromTheNthCallOn(t *testing.T) {
	for _, c := range []struct {
		when    When
		effects int
	}{{Before, 2}, {After, 3}} {
		for name, wrap := range map[string]func(*Fake) Host{
			"CutAt": func(f *Fake) Host { return CutAt(f, 3, c.when) },
			"DieAt": func(f *Fake) Host { f.DieAt(3, c.when); return f },
		} {
			f := NewFake("h", nil)
			h := wrap(f)
			for i := 1; i <= 5; i++ {
				var err error
				switch i % 2 {
				case 0:
					err = h.Put(bg, File{Path: "/x"})
				default:
					_, err = h.Run(bg, Cmd{})
				}
				if cut := errors.Is(err, ErrCut) && Unreachable(err); cut != (i >= 3) {
					t.Errorf("%s: call %d: %v", name, i, err)
				}
			}
			if n := len(f.Calls()); n != c.effects {
				t.Errorf("%s %v: %d calls took effect, want %d", name, c.when, n, c.effects)
			}
		}
	}
	both := NewCut(2, Before)
	a, b := NewFake("a", nil), NewFake("b", nil)
	_, _ = both.Wrap(a).Run(bg, Cmd{})
	if _, err := both.Wrap(b).Run(bg, Cmd{}); !errors.Is(err, ErrCut) || both.Calls() != 2 {
		t.Errorf("a cut counts over all its hosts: %v, %d", err, both.Calls())
	}
}
