package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"hactl/internal/wait"
)

// armedError says that the undo of a run is still armed on a host.
type armedError struct {
	host, timer string
}

// Error names the host and the timer.
func (e *armedError) Error() string {
	return fmt.Sprintf("%s: the undo of a drill is still armed: %s", e.host, e.timer)
}

// waitHealthy looks until everything is healthy, for at most bound, stretched for slow hosts.
func waitHealthy(ctx context.Context, c *Cluster, bound time.Duration) (*State, error) {
	return waitHealthyBut(ctx, c, bound, nil)
}

// lookAtHosts is how often hosts are looked at that cannot be healthy yet, since
// an apiserver or a member of etcd does not answer: only to say what else is wrong.
const lookAtHosts = 5 * time.Second

// waitHealthyBut takes no offence at the armed undo of the named units.
func waitHealthyBut(ctx context.Context, c *Cluster, bound time.Duration, units []string) (*State, error) {
	ctx, cancel := wait.Within(ctx, "a healthy cluster", bound)
	defer cancel()
	var last error
	var looked time.Time
	for {
		if time.Since(looked) >= lookAtHosts || c.answers(ctx) == nil {
			s, err := c.Look(ctx)
			if err = without(err, units); err == nil {
				return s, nil
			}
			looked = time.Now()
			if ctx.Err() == nil || last == nil {
				last = err
			}
		}
		if !pause(ctx, 500*time.Millisecond) {
			return nil, last
		}
	}
}

// without drops the armed timers of the named units from a joined error.
func without(err error, units []string) error {
	if err == nil || units == nil {
		return err
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		var armed *armedError
		if errors.As(err, &armed) && slices.Contains(units, armed.timer) {
			return nil
		}
		return err
	}
	var keep []error
	for _, e := range joined.Unwrap() {
		keep = append(keep, without(e, units))
	}
	return errors.Join(keep...)
}
