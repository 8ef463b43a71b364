package cmd

import (
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
