// Package remote is the waist between hactl and a machine: run a command, put
// a file there, dial through it. Everything above works on [Host] and does not
// know whether a real sshd, an in-process one or a fake stands behind it.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"hactl/internal/sys"
)

// Host is one machine. Methods may be called at the same time from several
// goroutines. Every method returns an [*UnreachableError] (wrapped or not) when
// the machine could not be looked at or the outcome is not known; that is never
// the same as "not there".
type Host interface {
	// Name is the name in the inventory.
	Name() string
	// Run runs a POSIX shell script as root. A non-zero exit is an *ExitError,
	// together with the Result.
	Run(ctx context.Context, cmd Cmd) (*Result, error)
	// Put writes small files in one call, each atomically: a temporary file in the
	// same folder that only root can read, content, owner and mode, fsync, rename.
	// All are on the disk before the first gets its name; the names come in the
	// order given. Missing parents are made 0755.
	Put(ctx context.Context, files ...File) error
	// Send streams a large local file to the host in the same atomic way. It
	// sends nothing when the host's file already has the hash.
	Send(ctx context.Context, u Upload) (sent bool, err error)
	// Dial connects from the host to addr ("127.0.0.1:2379", "unix" sockets too).
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// Cmd is one command on a host.
type Cmd struct {
	// Script is handed to sh -c as root, with the functions of internal/sys/host.sh that
	// it calls. It is visible in the host's process list: never a secret in it.
	Script string
	// Stdin may carry secrets; it is neither logged nor visible.
	Stdin []byte
	// Timeout bounds the command; 0 means DefaultTimeout.
	Timeout time.Duration
	// Title names the command in errors and in the log; default: its first line.
	Title string
	// Output, when set, sees the combined output line by line as it comes, with
	// control characters removed.
	Output func(line string)
}

// DefaultTimeout bounds a command that names no timeout of its own.
const DefaultTimeout = 60 * time.Second

// Result is what a command that ran left behind.
type Result struct {
	Stdout, Stderr []byte
	Exit           int
	Took           time.Duration
}

// File is a small file for Put.
type File struct {
	Path    string      // absolute
	Content []byte      // may be secret; never logged
	Mode    fs.FileMode // permission bits; 0 means 0644
	Owner   string      // "root:root" when empty; user:group or user
}

// Upload is a large file for Send.
type Upload struct {
	Local    string // path on this machine
	Path     string // absolute path on the host
	SHA256   string // lower-case hex of Local's content
	Mode     fs.FileMode
	Owner    string
	Progress func(done, total int64) // called from time to time; may be nil
}

// ExitError says that a command ran and exited with a non-zero code.
type ExitError struct {
	Host, Title string
	Exit        int
	Stderr      string // its end, control characters removed
}

// Error gives the command's name, its exit code and the end of its stderr.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s: exit %d", e.Title, e.Exit)
	if t := strings.TrimSpace(e.Stderr); t != "" {
		s += ": " + t
	}
	return s
}

// UnreachableError says that the host could not be looked at, or that a
// command's outcome is not known.
type UnreachableError struct {
	Host string
	Op   string // what we were doing: "dial 10.0.0.1:22", "run"
	Err  error
	Hint string // what to do next; may be empty
}

// Error names the operation and its cause.
func (e *UnreachableError) Error() string { return fmt.Sprintf("%s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Unreachable reports whether err means "could not look".
func Unreachable(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// HintError is an error with the next command to run.
type HintError struct {
	Err  error
	Hint string
}

// Error is the message without the hint; the CLI prints the hint on its own line.
func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the hint.
func (e *HintError) Unwrap() error { return e.Err }

// Hint attaches the next command to run to err; nil stays nil.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &HintError{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// HintOf returns the hint in err's chain, or "".
func HintOf(err error) string {
	var h *HintError
	if errors.As(err, &h) {
		return h.Hint
	}
	var u *UnreachableError
	if errors.As(err, &u) {
		return u.Hint
	}
	return ""
}

// Quote quotes words for a POSIX shell: see [sys.Quote].
func Quote(words ...string) string { return sys.Quote(words...) }
