package remote

import (
	"context"
	"errors"
	"time"

	"hactl/internal/wait"
)

// NotYet is the exit code by which a command says that what it waits for is not
// there yet (sysexits.h: EX_TEMPFAIL).
const NotYet = 75

// awaitPause is how long the session of a command that waits stays free.
const awaitPause = 200 * time.Millisecond

// Await runs a command again and again until it exits with another code than
// NotYet, or until bound, stretched for slow hosts, has passed; then the result is the last one, with its
// [ExitError]. Such a command looks for a few seconds at most and ends: where sshd
// allows one session, what it waits for may need that session.
func Await(ctx context.Context, h Host, c Cmd, bound time.Duration) (*Result, error) {
	for end := time.Now().Add(wait.Bound(ctx, bound)); ; {
		res, err := h.Run(ctx, c)
		if !SaysNotYet(err) || !time.Now().Before(end) {
			return res, err
		}
		select {
		case <-time.After(awaitPause):
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
}

// SaysNotYet reports whether a command ended with the exit code NotYet.
func SaysNotYet(err error) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Exit == NotYet
}
