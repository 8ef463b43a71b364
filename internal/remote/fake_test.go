package remote

import (
	"errors"
	"testing"
)

func TestFakeRecordsAndAnswers(t *testing.T) {
	t.Parallel()
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
	for _, addr := range []string{"192.0.2.1:6443", "192.0.2.1:6443", "192.0.2.2:6443"} {
		_, _ = n.Dial(bg, "tcp", addr)
	}
	if n.Trips() != 6 {
		t.Errorf("%d trips, want one for each address that was dialled", n.Trips())
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

func TestFakeLosesItsConnection(t *testing.T) {
	t.Parallel()
	f := NewFake("h", nil)
	mustRun(t, f, "true")
	f.LoseAt(2)
	for i, lost := range []bool{false, true, true} {
		err := f.Put(bg, File{Path: "/x"})
		if got := errors.Is(err, ErrLost) && Unreachable(err); got != lost {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if n := len(f.Calls()); n != 2 {
		t.Errorf("the host got %d calls, want 2", n)
	}
}
