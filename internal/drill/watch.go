package drill

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// hostClock turns a host's time into time of the run. The offset is the
// smallest seen between a line's arrival and the time that it carries: the one
// with the least delay on its way.
type hostClock struct {
	known bool
	delta time.Duration // local minus host
}

func (h *hostClock) saw(host, arrived time.Time) {
	if d := arrived.Sub(host); !h.known || d < h.delta {
		h.known, h.delta = true, d
	}
}

// followAddress is the script of a watch that ends after the bound.
func followAddress(vip netip.Addr, bound time.Duration) string {
	return fmt.Sprintf("follow_address %s %d", vip, int(bound.Seconds())+1)
}

// watchVIP keeps a watch on m until ctx ends; a lost session is begun again. lost is
// told each time, with when the host was last heard.
func watchVIP(ctx context.Context, m *Member, vip netip.Addr, zero time.Time, bound time.Duration, l *holderLog, lost func(heard time.Duration, err error)) {
	heard := time.Since(zero)
	for ctx.Err() == nil {
		var mu sync.Mutex
		clock := &hostClock{} // a host that started anew may have set its own
		_, err := m.Host.Run(ctx, remote.Cmd{
			Title: titleWatch, Script: followAddress(vip, wait.Bound(ctx, bound)), Timeout: bound + 10*time.Second,
			Output: func(line string) {
				mu.Lock()
				defer mu.Unlock()
				now := time.Now()
				heard = now.Sub(zero)
				watchLine(line, now, vip, clock, func(at time.Time, holds bool) {
					l.set(m.Name, at.Sub(zero), holds)
				})
			},
		})
		if err != nil && ctx.Err() == nil {
			mu.Lock()
			at := heard
			mu.Unlock()
			lost(at, err)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// watchLine reads one line of the watch; lines that are neither of its two
// forms are noise of the host.
func watchLine(line string, arrived time.Time, vip netip.Addr, clock *hostClock, set func(time.Time, bool)) {
	f := strings.Fields(line)
	switch {
	case len(f) == 3 && f[0] == "hactl":
		at, err := sys.ParseTime(f[1])
		if err != nil {
			return
		}
		clock.saw(at, arrived)
		// The time was taken before the look: an event that overtook this line
		// is later, and the log drops what is older than what it knows.
		set(at.Add(clock.delta), f[2] == "1")
	case len(f) > 3 && strings.HasPrefix(f[0], "["):
		at, err := time.Parse("2006-01-02T15:04:05.999999", strings.Trim(f[0], "[]"))
		if err != nil || !mentions(f, vip) {
			return
		}
		if !clock.known {
			clock.saw(at, arrived)
		}
		set(at.Add(clock.delta), f[1] != "Deleted")
	}
}

func mentions(fields []string, vip netip.Addr) bool {
	for i, w := range fields {
		if (w == "inet" || w == "inet6") && i+1 < len(fields) {
			p, err := netip.ParsePrefix(fields[i+1])
			return err == nil && p.Addr() == vip
		}
	}
	return false
}

// watchLeader asks every master's member whether it leads until ctx ends. One
// that does not answer does not lead as far as anybody can tell.
func watchLeader(ctx context.Context, c *Cluster, zero time.Time, l *holderLog) {
	var wg sync.WaitGroup
	for _, m := range c.Masters() {
		wg.Go(func() {
			for ctx.Err() == nil {
				askCtx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				leads, err := c.Etcd.Leads(askCtx, m.Name)
				cancel()
				if ctx.Err() != nil {
					return
				}
				l.set(m.Name, time.Since(zero), err == nil && leads)
				pause(ctx, 100*time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// watchLease records when the lease was renewed by somebody else than before
// the fault; the holder is known by its process, so a restarted one is new.
func watchLease(ctx context.Context, k *kube, name, before string, zero time.Time) (time.Duration, bool) {
	for ctx.Err() == nil {
		askCtx, cancel := context.WithTimeout(ctx, requestDeadline)
		l, err := k.lease(askCtx, name)
		cancel()
		if err == nil && l.Spec.HolderIdentity != "" && l.Spec.HolderIdentity != before {
			return time.Since(zero), true
		}
		pause(ctx, 200*time.Millisecond)
	}
	return 0, false
}
