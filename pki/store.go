package pki

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// The store's files:
//
//	authorities/                all of it published by one rename, never again touched
//	  etcd-ca/cert.pem key.pem
//	  kubernetes-ca/…  front-proxy-ca/…
//	  service-account/key.pem pub.pem
//	cluster.json                which cluster this is, see Identity; replaced by a rename
//	etcd-server-HOST/cert.pem key.pem      and so on, each pair published by one rename
//	request-NAME/key.pem        key of a pair that waits for a signature from elsewhere
//	.lock                       held while the store is read or changed
const (
	authorities = "authorities"
	certFile    = "cert.pem"
	keyFile     = "key.pem"
	pubFile     = "pub.pem"
	lockFile    = ".lock"
)

// lockWait bounds the wait for another hactl that works on the same store;
// making RSA 4096 keys for seven masters takes it half a minute.
const lockWait = 2 * time.Minute

// Store is the operator's folder of keys and certificates. What is in it is
// never overwritten, except that a certificate that is no longer good for its
// purpose is replaced together with its key; a CA never is.
type Store struct {
	inv    *inventory.Inventory
	dir    string
	now    func() time.Time
	before func(op, name string) error // see disk
	anew   func(name string) bool      // see RenewAlso
	signed string                      // see SignedIn
	fsync  func(*os.File) error        // (*os.File).Sync, but for tests that make hundreds of stores
}

// Open checks the inventory's store folder without changing anything; the
// folder need not exist yet. It refuses, with a hint, a store or a key that
// others can read, and links in place of files.
func Open(inv *inventory.Inventory) (*Store, error) {
	dir := inv.PKI.Store
	if dir == "" { // not so in an inventory that was loaded
		dir = filepath.Join(filepath.Dir(inv.Path), "pki-"+inv.Cluster)
	}
	s := &Store{inv: inv, dir: dir, now: time.Now, fsync: (*os.File).Sync}
	err := s.locked(context.Background(), false, func(d *disk) error { return nil })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s, nil
}

// RenewAlso makes the next Preview issue those pairs again, too, that are in order and
// that due wants by their name.
func (s *Store) RenewAlso(due func(name string) bool) { s.anew = due }

// Dir is the store's folder.
func (s *Store) Dir() string { return s.dir }

// locked runs do on the inspected folder under the store's lock: exclusive and
// with the folder made when change is set, otherwise shared and
// fs.ErrNotExist when there is no folder.
func (s *Store) locked(ctx context.Context, change bool, do func(*disk) error) (err error) {
	if change {
		if err := s.makeFolder(); err != nil {
			return err
		}
	}
	info, err := os.Lstat(s.dir)
	if err != nil {
		return fmt.Errorf("open PKI store: %w", err)
	}
	if err := checkFolder(s.dir, info); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("open PKI store: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if opened, err := root.Stat("."); err != nil || !os.SameFile(info, opened) {
		return fmt.Errorf("PKI store %s was replaced while it was opened", s.dir)
	}
	unlock, err := s.lock(ctx, root, change)
	if err != nil {
		return err
	}
	defer unlock()
	d := &disk{root: root, before: s.before, fsync: s.fsync}
	if change {
		if err := d.sweep(); err != nil {
			return fmt.Errorf("clean PKI store: %w", err)
		}
	}
	if err := d.inspect(); err != nil {
		return err
	}
	return do(d)
}

// makeFolder makes the store's folder, private from its first moment on.
func (s *Store) makeFolder() error {
	if s.before != nil {
		if err := s.before("mkdir", "."); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil { //nolint:gosec // the parent is an ordinary folder
		return fmt.Errorf("make PKI store: %w", err)
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make PKI store: %w", err)
	}
	return nil
}

// lock takes the store's lock, which ends with the process at the latest.
// Readers of a store that was never written to need none.
func (s *Store) lock(ctx context.Context, root *os.Root, exclusive bool) (unlock func(), err error) {
	const retry = 50 * time.Millisecond
	ctx, cancel := wait.Within(ctx, "the lock of the store", lockWait)
	defer cancel()
	var l *flock.Flock
	path := filepath.Join(s.dir, lockFile)
	if exclusive {
		l = flock.New(path, flock.SetFlag(os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW), flock.SetPermissions(0o600))
		_, err = l.TryLockContext(ctx, retry)
	} else {
		l = flock.New(path, flock.SetFlag(os.O_RDONLY|syscall.O_NOFOLLOW))
		_, err = l.TryRLockContext(ctx, retry)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !exclusive:
		return func() {}, nil
	case err != nil && ctx.Err() != nil:
		return nil, remote.Hint(fmt.Errorf("wait for the lock of PKI store %s (at most %s): %w", s.dir, wait.Bound(ctx, lockWait), err),
			"another hactl is working with this store; run again when it is done")
	case err != nil:
		return nil, fmt.Errorf("lock PKI store %s: %w", s.dir, err)
	}
	unlock = func() { _ = l.Close() }
	held, err := l.Stat()
	if inStore, statErr := root.Lstat(lockFile); err != nil || statErr != nil || !os.SameFile(held, inStore) {
		unlock()
		return nil, fmt.Errorf("PKI store %s was replaced while it was locked", s.dir)
	}
	return unlock, nil
}
