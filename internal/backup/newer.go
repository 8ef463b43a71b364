package backup

import (
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Newer lists the objects that the snapshot now has and the snapshot old has not: what a
// restore of old loses. Leases and events come and go by themselves and are left out.
func Newer(old, now string) ([]string, error) {
	before, err := liveKeys(old)
	if err != nil {
		return nil, err
	}
	after, err := liveKeys(now)
	if err != nil {
		return nil, err
	}
	var out []string
	for key := range after {
		object, ok := strings.CutPrefix(key, "/registry/")
		if !ok || before[key] || strings.HasPrefix(object, "events/") || strings.HasPrefix(object, "leases/") || strings.HasPrefix(object, "masterleases/") {
			continue
		}
		out = append(out, object)
	}
	slices.Sort(out)
	return out, nil
}

// liveKeys are the keys of a verified snapshot that are not deleted.
func liveKeys(path string) (map[string]bool, error) {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer func() { _ = db.Close() }()
	live := map[string]bool{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(rev, value []byte) error {
			var kv mvccpb.KeyValue
			if err := kv.Unmarshal(value); err != nil {
				return err
			}
			if len(rev) == 18 {
				delete(live, string(kv.Key))
			} else {
				live[string(kv.Key)] = true
			}
			return nil
		})
	})
	return live, err
}
