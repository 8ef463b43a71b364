package ops

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"hactl/etcd"
	"hactl/internal/backup"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/pki"
)

// snapshotTimeout bounds a snapshot as a whole; one that brings nothing ends earlier.
const snapshotTimeout = 30 * time.Minute

// SnapshotOptions say where a snapshot goes and what goes with it.
type SnapshotOptions struct {
	Dir        string // "" is SnapshotDir
	WithStore  bool   // an encrypted copy of the PKI store and the inventory beside it
	Passphrase string // of that copy, where the inventory names no recipients
}

// SavedSnapshot is what SaveSnapshot wrote.
type SavedSnapshot struct {
	File     string           `json:"file"`
	Store    string           `json:"store,omitempty"` // the encrypted copy of the store
	Manifest *backup.Manifest `json:"manifest"`
	Took     float64          `json:"tookSeconds"`
}

// SnapshotDir is the folder of the cluster's snapshots, beside its inventory.
func SnapshotDir(inv *inventory.Inventory) string {
	return filepath.Join(filepath.Dir(inv.Path), "snapshots-"+inv.Cluster)
}

// SaveSnapshot writes a snapshot of etcd to this machine: from a healthy follower, or
// without a quorum from the member that is furthest. All of it is read and verified
// before it gets its name. Nothing is changed on a host.
func SaveSnapshot(ctx context.Context, r Request, o SnapshotOptions) (*SavedSnapshot, error) {
	var to []age.Recipient
	if o.WithStore { // before anything takes time
		var err error
		if to, err = backup.Recipients(r.Inv.Backup.Recipients, o.Passphrase); err != nil {
			return nil, err
		}
		if len(to) == 0 {
			return nil, remote.Hint(fmt.Errorf("a copy of the store has to be encrypted, and there is no key for it"),
				"name a public key of age under backup.recipients in %s, or set HACTL_BACKUP_PASSPHRASE", r.Inv.Path)
		}
	}
	dir := cmp.Or(o.Dir, SnapshotDir(r.Inv))
	if err := backup.Writable(dir); err != nil {
		return nil, onThisMachine(err, dir)
	}
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	out, err := s.saveSnapshot(ctx, dir)
	if err != nil || !o.WithStore {
		return out, err
	}
	name := strings.TrimSuffix(filepath.Base(out.File), ".db") + ".store.age"
	out.Store, err = backup.Write(dir, name, func(w io.Writer) error {
		return backup.Archive(w, to, s.store.Dir(), s.inv.Path)
	}, nil)
	if err != nil {
		return out, err
	}
	out.Manifest.Store = name
	return out, backup.WriteManifest(out.File, *out.Manifest)
}

// saveSnapshot takes a snapshot into dir, with its manifest.
func (s *session) saveSnapshot(ctx context.Context, dir string) (*SavedSnapshot, error) {
	ctx, cancel := wait.Within(ctx, "a snapshot", snapshotTimeout)
	defer cancel()
	members, err := (&cluster{session: s}).dialEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer members.Close()
	name, begin, err := snapshotName(ctx, dir, s.inv.Cluster)
	if err != nil {
		return nil, err
	}
	var taken *etcd.Snapshot
	versions := make(chan string, 1)
	go func() { versions <- s.runningKubernetes(ctx) }()
	m := s.manifest(begin)
	file, err := backup.Write(dir, name,
		func(w io.Writer) (err error) { taken, err = members.Snapshot(ctx, w); return err },
		func(path string) error {
			c, err := backup.Read(path)
			if err == nil {
				m.Content = *c
			}
			return err
		})
	if err != nil {
		return nil, onThisMachine(err, dir)
	}
	m.Member, m.Etcd, m.Quorum = taken.Member, taken.Version, taken.Quorum
	m.Kubernetes = <-versions
	m.ClusterID = strconv.FormatUint(taken.ClusterID, 16)
	if !taken.Quorum {
		s.Note("etcd has no quorum: the snapshot is what " + taken.Member + " has; writes that only other members have are not in it")
	}
	out := &SavedSnapshot{File: file, Manifest: m, Took: time.Since(begin).Seconds()}
	return out, backup.WriteManifest(file, *m)
}

// snapshotName is the name of a snapshot that is taken now, and when that is. Names have
// seconds: after another one of this second, such as that at the end of a restore, the
// next second is waited for.
func snapshotName(ctx context.Context, dir, cluster string) (name string, now time.Time, err error) {
	for {
		now = time.Now().UTC()
		name = cluster + "-" + now.Format("20060102T150405Z") + ".db"
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return name, now, nil
		}
		select {
		case <-ctx.Done():
			return "", now, ctx.Err()
		case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		}
	}
}

// runningKubernetes is the version that the connected hosts have recorded, "" when
// they could not say. A snapshot does not depend on it.
func (s *session) runningKubernetes(ctx context.Context) string {
	if err := s.gather(ctx); err != nil {
		return ""
	}
	running := s.running(0)
	return strings.Join(slices.Sorted(maps.Keys(running)), ", ")
}

// manifest tells the cluster and the person of a snapshot.
func (s *session) manifest(at time.Time) *backup.Manifest {
	id := s.material.Identity
	m := &backup.Manifest{Saved: at, Cluster: s.inv.Cluster, ID: id.ID, Generation: id.Generation, CAs: map[string]string{}}
	for _, ca := range []*pki.CA{s.material.EtcdCA, s.material.KubernetesCA, s.material.FrontProxyCA} {
		m.CAs[ca.Name] = sumOfCA(ca)
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	machine, _ := os.Hostname()
	m.SavedBy = name + "@" + machine
	return m
}

// sumOfCA is the SHA-256 of the CA's certificate, hex.
func sumOfCA(ca *pki.CA) string {
	block, _ := pem.Decode(ca.IssuerPEM())
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// FetchSnapshot brings a snapshot that lies on a host to this machine; path "" is the
// newest that the host's timer saved. All of it is read, and it has to be of this
// cluster. Its generation is not known: the manifest has none.
func FetchSnapshot(ctx context.Context, r Request, host, path, dir string) (*SavedSnapshot, error) {
	dir = cmp.Or(dir, SnapshotDir(r.Inv))
	if err := backup.Writable(dir); err != nil {
		return nil, onThisMachine(err, dir)
	}
	s, err := load(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.close()
	h := s.hosts[host]
	if h == nil {
		return nil, fmt.Errorf("%s: %w", host, s.down[host])
	}
	if path == "" {
		if path, err = newestOn(ctx, h); err != nil {
			return nil, err
		}
	}
	begin := time.Now()
	var got sys.File
	m := s.manifest(begin)
	m.Generation, m.SavedBy, m.CAs = 0, host+":"+path, nil
	name := strings.TrimSuffix(filepath.Base(path), ".db") + "-from-" + host + ".db"
	want := backup.Expected{CA: sumOfCA(s.material.KubernetesCA)}
	file, err := backup.Write(dir, name,
		func(w io.Writer) (err error) { got, err = remote.Get(ctx, h, path, w); return err },
		func(part string) error {
			c, _, err := verified(s.inv, part, want)
			if err == nil {
				m.Content = *c
			}
			return err
		})
	if err != nil {
		return nil, onThisMachine(err, dir)
	}
	m.Saved = got.Modified
	out := &SavedSnapshot{File: file, Manifest: m, Took: time.Since(begin).Seconds()}
	return out, backup.WriteManifest(file, *m)
}

// VerifySnapshot reads all of a snapshot and compares it with its manifest, with the
// store where there is one, and with the etcd of the inventory. The note says what
// could not be compared.
func VerifySnapshot(ctx context.Context, inv *inventory.Inventory, file string) (c *backup.Content, m *backup.Manifest, note string, err error) {
	want := backup.Expected{Etcd: inv.Versions.Etcd}
	store, err := pki.Open(inv)
	if err != nil {
		return nil, nil, "", err
	}
	if known, err := store.Load(ctx); err != nil {
		note = "not compared with a store: " + err.Error()
	} else {
		want.ID, want.Generation, want.CA = known.Identity.ID, known.Identity.Generation, sumOfCA(known.KubernetesCA)
	}
	c, m, err = verified(inv, file, want)
	return c, m, note, err
}
