package bundle

import (
	"context"
	"fmt"
	"time"
)

// retry tries a transfer again for as long as its error may pass, with the
// pauses in between; it returns the last error and how often it tried.
func retry(ctx context.Context, pauses []time.Duration, note func(string), try func() (passing bool, err error)) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		passing, err := try()
		if err == nil || ctx.Err() != nil || !passing || attempts > len(pauses) {
			return attempts, err
		}
		pause := pauses[attempts-1]
		note(fmt.Sprintf("again in %s: %v", pause, err))
		select {
		case <-ctx.Done():
			return attempts, fmt.Errorf("%w (stopped by %w)", err, ctx.Err())
		case <-time.After(pause):
		}
	}
}
