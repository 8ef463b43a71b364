package backup

import (
	"errors"
	"fmt"
)

// Reason says in one word why a file is refused.
type Reason string

// The reasons.
const (
	NotASnapshot Reason = "not-a-snapshot" // no database of etcd
	Truncated    Reason = "truncated"      // its end is missing
	Damaged      Reason = "damaged"        // its bytes are not those that were written
	Foreign      Reason = "foreign"        // of another cluster
	WrongMinor   Reason = "wrong-minor"    // of another minor version of etcd
	StaleStore   Reason = "stale-store"    // of a later generation than the store
	WrongKey     Reason = "wrong-key"      // encrypted for another key or passphrase
)

// RefusedError says that a file is no snapshot, or no copy of a store, that this cluster can be
// restored from.
type RefusedError struct {
	File   string
	Reason Reason
	Err    error
}

// Error names the file and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is refused (%s): %v", e.File, e.Reason, e.Err)
}

// Unwrap returns the details.
func (e *RefusedError) Unwrap() error { return e.Err }

// ExitCode is the code for "refused: not safe".
func (e *RefusedError) ExitCode() int { return 7 }

func refuse(file string, why Reason, format string, args ...any) error {
	return &RefusedError{File: file, Reason: why, Err: fmt.Errorf(format, args...)}
}

// ReasonOf is the reason in err, "" when it is no refusal.
func ReasonOf(err error) Reason {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}
