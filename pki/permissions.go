package pki

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"hactl/internal/remote"
)

// checkFolder refuses a store folder that others can look into, that is a
// link, or that another user owns (who could swap the keys).
func checkFolder(dir string, info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return remote.Hint(fmt.Errorf("PKI store %s is a symbolic link", dir),
			"set pki.store in the inventory to the folder itself")
	case !info.IsDir():
		return remote.Hint(fmt.Errorf("PKI store %s is not a folder", dir), "set pki.store in the inventory to a folder")
	case info.Mode().Perm()&0o077 != 0:
		return tooOpen(dir, info.Mode(), 0o700)
	}
	return checkOwner(dir, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	// Under sudo the operator's own folder is as good as root's.
	if who := os.Getenv("SUDO_UID"); os.Geteuid() == 0 && who == strconv.Itoa(int(st.Uid)) {
		return nil
	}
	return remote.Hint(fmt.Errorf("%s belongs to user %d, not to you", path, st.Uid),
		"if it is yours: chown -R %d %s", os.Geteuid(), remote.Quote(path))
}

// private refuses an entry of the store that is a link, is no plain file or
// folder, or is open to others.
func (d *disk) private(name string, info fs.FileInfo) error {
	path := filepath.Join(d.root.Name(), filepath.FromSlash(name))
	mode := info.Mode()
	switch {
	case mode&fs.ModeSymlink != 0:
		return remote.Hint(fmt.Errorf("%s in the PKI store is a symbolic link", path),
			"replace it by what it points to; keys must lie in the store itself")
	case mode.IsDir() && mode.Perm()&0o077 != 0:
		return tooOpen(path, mode, 0o700)
	case mode.IsDir():
		return nil
	case !mode.IsRegular():
		return fmt.Errorf("%s in the PKI store is neither a file nor a folder", path)
	case strings.HasSuffix(name, keyFile) && mode.Perm()&0o077 != 0:
		return tooOpen(path, mode, 0o600)
	case mode.Perm()&0o022 != 0:
		return tooOpen(path, mode, 0o644)
	}
	return checkOwner(path, info)
}

func tooOpen(path string, mode, want fs.FileMode) error {
	return remote.Hint(fmt.Errorf("%s is open to others: mode %04o, want %04o", path, mode.Perm(), want),
		"chmod %04o %s", want, remote.Quote(path))
}

// inspect walks the whole store once and refuses what private refuses.
func (d *disk) inspect() error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return d.private(name, info)
	})
}
