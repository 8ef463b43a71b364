package ops

import (
	"context"
	"fmt"
	"time"

	"hactl/etcd"
	"hactl/internal/backup"
	"hactl/internal/exitcode"
	"hactl/internal/remote"
)

// RehearseSnapshot restores a snapshot to a throw-away etcd on a master ("" is the last
// one that is connected), apart from the cluster: every key is read, and a write is
// taken. What it proved goes into the manifest.
func RehearseSnapshot(ctx context.Context, r Request, file, on string) (*backup.Rehearsed, error) {
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	content, m, err := backup.Verify(file, backup.Expected{ID: s.material.Identity.ID, Generation: s.material.Identity.Generation, CA: sumOfCA(s.material.KubernetesCA)})
	if err != nil {
		return nil, err
	}
	h, err := s.rehearsalHost(on)
	if err != nil {
		return nil, err
	}
	got, err := etcd.Rehearse(ctx, h, file, content.SHA256)
	if err != nil {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s: the rehearsal of %s failed: %w", h.Name(), file, err), "this snapshot cannot be relied on: save another one, hactl snapshot save"))
	}
	out := &backup.Rehearsed{At: time.Now().UTC(), Host: h.Name(), Etcd: got.Etcd, Keys: got.Keys, Revision: got.Revision, Seconds: got.Seconds}
	if got.Keys != content.Keys {
		return out, exitcode.With(exitcode.Unsafe, fmt.Errorf("%s: etcd reads %d keys from %s, and there are %d in it", h.Name(), got.Keys, file, content.Keys))
	}
	if m == nil {
		return out, nil
	}
	m.Rehearsed = out
	return out, backup.WriteManifest(file, *m)
}

// rehearsalHost is the master of that name, or the last one that is connected.
func (s *session) rehearsalHost(on string) (remote.Host, error) {
	masters := s.inv.Masters()
	for i := len(masters) - 1; i >= 0; i-- {
		name := masters[i].Name
		switch {
		case on != "" && name != on:
		case s.hosts[name] != nil:
			return s.hosts[name], nil
		case on != "":
			return nil, fmt.Errorf("%s: %w", name, s.down[name])
		}
	}
	if on != "" {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("%s is no master: etcd's programs are on masters", on))
	}
	return nil, fmt.Errorf("no master is connected")
}
