package pki

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"hactl/internal/remote"
)

// The authorities by name in the store, with the CN of each.
const (
	nameEtcdCA         = "etcd-ca"
	nameKubernetesCA   = "kubernetes-ca"
	nameFrontProxyCA   = "front-proxy-ca"
	nameServiceAccount = "service-account"
)

var commonNames = map[string]string{
	nameEtcdCA:       "etcd",
	nameKubernetesCA: "kubernetes",
	nameFrontProxyCA: "front-proxy-ca",
}

// Preview returns everything in the store and makes what it lacks, without a
// change to it: what is new (CA.New and Key.New say so) is forgotten afterwards,
// unless Keep is called with it. CAs are made once, all at once, and never again.
// A certificate is issued again when it is missing, about to expire, of another CA, or
// no longer says what the inventory says; created names each with the reason, such
// as "etcd-server-master-1: expires in 12 days". A key that is in order stays.
func (s *Store) Preview(ctx context.Context) (m *Material, created []string, err error) {
	if s.signed != "" {
		if info, err := os.Stat(s.signed); err != nil || !info.IsDir() {
			return nil, nil, remote.Hint(cmp.Or(err, fmt.Errorf("%s is no folder", s.signed)), "--certs names the folder of signed certificates, NAME.crt for each request")
		}
	}
	looked := false
	preview := func(d *disk) error {
		looked = true
		var unsaved []folder
		w := &work{store: s, disk: d, publish: func(name string, files map[string][]byte) error {
			unsaved = append(unsaved, folder{name, files})
			return nil
		}}
		if m, err = w.run(ctx); m != nil {
			m.unsaved = unsaved
		}
		created = w.created
		return err
	}
	err = s.locked(ctx, false, preview)
	if errors.Is(err, fs.ErrNotExist) && !looked {
		err = preview(nil) // no store, which is not the same as one that lost a file
	}
	return m, created, err
}

// otherRun is the hint where a store is no longer as it was previewed.
const otherRun = "another hactl may have worked with this store; run the same command again"

// unwritable says what to do where the store cannot be written to; other is the hint where the
// cause is another one.
func (s *Store) unwritable(err error, other string) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return remote.Hint(err, "no host was changed; make room for the store %s on this machine, then run the same command again", s.dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return remote.Hint(err, "no host was changed; give this user the right to write to the store %s, then run the same command again", s.dir)
	}
	return hinted(err, other)
}

// folder is what one publication puts in place.
type folder struct {
	name  string
	files map[string][]byte
}

// Keep saves what Preview made. It holds the store's lock meanwhile, and can be
// killed at any moment: the next run goes on. It fails when another run made
// the CAs since; those stay as they are.
func (s *Store) Keep(ctx context.Context, m *Material) error {
	return s.locked(ctx, true, func(d *disk) error {
		// First: a run that is cut after it finds something to make, and goes on.
		if m.unsavedIdentity {
			if err := d.firstIdentity(m.Identity); err != nil {
				return s.unwritable(err, otherRun)
			}
			m.unsavedIdentity = false
		}
		for _, f := range m.unsaved {
			if err := d.publish(f.name, f.files); err != nil {
				return s.unwritable(fmt.Errorf("publish %s in PKI store: %w", f.name, err), otherRun)
			}
		}
		err := d.forgetRequests(m.unsaved)
		m.unsaved = nil
		return err
	})
}

// work is one pass over the store. disk is nil when there is no folder yet.
type work struct {
	store   *Store
	disk    *disk
	publish func(name string, files map[string][]byte) error
	created []string
	waiting []Request
	refused []error // certificates that were signed elsewhere and do not serve
}

// RefusedError says which certificates that were signed elsewhere do not serve, and why. The
// store is as it was.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the errors of the single certificates.
func (e *RefusedError) Unwrap() error { return e.Err }

func (w *work) run(ctx context.Context) (*Material, error) {
	pki := w.store.inv.PKI
	if pki.Expiry <= 0 || pki.CAExpiry <= 0 {
		return nil, fmt.Errorf("pki.expiry (%s) and pki.caExpiry (%s) must be longer than 0", pki.Expiry, pki.CAExpiry)
	}
	m, err := w.authorities(ctx)
	if err != nil {
		return nil, err
	}
	if m.Identity, m.unsavedIdentity, err = w.identity(m.ServiceAccount.New, m.EtcdCA); err != nil {
		return nil, err
	}
	reqs, err := requests(w.store.inv)
	if err != nil {
		return nil, err
	}
	for _, r := range reqs {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("issue certificates: %w", err)
		}
		pair, err := w.pair(m.authority(r), r)
		if err != nil {
			return nil, err
		}
		if pair.CertPEM != nil { // else it waits for a signature
			m.pairs[r.name] = pair
		}
	}
	m.Waiting = w.waiting
	if w.refused != nil {
		return nil, &RefusedError{errors.Join(w.refused...)}
	}
	return m, nil
}

// read is disk.read on a folder that may not exist yet.
func (w *work) read(parts ...string) ([]byte, error) {
	if w.disk == nil {
		return nil, fs.ErrNotExist
	}
	return w.disk.read(path.Join(parts...))
}
