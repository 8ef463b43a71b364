package cmd

import (
	"context"
	"fmt"

	"hactl/internal/remote"
)

// remoteOptions are how hosts are reached: prompts on the terminal, every
// command, with its script and its output, into the log.
func (a *app) remoteOptions(run *verbRun) remote.Options {
	return remote.Options{
		SudoPassword: func(host string) (string, error) { return a.ask(run, "sudo password on "+host) },
		Passphrase:   func(file string) ([]byte, error) { s, err := a.ask(run, "passphrase of "+file); return []byte(s), err },
		Began:        run.commandBegan(a.verbose),
		Log:          run.Log.Remote,
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

// faults, when set, wraps the connected hosts of a run. The released binary never
// sets it: only a build with the tag sweep does (connect_sweep.go).
var faults func(getenv func(string) string) func(remote.Host) remote.Host
