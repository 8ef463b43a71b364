package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"hactl/internal/remote"

	"golang.org/x/sync/errgroup"
)

// holder names this run in the locks on the hosts.
func holder(verb string) string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	machine, _ := os.Hostname()
	return fmt.Sprintf("%s@%s, pid %d, hactl %s since %s", name, machine, os.Getpid(), verb, time.Now().Format(time.TimeOnly))
}

// lock makes this run the one writer on every connected host, all at once.
func (s *session) lock(ctx context.Context, verb string) (release func(), err error) {
	releases := make([]func(), len(s.inv.Hosts))
	errs := make([]error, len(s.inv.Hosts))
	var g errgroup.Group
	for i := range s.inv.Hosts {
		h := s.hosts[s.inv.Hosts[i].Name]
		if h == nil {
			continue
		}
		g.Go(func() error {
			var err error
			releases[i], err = remote.Lock(ctx, h, holder(verb))
			if err != nil && !errors.As(err, new(*remote.LockedError)) { // which names the host
				err = fmt.Errorf("%s: %w", h.Name(), err)
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait()
	release = func() {
		for _, r := range releases {
			if r != nil {
				r()
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// breakLocks ends other runs' locks on every connected host and says whose.
func (s *session) breakLocks(ctx context.Context) error {
	for i := range s.inv.Hosts {
		h := s.hosts[s.inv.Hosts[i].Name]
		if h == nil {
			continue
		}
		who, err := remote.BreakLock(ctx, h)
		if err != nil {
			return fmt.Errorf("%s: break the lock: %w", h.Name(), err)
		}
		if who != "" {
			s.Note(fmt.Sprintf("%s: broke the lock of %s", h.Name(), who))
		}
	}
	return nil
}
