// Package backup keeps snapshots of etcd as files on the operator's machine: it writes
// them whole or not at all, reads all of them, and says which cluster they are of.
package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Content is what a snapshot holds, as read from the file itself.
type Content struct {
	Bytes     int64          `json:"bytes"`
	SHA256    string         `json:"sha256"` // of the whole file
	Revision  int64          `json:"revision"`
	Keys      int            `json:"keys"`              // that are not deleted
	Revisions int            `json:"revisions"`         // of all keys, deletions included
	Objects   map[string]int `json:"objects,omitempty"` // keys below /registry, by resource
	Minor     string         `json:"minor"`             // of etcd, "3.6"
	Members   []string       `json:"members"`           // names
	CA        string         `json:"ca,omitempty"`      // SHA-256 of the Kubernetes CA in it, hex; "" without Kubernetes
}

// The parts of a snapshot: etcd's database, then the SHA-256 of it.
const (
	trailerSize = sha256.Size
	sectorSize  = 512 // etcd tells a file with a trailer by what is over
)

// Read reads all of a snapshot: the checksum at its end, the structure of the
// database, every key with its value. What is wrong is a [*RefusedError].
func Read(path string) (*Content, error) {
	c := &Content{}
	if err := c.checksum(path); err != nil {
		return nil, err
	}
	if err := c.database(path); err != nil {
		return nil, err
	}
	return c, nil
}

// checksum compares the file with its trailer, and with the length that its first
// page tells.
func (c *Content) checksum(path string) error {
	f, err := os.Open(path) //nolint:gosec // named by the operator
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	head := make([]byte, 64)
	if n, _ := io.ReadFull(f, head); n < len(head) || binary.LittleEndian.Uint32(head[16:]) != boltMagic {
		return refuse(path, NotASnapshot, "it does not begin as a database of etcd does")
	}
	c.Bytes = info.Size()
	if need := pagesEnd(head); c.Bytes-trailerSize < need {
		return refuse(path, Truncated, "it has %d bytes, its database alone has %d", c.Bytes, need)
	}
	if c.Bytes%sectorSize != trailerSize {
		return refuse(path, Truncated, "it has %d bytes: there is no checksum at its end, as in a file that was cut or in a database that was copied from a member's folder", c.Bytes)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	sum, whole := sha256.New(), sha256.New()
	if _, err := io.CopyN(io.MultiWriter(sum, whole), f, c.Bytes-trailerSize); err != nil {
		return fmt.Errorf("read snapshot %s: %w", path, err)
	}
	trailer, err := io.ReadAll(io.TeeReader(f, whole))
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", path, err)
	}
	if !bytes.Equal(trailer, sum.Sum(nil)) {
		return refuse(path, Damaged, "its checksum is wrong")
	}
	c.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return nil
}

// boltMagic begins the meta page of a database, after the page's header of 16 bytes.
const boltMagic = 0xED0CDAED

// pagesEnd is where the pages in use end, in bytes, as the first meta page has it.
func pagesEnd(head []byte) int64 {
	size, pages := binary.LittleEndian.Uint32(head[24:]), binary.LittleEndian.Uint64(head[56:])
	if pages > 1<<40 {
		return 0
	}
	return int64(size) * int64(pages)
}

// database opens the file, has its structure checked and reads every key. A page that
// makes no sense is a panic or a fault of the memory in bbolt.
func (c *Content) database(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = refuse(path, Damaged, "its database cannot be read: %v", p)
		}
	}()
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return refuse(path, Damaged, "open its database: %w", err)
	}
	defer func() { _ = db.Close() }()
	return db.View(func(tx *bolt.Tx) error {
		for problem := range tx.Check() {
			return refuse(path, Damaged, "its database is not consistent: %w", problem)
		}
		if err := c.keys(path, tx); err != nil {
			return err
		}
		return c.cluster(path, tx)
	})
}

// keys reads every revision of every key, the oldest first.
func (c *Content) keys(path string, tx *bolt.Tx) error {
	b := tx.Bucket([]byte("key"))
	if b == nil {
		return refuse(path, NotASnapshot, "its database has no keys of etcd")
	}
	live := map[string]bool{}
	err := b.ForEach(func(rev, value []byte) error {
		if len(rev) < 17 || rev[8] != '_' {
			return refuse(path, Damaged, "a revision %x in it makes no sense", rev)
		}
		var kv mvccpb.KeyValue
		if err := kv.Unmarshal(value); err != nil {
			return refuse(path, Damaged, "the value at revision %x in it cannot be read: %w", rev[:8], err)
		}
		c.Revisions++
		c.Revision = max(c.Revision, int64(binary.BigEndian.Uint64(rev[:8]))) //nolint:gosec // etcd's revisions are int64
		if deleted := len(rev) == 18 && rev[17] == 't'; deleted {
			delete(live, string(kv.Key))
			return nil
		}
		live[string(kv.Key)] = true
		if string(kv.Key) == rootCA {
			c.CA = firstCertificate(kv.Value)
		}
		return nil
	})
	c.Keys, c.Objects = len(live), map[string]int{}
	for key := range live {
		if rest, ok := strings.CutPrefix(key, "/registry/"); ok {
			kind, _, _ := strings.Cut(rest, "/")
			c.Objects[kind]++
		}
	}
	return err
}

// rootCA is the object from which pods know the Kubernetes CA.
const rootCA = "/registry/configmaps/kube-system/kube-root-ca.crt"

// firstCertificate is the SHA-256 of the first PEM certificate within the value, or "".
func firstCertificate(value []byte) string {
	i := bytes.Index(value, []byte("-----BEGIN CERTIFICATE-----"))
	if i < 0 {
		return ""
	}
	block, _ := pem.Decode(value[i:])
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}
