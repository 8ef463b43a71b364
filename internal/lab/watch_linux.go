package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// booted is what a watch says on its output once init of its host runs.
const booted = "booted"

// boot boots a host and returns when its init, or qemu, runs. The caller holds the host's lock.
func (l *Lab) boot(ctx context.Context, h hostState) error {
	if l.state.VM {
		return l.startMachine(h) // qemu boots it again when it reboots
	}
	return l.startWatch(ctx, h)
}

// startWatch starts the watch of a host, which boots it.
func (l *Lab) startWatch(ctx context.Context, h hostState) error {
	argv := Watcher
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe", "lab", "watch"}
	}
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], l.Dir, h.Name)...) //nolint:gosec,noctx // our own executable; it outlives the context
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.OpenFile(l.Path("hosts", h.Name, "watch.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watch of %s: %w", h.Name, err)
	}
	done := make(chan error, 1)
	go func() {
		if line, _ := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) == booted {
			done <- nil
			_ = cmd.Wait() // reaps it when it ends before this process does
			return
		}
		_ = cmd.Wait()
		b, _ := os.ReadFile(log.Name())
		done <- errors.New(lastLine(b))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		return ctx.Err()
	}
}

// Watch boots the named host of the lab in the folder, says so on stdout, and boots it
// again each time when its init ends because of a reboot. It returns when the host was
// switched off or lost its power. It is a process of its own, because only the parent of
// an init is told how that ended.
func Watch(ctx context.Context, dir, host string) error {
	l, err := Open("", dir)
	if err != nil {
		return err
	}
	h, err := l.hostState(host)
	if err != nil {
		return err
	}
	init, err := l.start(h)
	if err != nil {
		return err
	}
	fmt.Println(booted)
	for {
		_ = init.Wait() // an error only says that it ended by a signal
		status, ok := init.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || !status.Signaled() || status.Signal() != syscall.SIGHUP { // that is how the kernel ends the init of a PID namespace that reboots
			return nil
		}
		var next *exec.Cmd
		err := l.locked(ctx, h.Name, func() (err error) {
			if pid, _ := l.pid(h.Name); pid != init.Process.Pid {
				return nil // switched off, or booted by another process, since
			}
			if err = l.sweep(ctx, h.Name); err == nil {
				err = l.connect(ctx, h)
			}
			if err == nil {
				next, err = l.start(h)
			}
			return err
		})
		if err != nil || next == nil {
			return err
		}
		init = next
	}
}
