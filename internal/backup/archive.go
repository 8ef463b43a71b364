package backup

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
)

// Recipients are who can read an encrypted copy of the store: the public keys of the
// inventory, or a passphrase where there are none.
func Recipients(keys []string, passphrase string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, k := range keys {
		r, err := age.ParseX25519Recipient(k)
		if err != nil {
			return nil, fmt.Errorf("read backup.recipients: %w", err)
		}
		out = append(out, r)
	}
	if len(out) > 0 || passphrase == "" {
		return out, nil
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("use passphrase: %w", err)
	}
	return []age.Recipient{r}, nil
}

// Archive writes these files and folders to w as an encrypted tar.gz. The names in it
// are the last parts of the paths. `age -d FILE | tar xz` unpacks it.
func Archive(w io.Writer, to []age.Recipient, paths ...string) error {
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("encrypt store: %w", err)
	}
	packed := gzip.NewWriter(sealed)
	t := tar.NewWriter(packed)
	for _, p := range paths {
		if err := addTree(t, p); err != nil {
			return fmt.Errorf("copy %s: %w", p, err)
		}
	}
	return errors.Join(t.Close(), packed.Close(), sealed.Close())
}

func addTree(t *tar.Writer, root string) error {
	base := filepath.Dir(root)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(base, path)
		if err != nil || !d.IsDir() && !d.Type().IsRegular() || strings.HasSuffix(name, "/.lock") {
			return err
		}
		return addFile(t, path, name, d)
	})
}

func addFile(t *tar.Writer, path, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	h.Name = filepath.ToSlash(name)
	if d.IsDir() {
		h.Name += "/"
		return t.WriteHeader(h)
	}
	text, err := os.ReadFile(path) //nolint:gosec // a file of the store
	if err != nil {
		return err
	}
	h.Size = int64(len(text))
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = t.Write(text)
	return err
}
