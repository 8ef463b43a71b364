package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// manifestVersion is the form of a manifest.
const manifestVersion = "hactl/v1"

// Manifest says what a snapshot is. It lies beside it as a JSON file.
type Manifest struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "Snapshot"
	File       string    `json:"file"` // name, without folder
	Saved      time.Time `json:"saved"`
	SavedBy    string    `json:"savedBy,omitempty"` // user and machine, or the host of a fetched file
	Cluster    string    `json:"cluster"`           // name in the inventory
	ID         string    `json:"id"`                // of the cluster, see pki.Identity
	Generation int       `json:"generation"`
	Member     string    `json:"member,omitempty"`    // that gave it
	ClusterID  string    `json:"clusterID,omitempty"` // etcd's, hex
	Quorum     bool      `json:"quorum"`              // false: writes that this member had not got may be missing
	Etcd       string    `json:"etcd,omitempty"`      // version of the member
	Kubernetes string    `json:"kubernetes,omitempty"`
	// CAs are the SHA-256 of the authorities' certificates, hex, by name.
	CAs     map[string]string `json:"cas,omitempty"`
	Store   string            `json:"store,omitempty"` // name of the encrypted copy of the store
	Content Content           `json:"content"`
	// Rehearsed is the last time an etcd was started on it; nil when none was.
	Rehearsed *Rehearsed `json:"rehearsed,omitempty"`
}

// Rehearsed is what a throw-away etcd, and a throw-away apiserver, proved of a snapshot.
type Rehearsed struct {
	At       time.Time `json:"at"`
	Host     string    `json:"host"`
	Etcd     string    `json:"etcd"` // version
	Keys     int       `json:"keys"` // read with their values
	Revision int64     `json:"revision"`
	Seconds  float64   `json:"seconds"`
	// Of an apiserver that read every object; "" and 0 when none did.
	Kubernetes string         `json:"kubernetes,omitempty"` // version
	Objects    map[string]int `json:"objects,omitempty"`    // by kind
	Ready      float64        `json:"readySeconds,omitempty"`
	Read       float64        `json:"readSeconds,omitempty"`
}

// manifestPath is where the manifest of a snapshot lies.
func manifestPath(file string) string { return strings.TrimSuffix(file, ".db") + ".json" }

// ReadManifest reads the manifest beside a snapshot, nil when there is none.
func ReadManifest(file string) (*Manifest, error) {
	text, err := os.ReadFile(manifestPath(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, refuse(file, Damaged, "its manifest %s cannot be read: %w", manifestPath(file), err)
	}
	if m.APIVersion != manifestVersion {
		return nil, refuse(file, Damaged, "its manifest %s has apiVersion %q, this hactl knows %q", manifestPath(file), m.APIVersion, manifestVersion)
	}
	return &m, nil
}

// Expected is what the cluster at hand wants of a snapshot. Empty fields are not
// compared.
type Expected struct {
	ID         string // of the cluster
	Generation int    // of the store
	CA         string // SHA-256 of the Kubernetes CA, hex
	Etcd       string // version that is to run on it
}

// Verify reads all of a snapshot and compares it with its manifest and with what is
// expected. What does not fit is a [*RefusedError]. The manifest is nil when there is
// none.
func Verify(file string, want Expected) (*Content, *Manifest, error) {
	m, err := ReadManifest(file)
	if err != nil {
		return nil, nil, err
	}
	if err := m.fits(file, want); err != nil {
		return nil, nil, err
	}
	c, err := Read(file)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case m != nil && m.Content.SHA256 != c.SHA256:
		return nil, nil, refuse(file, Damaged, "it is another file than the one that its manifest tells of (sha256 %.12s…, the manifest says %.12s…)", c.SHA256, m.Content.SHA256)
	case want.CA != "" && c.CA != "" && c.CA != want.CA:
		return nil, nil, refuse(file, Foreign, "the Kubernetes CA in it is not that of the store (sha256 %.12s…, the store's is %.12s…)", c.CA, want.CA)
	case want.Etcd != "" && c.Minor != "" && c.Minor != minorOf(want.Etcd):
		return nil, nil, refuse(file, WrongMinor, "it is of etcd %s, and etcd %s would run on it", c.Minor, want.Etcd)
	}
	return c, m, nil
}

// fits compares what can be known without reading the snapshot.
func (m *Manifest) fits(file string, want Expected) error {
	if m == nil {
		return nil
	}
	switch {
	case want.ID != "" && m.ID != want.ID:
		return refuse(file, Foreign, "it is of cluster %s (id %s), not of id %s", m.Cluster, m.ID, want.ID)
	case want.Generation > 0 && m.Generation > want.Generation:
		return refuse(file, StaleStore, "it is of generation %d of the cluster, and the store is of generation %d: the store is an old copy", m.Generation, want.Generation)
	}
	info, err := os.Stat(file)
	if err == nil && info.Size() < m.Content.Bytes {
		return refuse(file, Truncated, "it has %d bytes, its manifest says %d", info.Size(), m.Content.Bytes)
	}
	return nil
}
