//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// savedSnapshot is hactl snapshot save -o json.
type savedSnapshot struct {
	File, Store string
	TookSeconds float64
	Manifest    struct {
		Member     string
		Generation int
		Quorum     bool
		Content    struct {
			Bytes, Revision int64
			Keys            int
			Objects         map[string]int
		}
	}
}

// TestSnapshotIsSavedVerifiedAndRefused saves a snapshot of a running cluster and
// damages copies of it.
func TestSnapshotIsSavedVerifiedAndRefused(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	r.env = append(r.env, "HACTL_BACKUP_PASSPHRASE=a passphrase of some words")
	var s savedSnapshot
	then(t, "save", func(t *testing.T) {
		res := r.must(t, 0, "snapshot", "save", "--with-store", "--dir", r.Path("snapshots"), "-o", "json")
		if err := json.Unmarshal([]byte(res.out), &s); err != nil {
			t.Fatalf("%v: %s", err, res)
		}
		took(t, "snapshot save", res.took)
		c := s.Manifest.Content
		if !s.Manifest.Quorum || c.Objects["minions"] != 4 || c.Keys < 100 || c.Revision < 100 || s.Manifest.Generation != 1 {
			t.Errorf("%+v", s)
		}
		for _, f := range []string{s.File, s.Store} {
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
				t.Errorf("%s: %v, %v", f, info, err)
			}
		}
	})
	then(t, "the copy of the store opens with its passphrase alone", func(t *testing.T) {
		if res := r.must(t, 0, "snapshot", "verify", s.Store); !strings.Contains(res.out, "is in order") {
			t.Errorf("%s", res)
		}
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(t.TempDir(), "key.txt")
		if err := os.WriteFile(other, []byte(id.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if res := r.must(t, 7, "snapshot", "verify", s.Store, "--identity", other); !strings.Contains(res.err, "(wrong-key)") {
			t.Errorf("%s", res)
		}
	})
	good := readText(t, s.File)
	for reason, content := range map[string]string{
		"":               good,
		"truncated":      good[:len(good)/3],
		"damaged":        good[:len(good)/2] + "\xff\x00" + good[len(good)/2+2:],
		"not-a-snapshot": strings.Repeat("text ", 10000),
	} {
		path := filepath.Join(t.TempDir(), "copy.db")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		code := 0
		if reason != "" {
			code = 7
		}
		if res := r.must(t, code, "snapshot", "verify", path); reason != "" && !strings.Contains(res.err, "("+reason+")") {
			t.Errorf("%s: %s", reason, res)
		}
	}
	then(t, "it is rehearsed, and nothing of that stays", func(t *testing.T) {
		const left = `ls /var/lib/hactl /tmp /var/tmp; systemctl list-units --all --plain --no-legend 'hactl-rehearsal*'; pgrep -c -x etcd`
		before := labOutput(t, r.Lab, "master-3", left)
		res := r.must(t, 0, "snapshot", "rehearse", s.File, "--on", "master-3")
		took(t, "snapshot rehearse", res.took)
		if !strings.Contains(res.out, fmt.Sprintf("read %d keys", s.Manifest.Content.Keys)) {
			t.Errorf("%s", res)
		}
		if after := labOutput(t, r.Lab, "master-3", left); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if m := readText(t, strings.TrimSuffix(s.File, ".db")+".json"); !strings.Contains(m, `"rehearsed"`) {
			t.Errorf("the manifest says nothing of it: %s", m)
		}
	})
	then(t, "one that lies on a host is fetched", func(t *testing.T) {
		labOutput(t, r.Lab, "master-1", `ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/pki/ca.crt --cert /etc/etcd/pki/server.crt --key /etc/etcd/pki/server.key snapshot save /root/by-hand.db 2>&1`)
		r.must(t, 0, "snapshot", "fetch", "master-1:/root/by-hand.db", "--dir", r.Path("snapshots"))
		if res := r.must(t, 0, "snapshot", "list", "--dir", r.Path("snapshots"), "-o", "json"); strings.Count(res.out, `.db","bytes"`) != 2 {
			t.Errorf("not two snapshots: %s", res)
		}
	})
}
