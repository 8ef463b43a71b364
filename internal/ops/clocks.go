package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/sys"
)

// clocksApart is how far the clock of a host may be from this machine's where a certificate
// is about to be signed: it begins five minutes before the time of this machine.
const clocksApart = 5 * time.Minute

// clocksAgree refuses to sign while the clock of this machine, or that of a host, has jumped.
// By a clock that is ahead everything seems to have expired, and what is signed is not
// valid on the hosts yet.
func (s *session) clocksAgree(ctx context.Context) error {
	var mu sync.Mutex
	apart := map[string]time.Duration{}
	err := s.eachHost(ctx, func(ctx context.Context, h remote.Host) error {
		before := time.Now()
		at, err := remote.Ask(ctx, h, sys.Clock(), 0)
		mu.Lock()
		defer mu.Unlock()
		apart[h.Name()] = -sys.Ahead(at, before, time.Now()).Truncate(time.Second)
		return err
	})
	if err != nil {
		return err
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(apart)) {
		switch off := apart[name]; {
		case off > clocksApart:
			wrong = append(wrong, fmt.Sprintf("%s ahead of %s", off, name))
		case off < -clocksApart:
			wrong = append(wrong, fmt.Sprintf("%s behind %s", -off, name))
		}
	}
	if wrong == nil {
		return nil
	}
	return exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("the clock of this machine is %s: certificates that are signed now would have the wrong time", strings.Join(wrong, ", ")),
		"nothing was changed; set the clock that is wrong (date shows it, timedatectl set-ntp true keeps it), then run the same command again"))
}
