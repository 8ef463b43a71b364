package pki

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"hactl/internal/remote"
)

// identityFile holds the cluster's [Identity]. It is the one file of the store
// that changes: it is replaced by a rename.
const identityFile = "cluster.json"

// identityVersion is the form of identityFile.
const identityVersion = "hactl/v1"

// Identity says which cluster a store belongs to, and which life of it. It does
// not follow from a certificate authority: an authority can be replaced while the
// cluster lives on, and a restored cluster is another one under the same
// authorities.
type Identity struct {
	APIVersion string `json:"apiVersion"`
	Cluster    string `json:"cluster"` // name of the cluster in the inventory
	// ID is made once, with the store. A store of an older hactl, which made the
	// etcd token from the etcd CA, keeps that token as its ID.
	ID string `json:"id"`
	// Generation is 1 for the cluster as it was made; every restore adds 1.
	Generation int `json:"generation"`
	// HadQuorum says that etcd once acknowledged a write. From then on an empty
	// cluster is never made from this store.
	HadQuorum bool `json:"hadQuorum"`
	// Removed are hosts that were taken out of the cluster and that an inventory may
	// still have. They are not brought in again by accident.
	Removed []string `json:"removed,omitempty"`
}

// Token is the etcd cluster token. Members with another token never form a
// cluster with each other, so that a member of an older generation stays out.
func (i Identity) Token() string {
	if i.Generation <= 1 {
		return i.ID
	}
	return i.ID + "-r" + strconv.Itoa(i.Generation)
}

// GenerationOf returns the generation in a token of this cluster, or 0 when the
// token belongs to another cluster.
func (i Identity) GenerationOf(token string) int {
	rest, ours := strings.CutPrefix(token, i.ID)
	if !ours {
		return 0
	}
	if rest == "" {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimPrefix(rest, "-r"))
	if err != nil || n < 2 || rest != "-r"+strconv.Itoa(n) {
		return 0
	}
	return n
}

func newIdentity(cluster string) Identity {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return Identity{APIVersion: identityVersion, Cluster: cluster, ID: cluster + "-" + hex.EncodeToString(b[:]), Generation: 1}
}

// adoptedIdentity is the identity of a store without one: an older hactl made the
// etcd token from the fingerprint of the etcd CA.
func adoptedIdentity(cluster string, etcdCA *CA) Identity {
	fp := strings.ToLower(strings.ReplaceAll(etcdCA.Fingerprint(), ":", ""))
	return Identity{APIVersion: identityVersion, Cluster: cluster, ID: cluster + "-" + fp[:12], Generation: 1}
}

// identity reads the store's identity. A fresh store gets a new one, a store of
// an older hactl the one that its hosts already use; isNew says so for both.
func (w *work) identity(fresh bool, etcdCA *CA) (id Identity, isNew bool, err error) {
	text, err := w.read(identityFile)
	switch {
	case err == nil:
		id, err = parseIdentity(text, w.store.inv.Cluster)
		if err != nil {
			return id, false, w.lost(fmt.Errorf("read %s: %w", filepath.Join(w.store.dir, identityFile), err))
		}
		return id, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return id, false, err
	case fresh:
		return newIdentity(w.store.inv.Cluster), true, nil
	}
	return adoptedIdentity(w.store.inv.Cluster, etcdCA), true, nil
}

func parseIdentity(text []byte, cluster string) (Identity, error) {
	var id Identity
	if err := json.Unmarshal(text, &id); err != nil {
		return id, err
	}
	switch {
	case id.APIVersion != identityVersion:
		return id, fmt.Errorf("apiVersion is %q, this hactl knows %q", id.APIVersion, identityVersion)
	case id.Cluster != cluster:
		return id, fmt.Errorf("it belongs to cluster %q, not to %q", id.Cluster, cluster)
	case !idForm(id.ID) || id.Generation < 1:
		return id, errors.New("id or generation is not valid")
	}
	return id, nil
}

// idForm accepts what can stand in etcd's environment file and in a file name.
func idForm(id string) bool {
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	return id != "" && len(id) <= 128
}

// StaleStoreError says that a store is older than what it is compared with.
type StaleStoreError struct{ Err error }

// Error gives the reason.
func (e *StaleStoreError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *StaleStoreError) Unwrap() error { return e.Err }

// ExitCode is the code for "refused: not safe".
func (e *StaleStoreError) ExitCode() int { return 7 }

// Record saves a changed identity. It is a [StaleStoreError] when the store on
// the disk belongs to another cluster or has a later generation by now.
func (s *Store) Record(ctx context.Context, id Identity) error {
	return s.locked(ctx, true, func(d *disk) error {
		text, err := d.read(identityFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read identity of the cluster: %w", err)
		}
		if err == nil {
			now, err := parseIdentity(text, s.inv.Cluster)
			if err != nil {
				return fmt.Errorf("read identity of the cluster: %w", err)
			}
			if now.ID != id.ID || now.Generation > id.Generation {
				return remote.Hint(&StaleStoreError{fmt.Errorf("PKI store %s changed meanwhile: it is of %s now, not of %s", s.dir, now.Token(), id.Token())},
					"another hactl has worked with this store; run the same command again")
			}
		}
		return d.saveIdentity(id)
	})
}

// firstIdentity saves the identity of a store that has none.
func (d *disk) firstIdentity(id Identity) error {
	_, err := d.root.Lstat(identityFile)
	if err == nil {
		return fmt.Errorf("%s is there already", identityFile)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.saveIdentity(id)
}

func (d *disk) saveIdentity(id Identity) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	if err := d.replace(identityFile, append(text, '\n')); err != nil {
		return fmt.Errorf("save identity of the cluster: %w", err)
	}
	return nil
}
