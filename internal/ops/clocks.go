package ops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/remote"
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
		res, err := h.Run(ctx, remote.Cmd{Title: "read the clock", Script: "date +%s"})
		if err != nil {
			return err
		}
		after := time.Now()
		n, err := strconv.ParseInt(strings.TrimSpace(string(res.Stdout)), 10, 64)
		if err != nil {
			return fmt.Errorf("read the clock: %w", err)
		}
		at, off := time.Unix(n, 0), time.Duration(0)
		if at.Before(before) {
			off = before.Sub(at)
		} else if at.After(after) {
			off = after.Sub(at)
		}
		mu.Lock()
		defer mu.Unlock()
		apart[h.Name()] = off.Truncate(time.Second)
		return nil
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
