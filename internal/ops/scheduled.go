package ops

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"hactl/etcd"
	"hactl/internal/remote"
	"hactl/internal/wait"
)

// OnHost is a verified snapshot that the timer of a master saved there.
type OnHost struct {
	Host string `json:"host"`
	etcd.SavedOnHost
}

// SnapshotsOnHosts lists the snapshots that lie on masters, the newest first, and the
// masters that could not be asked, with the reason.
func SnapshotsOnHosts(ctx context.Context, r Request) ([]OnHost, map[string]error, error) {
	s, err := open(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	var out []OnHost
	silent := map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range s.inv.Masters() {
		h := s.hosts[m.Name]
		if h == nil {
			silent[m.Name] = s.down[m.Name]
			continue
		}
		wg.Go(func() {
			seen, err := etcd.LookScheduled(ctx, h)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[h.Name()] = err
				return
			}
			for _, f := range seen.Saved {
				out = append(out, OnHost{Host: h.Name(), SavedOnHost: f})
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b OnHost) int { return b.Modified.Compare(a.Modified) })
	return out, silent, nil
}

// newestOn is the path of the newest snapshot on a master.
func newestOn(ctx context.Context, h remote.Host) (string, error) {
	ctx, cancel := wait.Within(ctx, "the list of snapshots on "+h.Name(), time.Minute)
	defer cancel()
	seen, err := etcd.LookScheduled(ctx, h)
	if err != nil {
		return "", fmt.Errorf("%s: %w", h.Name(), err)
	}
	n := seen.Newest()
	if n == nil {
		return "", remote.Hint(fmt.Errorf("%s: there is no snapshot in %s", h.Name(), etcd.SnapshotDir), "hactl snapshot list --hosts shows where there is one")
	}
	return n.Path, nil
}
