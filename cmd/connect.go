package cmd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"hactl/internal/remote"
)

// remoteOptions are how hosts are reached: prompts on the terminal, every
// command into the log.
func (a *app) remoteOptions(run *verbRun) remote.Options {
	return remote.Options{
		SudoPassword: func(host string) (string, error) { return a.ask(run, "sudo password on "+host) },
		Passphrase:   func(file string) ([]byte, error) { s, err := a.ask(run, "passphrase of "+file); return []byte(s), err },
		Log:          run.remoteLog(a.verbose),
	}
}

// breakLocks ends other runs' locks on every connected host and says whose.
func (s *session) breakLocks(ctx context.Context) error {
	for i := range s.inv.Hosts {
		h := s.hosts[s.inv.Hosts[i].Name]
		if h == nil {
			continue
		}
		who, err := remote.BreakLock(ctx, h)
		if err != nil {
			return fmt.Errorf("%s: break the lock: %w", h.Name(), err)
		}
		if who != "" {
			s.note(fmt.Sprintf("%s: broke the lock of %s", h.Name(), who))
		}
	}
	return nil
}

// cutEnv makes hactl kill itself at its N-th call to a host, before or after
// the call took effect ("17" or "17+"): how the crash tests cut a run off at
// every boundary.
const cutEnv = "HACTL_TEST_DIE_AT"

// cutFromEnv returns what each host is wrapped in.
func (a *app) cutFromEnv() func(remote.Host) remote.Host {
	v := a.getenv(cutEnv)
	when := remote.Before
	if n := len(v); n > 0 && v[n-1] == '+' {
		when, v = remote.After, v[:n-1]
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return func(h remote.Host) remote.Host { return h }
	}
	cut := remote.NewCut(n, when)
	cut.OnCut = func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	return cut.Wrap
}
