//go:build unix

package bundle

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockName is the lock file of a bundle's folder: one run fills it at a time. The
// kernel drops the lock with its process, so a killed run leaves none behind.
const lockName = ".lock"

// lock takes the folder's lock and waits for another run until ctx ends. waiting
// is called once when there is another run.
func lock(ctx context.Context, dir string, waiting func()) (unlock func(), err error) {
	l := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	free, err := l.TryLock()
	if err == nil && !free {
		waiting()
		_, err = l.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("wait for another hactl that fills %s: %w", dir, ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("lock bundle %s: %w", dir, err)
	}
	return func() { _ = l.Close() }, nil
}
