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

// Archived is what an encrypted copy of a store holds.
type Archived struct {
	Files     int    `json:"files"`
	Store     string `json:"store"`     // name of its folder
	Inventory string `json:"inventory"` // name of the file
}

// Identities are by what a copy is decrypted: a key file of age, or else the passphrase.
func Identities(keyFile, passphrase string) ([]age.Identity, error) {
	if keyFile == "" {
		id, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, fmt.Errorf("use passphrase: %w", err)
		}
		return []age.Identity{id}, nil
	}
	f, err := os.Open(keyFile) //nolint:gosec // named by the operator
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	ids, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("read key file %s: it is none of age", keyFile) // the error may quote it
	}
	return ids, nil
}

// ReadArchive decrypts a copy of a store and reads all of it. Nothing is written. What is wrong is
// a [*RefusedError].
func ReadArchive(file string, ids []age.Identity) (*Archived, error) {
	f, err := os.Open(file) //nolint:gosec // named by the operator
	if err != nil {
		return nil, fmt.Errorf("open copy of the store: %w", err)
	}
	defer func() { _ = f.Close() }()
	plain, err := age.Decrypt(f, ids...)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, refuse(file, WrongKey, "it is encrypted for another key, or with another passphrase")
	}
	if err != nil {
		return nil, refuse(file, Damaged, "it is no file of age, or its beginning is damaged: %w", err)
	}
	packed, err := gzip.NewReader(plain)
	if err != nil {
		return nil, refuse(file, Damaged, "it cannot be unpacked: %w", err)
	}
	out := &Archived{}
	key := false
	for t := tar.NewReader(packed); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, err = io.Copy(io.Discard, t) //nolint:gosec // nothing is kept
		}
		if err != nil {
			return nil, refuse(file, Damaged, "it cannot be unpacked: %w", err)
		}
		store, rest, below := strings.Cut(h.Name, "/")
		switch {
		case h.Typeflag == tar.TypeDir:
		case !below:
			out.Inventory = h.Name
			out.Files++
		default:
			out.Store = store
			key = key || rest == "authorities/service-account/key.pem"
			out.Files++
		}
	}
	if !key || out.Inventory == "" {
		return nil, refuse(file, Damaged, "it has %d files, and not the keys of a store and an inventory", out.Files)
	}
	return out, nil
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
