package drill

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
	"hactl/internal/wait"
)

// watchScript follows the addresses of a host: every change as the kernel tells
// it, every half second a sign of life, with the time and whether the VIP is there
// in the first five seconds and every other one after them: that gives the clock's
// offset and covers a change before the first line, and its programs run beside
// the traffic. It ends when nobody reads it any more, and in any case after the
// given seconds.
func watchScript(vip string, seconds int) string {
	return fmt.Sprintf(`export LC_ALL=C TZ=UTC
timeout %[2]d ip -ts -o monitor address & m=$!
trap 'kill $m 2>/dev/null' EXIT
trap 'exit 0' HUP TERM PIPE
n=0; while [ $n -lt %[3]d ]; do
if [ $n -lt 10 ] || [ $((n %% 4)) -eq 0 ]; then
	t=$(date +%%s.%%N); o=0; ! has_address %[1]s || o=1
	echo "hactl $t $o" || exit 0
else
	echo hactl || exit 0
fi
n=$((n+1)); sleep 0.5; done`, remote.Quote(vip), seconds, 2*seconds)
}

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

// watchVIP keeps a watch on m until ctx ends; a lost session is begun again. lost is
// told each time, with when the host was last heard.
func watchVIP(ctx context.Context, m *Member, vip netip.Addr, zero time.Time, bound time.Duration, l *holderLog, lost func(heard time.Duration, err error)) {
	heard := time.Since(zero)
	for ctx.Err() == nil {
		var mu sync.Mutex
		clock := &hostClock{} // a host that started anew may have set its own
		_, err := m.Host.Run(ctx, remote.Cmd{
			Title: titleWatch, Script: watchScript(vip.String(), int(wait.Bound(ctx, bound).Seconds())+1), Timeout: bound + 10*time.Second,
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
		at, ok := unixTime(f[1])
		if !ok {
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

func unixTime(s string) (time.Time, bool) {
	sec, frac, ok := strings.Cut(s, ".")
	if !ok || len(frac) != 9 {
		return time.Time{}, false
	}
	a, err1 := strconv.ParseInt(sec, 10, 64)
	b, err2 := strconv.ParseInt(frac, 10, 64)
	return time.Unix(a, b), err1 == nil && err2 == nil
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
