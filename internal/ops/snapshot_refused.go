package ops

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"hactl/internal/backup"
	"hactl/internal/remote"
	"hactl/inventory"
)

// verified reads all of a snapshot. What is wrong with it is said with what to do.
func verified(inv *inventory.Inventory, file string, want backup.Expected) (*backup.Content, *backup.Manifest, error) {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = fmt.Errorf("%s is no file", file)
		}
		return nil, nil, remote.Hint(fmt.Errorf("open snapshot: %w", err), "hactl snapshot list shows the snapshots that there are")
	}
	c, m, err := backup.Verify(file, want)
	return c, m, withHint(inv, file, err)
}

// VerifyStore decrypts the encrypted copy of a store and reads all of it.
func VerifyStore(inv *inventory.Inventory, file, keyFile, passphrase string) (*backup.Archived, error) {
	if keyFile == "" && passphrase == "" {
		return nil, remote.Hint(fmt.Errorf("%s is encrypted, and there is neither a key nor a passphrase", file), "name the key file of a recipient with --identity, or set HACTL_BACKUP_PASSPHRASE")
	}
	ids, err := backup.Identities(keyFile, passphrase)
	if err != nil {
		return nil, err
	}
	out, err := backup.ReadArchive(file, ids)
	return out, withHint(inv, file, err)
}

// withHint says what to do about a file that is refused.
func withHint(inv *inventory.Inventory, file string, err error) error {
	hint := ""
	switch backup.ReasonOf(err) {
	case backup.NotASnapshot:
		hint = "name a file that hactl snapshot save wrote: hactl snapshot list"
	case backup.Truncated, backup.Damaged:
		hint = "take another one: hactl snapshot list, or hactl snapshot fetch MASTER for one that a timer saved"
	case backup.Foreign:
		hint = "use the inventory and the PKI store of the cluster that it is of (-i), or a snapshot of " + inv.Cluster + ": hactl snapshot list"
	case backup.WrongMinor:
		hint = "write the versions that the snapshot is of into " + inv.Path
	case backup.WrongKey:
		hint = "name the key file of a recipient with --identity, or set HACTL_BACKUP_PASSPHRASE to the passphrase of that day"
	case backup.StaleStore:
		hint = "use the store of the operator who restored the cluster last, or its backup"
	}
	switch {
	case hint != "":
		err = remote.Hint(err, "%s", hint)
	case errors.Is(err, fs.ErrPermission):
		err = remote.Hint(err, "give this user the right to read %s", file)
	}
	return err
}

// onThisMachine says what to do where a file could not be written into a folder of this
// machine. No host was changed.
func onThisMachine(err error, dir string) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return remote.Hint(err, "no host was changed; make room for %s on this machine, or name another folder with --dir", dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return remote.Hint(err, "no host was changed; give this user a folder %s that can be written to, or name another one with --dir", dir)
	}
	return err
}
