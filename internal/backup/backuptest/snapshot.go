// Package backuptest makes snapshots of etcd for tests.
package backuptest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// rootCA is the key of the object that tells which cluster a snapshot is of.
const rootCA = "/registry/configmaps/kube-system/kube-root-ca.crt"

// Database is a database as etcd keeps it: two keys that live, one of them with the
// Kubernetes CA (DER), and one that was deleted.
func Database(t testing.TB, version string, ca []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(tx *bolt.Tx, bucket, key string, value []byte) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), value)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
		revs := []struct{ key, value, end string }{
			{"/registry/pods/default/a", "pod", ""}, {rootCA, "k8s\x00\x12" + string(text), ""}, {"/registry/pods/default/a", "", "t"}, {"/registry/pods/default/b", "pod", ""},
		}
		for i, r := range revs {
			kv := mvccpb.KeyValue{Key: []byte(r.key), Value: []byte(r.value)}
			text, err := kv.Marshal()
			if err != nil {
				return err
			}
			if err := put(tx, "key", string(Revision(i+2))+r.end, text); err != nil {
				return err
			}
		}
		return errors.Join(put(tx, "cluster", "clusterVersion", []byte(version)), put(tx, "meta", "term", []byte("1")),
			put(tx, "members", "8e9e05c52164694d", []byte(`{"id":1,"name":"m1"}`)))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Revision is a key of the database.
func Revision(main int) []byte {
	b := make([]byte, 17)
	binary.BigEndian.PutUint64(b, uint64(main)) //nolint:gosec // small
	b[8] = '_'
	return b
}

// Sealed is a database with its checksum: a snapshot.
func Sealed(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(bytes.Clone(db), sum[:]...)
}
