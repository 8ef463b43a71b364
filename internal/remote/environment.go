package remote

import (
	"os"
	"path/filepath"
)

// Environment is what logging in takes from the operator's own machine. It is
// passed as a value, so that tests run side by side, each with its own.
type Environment struct {
	// Home is the operator's home folder: ~ in paths, and ~/.ssh.
	Home string
	// AgentSocket is the path of the ssh agent's socket; "" means no agent.
	AgentSocket string
	// Getenv reads an environment variable, for sudo passwords.
	Getenv func(name string) string
	// SSHConfig is the path of the operator's ssh configuration; "" means none. A
	// file that does not exist is an empty one.
	SSHConfig string
}

// EnvironmentFrom reads HOME and SSH_AUTH_SOCK with getenv.
func EnvironmentFrom(getenv func(name string) string) Environment {
	e := Environment{Home: getenv("HOME"), AgentSocket: getenv("SSH_AUTH_SOCK"), Getenv: getenv}
	if e.Home != "" {
		e.SSHConfig = filepath.Join(e.Home, ".ssh", "config")
	}
	return e
}

// processEnvironment is the environment of this process.
func processEnvironment() Environment { return EnvironmentFrom(os.Getenv) }
