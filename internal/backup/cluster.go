package backup

import (
	"encoding/json"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// cluster reads what etcd keeps of itself: its version and its members.
func (c *Content) cluster(path string, tx *bolt.Tx) error {
	version := ""
	if b := tx.Bucket([]byte("meta")); b != nil {
		version = string(b.Get([]byte("storageVersion")))
	}
	if b := tx.Bucket([]byte("cluster")); b != nil && version == "" {
		version = string(b.Get([]byte("clusterVersion")))
	}
	c.Minor = minorOf(version)
	b := tx.Bucket([]byte("members"))
	if b == nil {
		return nil
	}
	err := b.ForEach(func(id, text []byte) error {
		var m struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return refuse(path, Damaged, "its member %s cannot be read: %w", id, err)
		}
		c.Members = append(c.Members, m.Name)
		return nil
	})
	slices.Sort(c.Members)
	return err
}

// minorOf is "3.6" of "3.6.16".
func minorOf(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}
