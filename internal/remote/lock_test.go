package remote

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote/sshdtest"
	"hactl/internal/testneeds"
)

func TestSecondHolderIsToldWhoseTheLockIs(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	first, second := w.connect(t), w.connect(t)
	release, err := Lock(t.Context(), first, "ann@laptop pid 7\nup \x1b[31m'x'")
	if err != nil {
		t.Fatalf("%v (%s)", err, HintOf(err))
	}
	_, err = Lock(t.Context(), second, "bob")
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "ann@laptop pid 7 up 'x' pid=") || !strings.Contains(HintOf(err), "--force-unlock") {
		t.Fatalf("error %v, hint %q", err, HintOf(err))
	}
	release()
	release()
	again, err := Lock(t.Context(), second, "bob")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
}

func TestLockDiesWithItsConnection(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	first, second := w.connect(t), w.connect(t)
	if _, err := Lock(t.Context(), first, "ann"); err != nil {
		t.Fatal(err)
	}
	p.Refuse() // as if hactl had been killed: nobody comes back
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lock is free", func() bool {
		release, err := Lock(t.Context(), second, "bob")
		if err == nil {
			release()
		}
		return err == nil
	})
}

func TestLockIsTakenAgainAfterALostConnection(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	first, second := w.connect(t), w.connect(t)
	release, err := Lock(t.Context(), first, "ann")
	if err != nil {
		t.Fatal(err)
	}
	lost := func() {
		h := first.held()
		p.Cut()
		eventually(t, "the loss is seen", func() bool { return isDone(h.ended) })
		eventually(t, "the host let go", func() bool { return !taken(t, w.opts.lockPath) })
	}
	lost()
	mustRun(t, first, "true")
	if _, err := Lock(t.Context(), second, "bob"); !errors.As(err, new(*LockedError)) {
		t.Fatalf("second holder: %v", err)
	}
	lost()
	bobs, err := Lock(t.Context(), second, "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer bobs()
	_, err = first.Run(t.Context(), Cmd{Script: "true"})
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "bob") {
		t.Errorf("wrote on without the lock: %v", err)
	}
	release()
}

func taken(t *testing.T, path string) bool {
	t.Helper()
	return exec.CommandContext(t.Context(), "flock", "-n", path, "true").Run() != nil
}

// No command may slip in between the loss of the line and the loss of the lock,
// and the lock that the host still keeps for the old line is our own.
func TestNothingRunsBetweenALostLineAndTheLock(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	p := w.throughProxy(t)
	first, second := w.connect(t), w.connect(t)
	release, err := Lock(t.Context(), first, "ann")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, noticed := range []bool{true, false} {
		if !noticed {
			p.Hang() // the host hears nothing of the old line's end
			host, port, _ := net.SplitHostPort(w.srv.Addr)
			w.host().Address = host
			first.t.addr = w.srv.Addr
			w.host().SSH.Port, _ = strconv.Atoi(port)
			w.host().SSH.KnownHosts = w.srv.KnownHosts(t, "")
			first.t.knownHosts = w.host().SSH.KnownHosts
			second = w.connect(t)
		}
		first.link.fail(errors.New("cut"))
		if !first.held().lost() {
			t.Error("the line is lost and the lock is thought held")
		}
		mustRun(t, first, "true")
		if _, err := Lock(t.Context(), second, "bob"); !errors.As(err, new(*LockedError)) {
			t.Fatalf("noticed %v: second holder: %v", noticed, err)
		}
	}
}

// The one session that sshd allows is the lock's.
func TestLockWithOneSession(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{MaxSessions: 1})
	c := w.connect(t)
	release, err := Lock(t.Context(), c, "ann")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for range 3 {
		mustRun(t, c, "true")
	}
	if n := w.srv.Connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestBreakLockSaysWhoseItBreaks(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	first, second := w.connect(t), w.connect(t)
	if who, err := breakLock(t.Context(), second, w.opts.lockPath); err != nil || who != "" {
		t.Errorf("nobody's lock: %q, %v", who, err)
	}
	if _, err := Lock(t.Context(), first, "ann"); err != nil {
		t.Fatal(err)
	}
	who, err := breakLock(t.Context(), second, w.opts.lockPath)
	if err != nil || !strings.HasPrefix(who, "ann pid=") {
		t.Fatalf("broke %q, %v", who, err)
	}
	release, err := Lock(t.Context(), second, "bob")
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestBreakLockEndsNoStranger(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	c := w.connect(t)
	stranger := exec.CommandContext(t.Context(), "sleep", "60")
	holder := exec.CommandContext(t.Context(), "flock", w.opts.lockPath, "cat")
	in, err := holder.StdinPipe()
	if err := errors.Join(err, stranger.Start(), holder.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = stranger.Process.Kill()
		_, _ = stranger.Wait(), holder.Wait()
	})
	eventually(t, "it is locked", func() bool { return taken(t, w.opts.lockPath) })
	write(t, w.opts.lockPath, "eve pid="+strconv.Itoa(stranger.Process.Pid)+"\n", 0o600)
	if _, err := breakLock(t.Context(), c, w.opts.lockPath); err == nil || HintOf(err) == "" {
		t.Errorf("error %v", err)
	}
	if st, err := os.ReadFile("/proc/" + strconv.Itoa(stranger.Process.Pid) + "/stat"); err != nil || strings.Contains(string(st), ") Z ") {
		t.Errorf("the stranger was ended: %s %v", st, err)
	}
}

func TestLockWaitsForTheCommandsOfAKilledRun(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	goOn := t.TempDir() + "/go-on"
	orphan := exec.CommandContext(t.Context(), "timeout", "-k", "5", "60", "sh", "-c", "until [ -e "+goOn+" ]; do sleep 0.05; done", writerTag(w.opts.lockPath)+"someone")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = orphan.Wait() }()
	c := w.connect(t)
	locked := make(chan error, 1)
	go func() {
		release, err := Lock(bg, c, "ann")
		if err == nil {
			defer release()
		}
		locked <- err
	}()
	eventually(t, "it has the file", func() bool {
		b, _ := os.ReadFile(w.opts.lockPath)
		return bytes.HasPrefix(b, []byte("ann"))
	})
	select {
	case err := <-locked:
		write(t, goOn, "", 0o600)
		t.Fatalf("took the lock while an earlier run's command was at work (%v)", err)
	case <-time.After(200 * time.Millisecond):
	}
	write(t, goOn, "", 0o600)
	if err := <-locked; err != nil {
		t.Error(err)
	}
}

func TestLockTroubleIsNamed(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "flock")
	w := newWorld(t, sshdtest.Config{})
	w.opts.lockPath = "/no/such/folder/lock"
	_, err := Lock(t.Context(), w.connect(t), "ann")
	if err == nil || Unreachable(err) || !strings.Contains(HintOf(err), "flock (util-linux)") {
		t.Errorf("error %v, hint %q", err, HintOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = newWorld(t, sshdtest.Config{})
	c := w.connect(t)
	if _, err := Lock(ctx, c, "ann"); !Unreachable(err) {
		t.Errorf("error %v", err)
	}
	if _, err := Lock(t.Context(), plainHost{c}, "ann"); err == nil {
		t.Error("locked what keeps no locks")
	}
	c.Close()
	if b, _ := os.ReadFile(w.opts.lockPath); len(bytes.TrimSpace(b)) != 0 && taken(t, w.opts.lockPath) {
		t.Errorf("lock left: %q", b)
	}
}

type plainHost struct{ Host }
