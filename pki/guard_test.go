package pki

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

func TestStoreIsPrivate(t *testing.T) {
	s := open(t, testInventory(t))
	kept(t, s)
	err := filepath.WalkDir(s.Dir(), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %04o, want %04o", p, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesAnUnsafeStore(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		err   string
		hint  string
	}{
		"folder readable": {func(t *testing.T, dir string) { chmod(t, dir, 0o755) }, "mode 0755, want 0700", "chmod 0700"},
		"CA key readable by the group": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "authorities/etcd-ca/key.pem"), 0o640) },
			"mode 0640, want 0600", "chmod 0600",
		},
		"client key readable by all": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "etcd-client-hactl/key.pem"), 0o644) },
			"mode 0644, want 0600", "chmod 0600",
		},
		"certificate writable by all": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "authorities/etcd-ca/cert.pem"), 0o666) },
			"mode 0666, want 0644", "chmod 0644",
		},
		"inner folder open": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "admin"), 0o777) }, "mode 0777, want 0700", "chmod 0700",
		},
		"key is a link":   {func(t *testing.T, dir string) { link(t, filepath.Join(dir, "authorities/etcd-ca/key.pem")) }, "symbolic link", "replace it"},
		"pair is a link":  {func(t *testing.T, dir string) { link(t, filepath.Join(dir, "admin")) }, "symbolic link", "replace it"},
		"store is a link": {func(t *testing.T, dir string) { link(t, dir) }, "symbolic link", "pki.store"},
		"store is a file": {
			func(t *testing.T, dir string) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}, "not a folder", "pki.store",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inv := testInventory(t)
			s := open(t, inv)
			kept(t, s)
			c.spoil(t, s.Dir())
			_, err := Open(inv)
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(remote.HintOf(err), c.hint) {
				t.Errorf("got %v with hint %q", err, remote.HintOf(err))
			}
			if _, _, err := keep(s); err == nil {
				t.Error("keep went on")
			}
		})
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// link replaces path by a link to where it was moved.
func link(t *testing.T, path string) {
	t.Helper()
	aside := filepath.Join(t.TempDir(), "aside")
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(aside, path); err != nil {
		t.Fatal(err)
	}
}

func TestLockIsWaitedForWithinTheContext(t *testing.T) {
	s := open(t, testInventory(t))
	kept(t, s)
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.locked(context.Background(), true, func(*disk) error { close(held); <-release; return nil })
	}()
	<-held
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Millisecond)
	defer cancel()
	_, err := s.Load(ctx)
	if err == nil || !strings.Contains(err.Error(), "wait for the lock") || remote.HintOf(err) == "" {
		t.Errorf("got %v with hint %q", err, remote.HintOf(err))
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(context.Background()); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

func TestEveryFileAndFolderIsSynced(t *testing.T) {
	s := open(t, testInventory(t))
	s.inv.Hosts = s.inv.Hosts[:1]
	synced := 0
	s.fsync = func(f *os.File) error { synced++; return f.Sync() }
	kept(t, s)
	// Eight files and five folders of authorities; two files and a folder for
	// each of six pairs; the identity with its folder; the store itself after each
	// of the eight renames.
	if want := 8 + 5 + 6*(2+1) + 2 + 8; synced != want {
		t.Errorf("%d syncs, want %d", synced, want)
	}
}
