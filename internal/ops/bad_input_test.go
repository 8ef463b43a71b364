package ops

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"hactl/internal/backup"
	"hactl/internal/backup/backuptest"
	"hactl/internal/exitcode"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki"
	"hactl/pki/pkitest"
)

// badInput is a cluster that has run. One thing about it is not as it has to be.
type badInput struct {
	t           *testing.T
	inv         *inventory.Inventory
	m           *pki.Material
	established string // what every master says of its member
	clock       time.Duration
	full        bool   // no room for a restore
	file        string // the snapshot

	mu     sync.Mutex // hosts are asked side by side
	looked []string
}

// looks are what a host may be asked before it is known that nothing is wrong: none of them
// changes something.
var looks = []string{"look for an etcd member", "look for a restore that is under way", "look for room", "read the clock"}

func newBadInput(t *testing.T) *badInput {
	t.Helper()
	inv := inventorytest.Load(t, inventorytest.Text(3, 0, false))
	store, err := pki.Open(inv)
	must(t, err)
	m := pkitest.Material(t, inv)
	m.Identity.HadQuorum = true
	must(t, store.Keep(t.Context(), m))
	b := &badInput{t: t, inv: inv, m: m, established: m.Identity.Token(), file: filepath.Join(t.TempDir(), "demo.db")}
	certs, err := pki.ParseCertificates(m.KubernetesCA.CertPEM)
	must(t, err)
	b.snapshot(backuptest.Sealed(backuptest.Database(t, "3.6.16", certs[0].Raw)))
	return b
}

func (b *badInput) snapshot(content []byte) { must(b.t, os.WriteFile(b.file, content, 0o600)) }

// session is a new run, on hosts whose members do not answer.
func (b *badInput) session() *session {
	s := untouched(b.t, b.inv)
	for i := range b.inv.Hosts {
		name := b.inv.Hosts[i].Name
		f := remote.NewFake(name, func(c remote.Call) (*remote.Result, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if c.Kind == "dial" {
				return nil, errors.New("connection refused")
			}
			if !slices.Contains(looks, c.Cmd.Title) {
				b.t.Errorf("%s is asked: %s %q", name, c.Kind, c.Cmd.Title)
			}
			b.looked = append(b.looked, c.Cmd.Title)
			switch c.Cmd.Title {
			case "read the clock":
				return &remote.Result{Stdout: []byte(systest.Clock(time.Now().Add(b.clock)))}, nil
			case "look for a restore that is under way":
				return &remote.Result{Stdout: []byte("none\n")}, nil
			case "look for an etcd member":
				return &remote.Result{Stdout: []byte("established " + b.established + "\nend\n")}, nil
			case "look for room":
				free := int64(1 << 40)
				if b.full {
					free = 1 << 20
				}
				return &remote.Result{Stdout: []byte(systest.Free(free))}, nil
			}
			return &remote.Result{}, nil
		})
		s.hosts[name] = f
	}
	return s
}

// restore is what a restore does before it stops something.
func (b *badInput) restore() error {
	_, err := (&restore{RestoreOptions: RestoreOptions{File: b.file}}).fence(b.t.Context(), b.session())
	return err
}

// sign is what every operation does that signs certificates.
func (b *badInput) sign() error {
	s := b.session()
	s.store.RenewAlso(func(string) bool { return true })
	_, _, err := s.preview(b.t.Context(), signing{verb: "certs renew"})
	return err
}

// save is a snapshot into a folder, which is looked at before a host is connected to.
func (b *badInput) save(dir string) error {
	_, err := SaveSnapshot(b.t.Context(), Request{Inv: b.inv, Console: quiet{}}, SnapshotOptions{Dir: dir})
	return err
}

// Whatever is wrong with what an operator hands over, it is named, with what to do, before
// anything is changed.
func TestBadInputIsNamedBeforeAnythingIsTouched(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		run  func(b *badInput) error
		code int
		says string
		hint string
	}{
		"no snapshot": {func(b *badInput) error { b.file += ".other"; return b.restore() }, exitcode.Error, "no such file", "hactl snapshot list"},
		"a folder":    {func(b *badInput) error { b.file = filepath.Dir(b.file); return b.restore() }, exitcode.Error, "is no file", "hactl snapshot list"},
		"a text file": {func(b *badInput) error { b.snapshot([]byte(strings.Repeat("text ", 5000))); return b.restore() }, exitcode.Unsafe, "(not-a-snapshot)", "hactl snapshot list"},
		"a snapshot that was cut": {func(b *badInput) error {
			text, err := os.ReadFile(b.file)
			must(b.t, err)
			b.snapshot(text[:len(text)/2])
			return b.restore()
		}, exitcode.Unsafe, "(truncated)", "hactl snapshot fetch"},
		"a foreign snapshot": {func(b *badInput) error {
			b.snapshot(backuptest.Sealed(backuptest.Database(b.t, "3.6.16", []byte("another CA"))))
			return b.restore()
		}, exitcode.Unsafe, "(foreign)", "the PKI store of the cluster that it is of"},
		"a snapshot of another etcd": {func(b *badInput) error {
			certs, err := pki.ParseCertificates(b.m.KubernetesCA.CertPEM)
			must(b.t, err)
			b.snapshot(backuptest.Sealed(backuptest.Database(b.t, "3.4.1", certs[0].Raw)))
			return b.restore()
		}, exitcode.Unsafe, "(wrong-minor)", "write the versions"},
		"a snapshot of a later generation": {func(b *badInput) error {
			c, err := backup.Read(b.file)
			must(b.t, err)
			must(b.t, backup.WriteManifest(b.file, backup.Manifest{ID: b.m.Identity.ID, Generation: 2, Content: *c}))
			return b.restore()
		}, exitcode.Unsafe, "(stale-store)", "the store of the operator who restored"},
		"a store of another name": {func(b *badInput) error { b.inv.Cluster = "other"; return b.restore() }, exitcode.Error, `belongs to cluster "demo", not to "other"`, "pki.store"},
		"hosts of another cluster": {func(b *badInput) error { b.established = "other-1234"; return b.restore() }, exitcode.Unsafe,
			`holds a member of cluster "other-1234"`, "restore the PKI store of that cluster"},
		"an old copy of the store": {func(b *badInput) error { b.established = b.m.Identity.ID + "-r3"; return b.restore() }, exitcode.Unsafe,
			"it is an old copy", "the store of the operator who restored"},
		"no store": {func(b *badInput) error { must(b.t, os.RemoveAll(b.session().store.Dir())); return b.restore() }, exitcode.Error, "no such file", "hactl up"},
		"no room on a master": {func(b *badInput) error { b.full = true; return b.restore() }, exitcode.Unsafe, "1 MB are free at /, and the restore takes",
			"nothing was changed; make room"},
		"the clock here is behind": {func(b *badInput) error { b.clock = 48 * time.Hour; return b.sign() }, exitcode.Unsafe,
			"behind master-1", "nothing was changed; set the clock"},
		"the clock here is ahead, and no pair of the store is due": {func(b *badInput) error {
			b.clock = -48 * time.Hour
			_, err := (&renewal{}).plan(b.t.Context(), b.session())
			return err
		}, exitcode.Unsafe, "ahead of master-1", "nothing was changed; set the clock"},
		"a host's clock jumped":   {func(b *badInput) error { b.clock = -time.Hour; return b.sign() }, exitcode.Unsafe, "ahead of master-1", "set the clock"},
		"no folder for snapshots": {func(b *badInput) error { return b.save(b.file) }, exitcode.Error, "not a directory", "no host was changed; give this user a folder"},
		"no key for the copy of the store": {func(b *badInput) error {
			_, err := SaveSnapshot(b.t.Context(), Request{Inv: b.inv, Console: quiet{}}, SnapshotOptions{WithStore: true})
			return err
		}, exitcode.Error, "there is no key for it", "HACTL_BACKUP_PASSPHRASE"},
		"a wrong passphrase": {func(b *badInput) error {
			_, err := VerifyStore(b.inv, b.archive("the right one"), "", "a wrong one")
			return err
		}, exitcode.Unsafe, "(wrong-key)", "HACTL_BACKUP_PASSPHRASE"},
		"no passphrase": {func(b *badInput) error {
			_, err := VerifyStore(b.inv, b.archive("the right one"), "", "")
			return err
		}, exitcode.Error, "neither a key nor a passphrase", "--identity"},
		"no room here": {func(b *badInput) error {
			return onThisMachine(fmt.Errorf("write snapshot: %w", syscall.ENOSPC), "/backup")
		}, exitcode.Error,
			"no space left", "make room for /backup"},
		"no permission here": {func(b *badInput) error {
			return onThisMachine(fmt.Errorf("write snapshot: %w", syscall.EACCES), "/backup")
		}, exitcode.Error,
			"permission denied", "give this user a folder /backup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBadInput(t)
			err := c.run(b)
			if err == nil || exitcode.Of(err) != c.code || !strings.Contains(err.Error(), c.says) || !strings.Contains(remote.HintOf(err), c.hint) {
				t.Errorf("exit %d: %v; hint %q", exitcode.Of(err), err, remote.HintOf(err))
			}
		})
	}
}

// The test's cluster is one that a restore is begun of: what is refused above is refused for the
// one thing that is wrong.
func TestGoodInputIsNotRefused(t *testing.T) {
	t.Parallel()
	b := newBadInput(t)
	s := b.session()
	s.material = b.m
	x := &restore{RestoreOptions: RestoreOptions{File: b.file}}
	must(t, x.choose(s, nil))
	must(t, x.plan.Room(t.Context(), s.hosts))
	must(t, b.sign())
	must(t, backup.Writable(filepath.Join(t.TempDir(), "new")))
	if _, err := VerifyStore(b.inv, b.archive("the right one"), "", "the right one"); err != nil {
		t.Error(err)
	}
}

// archive is an encrypted copy of the store.
func (b *badInput) archive(phrase string) string {
	to, err := age.NewScryptRecipient(phrase)
	must(b.t, err)
	to.SetWorkFactor(10) // a test need not be safe
	path := filepath.Join(b.t.TempDir(), "demo.store.age")
	f, err := os.Create(path)
	must(b.t, err)
	s, err := pki.Open(b.inv)
	must(b.t, err)
	must(b.t, backup.Archive(f, []age.Recipient{to}, s.Dir(), b.inv.Path))
	must(b.t, f.Close())
	return path
}
