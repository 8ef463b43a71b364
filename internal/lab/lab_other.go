//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
)

func unsupported() error {
	return fmt.Errorf("the lab needs Linux and root (this is %s): %w", runtime.GOOS, errors.ErrUnsupported)
}

// Up needs Linux.
func Up(context.Context, Config) (*Lab, error) { return nil, unsupported() }

// Down needs Linux.
func Down(context.Context, string, string) (bool, error) { return false, unsupported() }

// Down needs Linux.
func (l *Lab) Down(context.Context) error { return unsupported() }

// Inject needs Linux.
func (l *Lab) Inject(context.Context, Fault, string) error { return unsupported() }

// Status needs Linux.
func (l *Lab) Status(context.Context) ([]HostStatus, error) { return nil, unsupported() }

// ExecArgv needs Linux.
func (l *Lab) ExecArgv(string, ...string) ([]string, error) { return nil, unsupported() }

// Exec needs Linux.
func (l *Lab) Exec(context.Context, string, ...string) (*exec.Cmd, error) { return nil, unsupported() }

// Output needs Linux.
func (l *Lab) Output(context.Context, string, string) (string, error) { return "", unsupported() }

// HubArgv needs Linux.
func (l *Lab) HubArgv(...string) ([]string, error) { return nil, unsupported() }

// HubExec needs Linux.
func (l *Lab) HubExec(context.Context, ...string) (*exec.Cmd, error) { return nil, unsupported() }

// Dial needs Linux.
func (l *Lab) Dial(context.Context, string, string) (net.Conn, error) { return nil, unsupported() }

func (l *Lab) ensure(context.Context) error { return unsupported() }

// Become needs Linux.
func Become([]string) error { return unsupported() }

// Watch needs Linux.
func Watch(context.Context, string, string) error { return unsupported() }
