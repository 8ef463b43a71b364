package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"filippo.io/age"

	"hactl/internal/backup/backuptest"
)

const caText = "the certificate of the CA"

func database(t *testing.T, version string) []byte {
	return backuptest.Database(t, version, []byte(caText))
}

func sealed(db []byte) []byte { return backuptest.Sealed(db) }

func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blue.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadSeesEveryKey(t *testing.T) {
	c, err := Read(file(t, sealed(database(t, "3.6.0"))))
	if err != nil {
		t.Fatal(err)
	}
	if c.Keys != 2 || c.Revisions != 4 || c.Revision != 5 || c.Minor != "3.6" || fmt.Sprint(c.Members) != "[m1]" || c.Objects["pods"] != 1 || c.Objects["configmaps"] != 1 {
		t.Errorf("%+v", c)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte(caText))); c.CA != want {
		t.Errorf("CA %s, want %s", c.CA, want)
	}
}

func TestVerifyNamesWhyAFileIsRefused(t *testing.T) {
	db := database(t, "3.6.0")
	flipped := bytes.Clone(db)
	flipped[len(flipped)/2] ^= 1
	// A value that makes no sense under a checksum that is right: what a member with a
	// damaged disk would give.
	broken := bytes.Clone(db)
	if i := bytes.Index(broken, []byte("\x0a\x18/registry/pods/default/b")); i < 0 {
		t.Fatal("the test looks for a value in the wrong form")
	} else {
		broken[i+1] = 0x7f
	}
	good := sealed(db)
	ours := Manifest{Cluster: "blue", ID: "blue-1", Generation: 1, Content: Content{Bytes: int64(len(good)), SHA256: fmt.Sprintf("%x", sha256.Sum256(good))}}
	other, later := ours, ours
	other.ID, later.Generation = "green-2", 3
	want := Expected{ID: "blue-1", Generation: 1, CA: fmt.Sprintf("%x", sha256.Sum256([]byte(caText))), Etcd: "v3.6.16"}
	foreignCA, newEtcd := want, want
	foreignCA.CA, newEtcd.Etcd = strings.Repeat("0", 64), "v3.7.3"
	for name, c := range map[string]struct {
		content  []byte
		manifest *Manifest
		want     Expected
		reason   Reason
	}{
		"in order":                  {good, &ours, want, ""},
		"in order, no manifest":     {good, nil, want, ""},
		"empty":                     {nil, nil, want, NotASnapshot},
		"text":                      {bytes.Repeat([]byte("text "), 5000), nil, want, NotASnapshot},
		"cut":                       {good[:len(good)/2], nil, want, Truncated},
		"its checksum is cut":       {good[:len(good)-1], nil, want, Truncated},
		"a member's own file":       {db, nil, want, Truncated},
		"cut, known by manifest":    {good[:len(good)-1024], &ours, want, Truncated},
		"a bit is wrong":            {append(flipped, good[len(db):]...), nil, want, Damaged},
		"a value is wrong":          {sealed(broken), nil, want, Damaged},
		"other than its manifest":   {sealed(database(t, "3.6.1")), &ours, want, Damaged},
		"of another id":             {good, &other, want, Foreign},
		"of another CA":             {good, nil, foreignCA, Foreign},
		"of another etcd":           {good, &ours, newEtcd, WrongMinor},
		"of a later life than ours": {good, &later, want, StaleStore},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.content)
			if c.manifest != nil {
				if err := WriteManifest(path, *c.manifest); err != nil {
					t.Fatal(err)
				}
			}
			_, _, err := Verify(path, c.want)
			if ReasonOf(err) != c.reason || (c.reason == "") != (err == nil) {
				t.Errorf("want %q, got %v", c.reason, err)
			}
		})
	}
}

// What fails on the way, or is found damaged, leaves nothing behind.
func TestWriteLeavesNoHalfFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshots")
	cut := errors.New("the stream was cut")
	half := func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return cut }
	whole := func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }
	for name, write := range map[string]func() (string, error){
		"cut":     func() (string, error) { return Write(dir, "a.db", half, nil) },
		"damaged": func() (string, error) { return Write(dir, "a.db", whole, func(string) error { return cut }) },
	} {
		if _, err := write(); !errors.Is(err, cut) {
			t.Errorf("%s: %v", name, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 0 {
			t.Errorf("%s left %v", name, files)
		}
	}
	path, err := Write(dir, "a.db", whole, func(part string) error {
		if _, err := os.Stat(filepath.Join(dir, "a.db")); err == nil {
			t.Error("the name is there before the check")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := Write(dir, "a.db", whole, nil); err == nil {
		t.Error("an older snapshot was replaced")
	}
}

func TestListShowsAFileWithoutAManifest(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b.db", "a.db", "c.db.part", "a.json"} {
		text := "x"
		if n == "a.json" {
			text = "{"
		}
		if err := os.WriteFile(filepath.Join(dir, n), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := List(dir)
	if err != nil || len(got) != 2 || filepath.Base(got[0].File) != "a.db" || !strings.Contains(got[0].Problem, "manifest") || got[1].Problem != "no manifest" {
		t.Errorf("%+v: %v", got, err)
	}
	if got, err := List(filepath.Join(dir, "none")); err != nil || got != nil {
		t.Errorf("%v: %v", got, err)
	}
}

// quick makes the work that a passphrase takes a 256th: outside of tests it is a second of the
// processor for each archive, and three with the race detector.
func quick(to []age.Recipient) []age.Recipient {
	for _, r := range to {
		if phrase, is := r.(*age.ScryptRecipient); is {
			phrase.SetWorkFactor(10)
		}
	}
	return to
}

func TestArchiveIsReadableByItsRecipientsOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki-blue")
	if err := os.MkdirAll(filepath.Join(dir, "admin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "admin", "key.pem"), []byte("very secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	phrase, err := age.NewScryptIdentity("a passphrase of some words")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := age.NewScryptIdentity("another passphrase")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys         []string
		phrase       string
		opens, fails age.Identity
	}{
		"a public key": {[]string{id.Recipient().String()}, "a passphrase of some words", id, phrase},
		"a passphrase": {nil, "a passphrase of some words", phrase, wrong},
	} {
		t.Run(name, func(t *testing.T) {
			to, err := Recipients(c.keys, c.phrase)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := Archive(&b, quick(to), dir); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b.Bytes(), []byte("very secret")) {
				t.Error("the archive is readable")
			}
			if _, err := age.Decrypt(bytes.NewReader(b.Bytes()), c.fails); err == nil {
				t.Error("it opens with another key")
			}
			names, err := unpack(b.Bytes(), c.opens)
			if err != nil || names["pki-blue/admin/key.pem"] != "very secret" {
				t.Errorf("%v: %v", names, err)
			}
		})
	}
	if to, err := Recipients(nil, ""); to != nil || err != nil {
		t.Errorf("no key at all: %v %v", to, err)
	}
}

func TestNewerListsWhatARestoreLoses(t *testing.T) {
	old, now := file(t, sealed(database(t, "3.6.0"))), filepath.Join(t.TempDir(), "now.db")
	db, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(now, db[:len(db)-trailerSize], 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bolt.Open(now, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bolt.Tx) error {
		for i, key := range []string{"/registry/pods/default/c", "/registry/leases/kube-system/x", "/registry/events/default/y"} {
			text, err := (&mvccpb.KeyValue{Key: []byte(key), Value: []byte("x")}).Marshal()
			if err != nil {
				return err
			}
			if err := tx.Bucket([]byte("key")).Put(backuptest.Revision(10+i), text); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := Newer(old, now)
	if err != nil || fmt.Sprint(got) != "[pods/default/c]" {
		t.Errorf("%q: %v", got, err)
	}
}

// A copy of a store is read as a whole by those who can decrypt it; everything else is refused
// by name, and no key shows.
func TestEncryptedCopyIsReadOrRefusedByName(t *testing.T) {
	root := t.TempDir()
	store, inv := filepath.Join(root, "pki-blue"), filepath.Join(root, "blue.yaml")
	for _, f := range []string{inv, filepath.Join(store, "authorities", "service-account", "key.pem")} {
		if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to, err := Recipients(nil, "a passphrase of some words")
	if err != nil {
		t.Fatal(err)
	}
	var whole, part bytes.Buffer
	if err := Archive(&whole, quick(to), store, inv); err != nil {
		t.Fatal(err)
	}
	if err := Archive(&part, to, inv); err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(whole.Bytes())
	broken[len(broken)-20] ^= 1
	for name, c := range map[string]struct {
		content []byte
		phrase  string
		reason  Reason
	}{
		"in order":         {whole.Bytes(), "a passphrase of some words", ""},
		"wrong passphrase": {whole.Bytes(), "another one", WrongKey},
		"a bit is wrong":   {broken, "a passphrase of some words", Damaged},
		"cut":              {whole.Bytes()[:whole.Len()/2], "a passphrase of some words", Damaged},
		"text":             {[]byte("hello"), "a passphrase of some words", Damaged},
		"without the keys": {part.Bytes(), "a passphrase of some words", Damaged},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.content)
			ids, err := Identities("", c.phrase)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadArchive(path, ids)
			if ReasonOf(err) != c.reason || (err == nil) != (c.reason == "") {
				t.Fatalf("want %q, got %v", c.reason, err)
			}
			if err == nil && (got.Store != "pki-blue" || got.Inventory != "blue.yaml" || got.Files != 2) {
				t.Errorf("%+v", got)
			}
		})
	}
	keys := file(t, []byte("very secret"))
	if _, err := Identities(keys, ""); err == nil || strings.Contains(err.Error(), "very secret") {
		t.Errorf("got %v", err)
	}
}
