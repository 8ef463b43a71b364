package ops

import (
	"context"
	"fmt"
	"time"

	"hactl/internal/backup"
	"hactl/internal/bundle"
	"hactl/internal/cage"
	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/inventory"
)

// RehearseOptions are the flags of a rehearsal.
type RehearseOptions struct {
	On      string // the master to start it on; "" is the last one that is connected
	Objects bool   // an apiserver reads every object, too
	For     string // version of Kubernetes of that apiserver; "" is the one that runs
}

// RehearseSnapshot restores a snapshot to a throw-away etcd on a master, apart from the
// cluster: every key is read, and a write is taken. With Objects a throw-away apiserver
// reads every object on it. What this proved goes into the manifest.
func RehearseSnapshot(ctx context.Context, r Request, file string, o RehearseOptions) (*backup.Rehearsed, error) {
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	content, m, err := verified(s.inv, file, backup.Expected{ID: s.material.Identity.ID, Generation: s.material.Identity.Generation, CA: sumOfCA(s.material.KubernetesCA)})
	if err != nil {
		return nil, err
	}
	h, err := s.rehearsalHost(o.On)
	if err != nil {
		return nil, err
	}
	try, err := s.rehearsal(ctx, h, &cage.Snapshot{File: file, SHA256: content.SHA256}, o)
	if err != nil {
		return nil, err
	}
	got, err := try.Run(ctx, h, s.inv.Etcd.DataDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name(), err)
	}
	if err := proves(got, content.Keys); err != nil {
		return nil, exitcode.With(exitcode.Unsafe, remote.Hint(fmt.Errorf("%s: the rehearsal of %s failed: %w", h.Name(), file, err), "%s", rehearsalHint(got)))
	}
	out := &backup.Rehearsed{
		At: time.Now().UTC(), Host: h.Name(), Etcd: got.Etcd, Keys: got.Keys, Revision: got.Revision, Seconds: got.Seconds,
		Kubernetes: got.Kubernetes, Objects: got.Objects, Ready: got.Ready, Read: got.Read,
	}
	if m == nil {
		return out, nil
	}
	m.Rehearsed = out
	return out, backup.WriteManifest(file, *m)
}

// proves is nil when the snapshot can be restored: everything came up, and etcd read as
// many keys as are in the file.
func proves(got *cage.Outcome, keys int) error {
	if got.Refused == "" && got.Keys != keys {
		return fmt.Errorf("etcd reads %d keys from it, and there are %d in it", got.Keys, keys)
	}
	return got.Err()
}

// rehearsalHint says what to do about a rehearsal that failed.
func rehearsalHint(got *cage.Outcome) string {
	if len(got.Unreadable) > 0 {
		return "such an object is damaged, or encrypted with a key that kubernetes.files does not have. Look whether the running cluster reads it: kubectl get KIND -A; if it does, save another snapshot: hactl snapshot save"
	}
	return "this snapshot cannot be relied on: save another one, hactl snapshot save"
}

// rehearsal is what a rehearsal tries: etcd alone, or an apiserver on it.
func (s *session) rehearsal(ctx context.Context, h remote.Host, file *cage.Snapshot, o RehearseOptions) (*cage.Try, error) {
	if !o.Objects && o.For == "" {
		return &cage.Try{Etcd: cage.Program{Path: "etcd"}, Etcdutl: cage.Program{Path: "etcdutl"}, Etcdctl: cage.Program{Path: "etcdctl"}, Snapshot: file}, nil
	}
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	c, err := &cluster{session: s}, error(nil)
	if o.For != "" {
		other, inv := *s, *s.inv
		if inv.Versions, err = inventory.VersionsOf(o.For); err != nil {
			return nil, exitcode.With(exitcode.Usage, err)
		}
		other.inv, c.session = &inv, &other
	}
	if c.bundle, err = bundle.Locate(c.inv.Artifacts.Bundle, c.inv.Versions); err != nil {
		return nil, err
	}
	return c.apiserverTry(h, file)
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
