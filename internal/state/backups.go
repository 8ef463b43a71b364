package state

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"hactl/etcd"
)

// Backups looks at the snapshots that the timers of the masters save; no check where
// none are scheduled. It is bad when no master has a verified one of the last two
// periods. It is no part of a cluster's health: an operation does not wait for it.
func Backups(ctx context.Context, c Cluster) []Check {
	period := c.Inv.Backup.Period()
	if period == 0 {
		return nil
	}
	masters := c.Inv.Masters()
	out := make([]Check, len(masters)+1)
	seen := make([]*etcd.Scheduled, len(masters))
	var wg sync.WaitGroup
	for i, m := range masters {
		out[i+1] = failed("backup", m.Name, Unknown, c.Down[m.Name])
		if h := c.Hosts[m.Name]; h != nil {
			wg.Go(func() {
				s, err := etcd.LookScheduled(ctx, h)
				if err != nil {
					out[i+1] = failed("backup", m.Name, Unknown, err)
					return
				}
				seen[i], out[i+1] = s, backupOf(m.Name, s, period)
			})
		}
	}
	wg.Wait()
	out[0] = newestBackup(seen, period)
	return out
}

// backupOf judges one master.
func backupOf(host string, s *etcd.Scheduled, period time.Duration) Check {
	k := Check{Area: "backup", What: host, State: OK}
	switch newest := s.Newest(); {
	case s.Installed.IsZero():
		k.State, k.Detail = Bad, "there is no timer: hactl up makes it"
		return k
	case !s.Active:
		k.State, k.Detail = Bad, "its timer does not run: hactl up starts it"
		return k
	case newest == nil:
		k.Detail = "no snapshot yet"
	default:
		k.Detail = fmt.Sprintf("%d verified, the newest %s ago", len(s.Saved), age(s.Now.Sub(newest.Modified)))
	}
	if s.Last.State != "" && s.Last.State != "saved" {
		k.Detail = strings.TrimSuffix(k.Detail+"; the last run "+s.Last.State+": "+s.Last.Reason, ": ")
	}
	if s.Last.State == "failed" {
		k.State = Bad
	}
	return k
}

// newestBackup is about the cluster. A timer that is younger than two periods may not
// have had its turn.
func newestBackup(seen []*etcd.Scheduled, period time.Duration) Check {
	k := Check{Area: "backup", What: "newest verified snapshot", State: Unknown, Detail: "no master could be asked"}
	best := time.Duration(-1)
	young, unseen := false, false
	for _, s := range seen {
		if s == nil {
			unseen = true
			continue
		}
		young = young || !s.Installed.IsZero() && s.Now.Sub(s.Installed) <= 2*period
		if n := s.Newest(); n != nil && (best < 0 || s.Now.Sub(n.Modified) < best) {
			best = max(s.Now.Sub(n.Modified), 0)
		}
		k.State = Bad
	}
	switch {
	case k.State == Unknown:
	case best >= 0 && best <= 2*period:
		k.State, k.Detail = OK, age(best)+" ago"
	case young:
		k.State, k.Detail = OK, "none yet; one is due every "+age(period)
	case unseen:
		k.State, k.Detail = Unknown, "none of the last "+age(2*period)+" on the masters that could be asked"
	default:
		k.Detail = cmp.Or(map[bool]string{true: "none on any master"}[best < 0], age(best)+" ago; one is due every "+age(period))
	}
	return k
}

// age is a length of time for a person, to the minute.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 72*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
