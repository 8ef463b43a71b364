package pki

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hactl/internal/remote"
)

func TestTokenSaysTheGeneration(t *testing.T) {
	t.Parallel()
	id := Identity{ID: "prod-0123", Generation: 1}
	later := id
	later.Generation = 3
	if id.Token() != "prod-0123" || later.Token() != "prod-0123-r3" {
		t.Errorf("tokens %q and %q", id.Token(), later.Token())
	}
	for token, want := range map[string]int{
		"prod-0123": 1, "prod-0123-r2": 2, "prod-0123-r31": 31,
		"prod-0123-r1": 0, "prod-0123-r02": 0, "prod-0123-r": 0, "prod-01234": 0, "prod-0123-r2x": 0, "other": 0, "": 0,
	} {
		if got := id.GenerationOf(token); got != want {
			t.Errorf("%q is of generation %d, want %d", token, got, want)
		}
	}
}

func TestIdentityIsMadeOnceAndStays(t *testing.T) {
	t.Parallel()
	inv := testInventory(t)
	first, _ := kept(t, open(t, inv))
	second, _ := kept(t, open(t, inv))
	loaded, err := open(t, inv).Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first.Identity, second.Identity) || !reflect.DeepEqual(first.Identity, loaded.Identity) {
		t.Errorf("identities %+v, %+v, %+v", first.Identity, second.Identity, loaded.Identity)
	}
	if !strings.HasPrefix(first.Identity.ID, inv.Cluster+"-") || first.Identity.Generation != 1 || first.Identity.HadQuorum {
		t.Errorf("new identity %+v", first.Identity)
	}
	other, _ := kept(t, open(t, testInventory(t)))
	if other.Identity.ID == first.Identity.ID {
		t.Error("two stores have the same id")
	}
}

// An older hactl made the token from the CA: a cluster that has it keeps it.
func TestStoreOfAnOlderHactlAdoptsItsToken(t *testing.T) {
	t.Parallel()
	inv := testInventory(t)
	s := open(t, inv)
	m, _ := kept(t, s)
	if err := os.Remove(filepath.Join(s.Dir(), identityFile)); err != nil {
		t.Fatal(err)
	}
	want := inv.Cluster + "-" + strings.ToLower(strings.ReplaceAll(m.EtcdCA.Fingerprint(), ":", ""))[:12]
	loaded, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	previewed, created, err := s.Preview(context.Background())
	if err != nil || len(created) != 0 {
		t.Fatalf("preview made %q: %v", created, err)
	}
	if loaded.Identity.Token() != want || previewed.Identity.Token() != want {
		t.Errorf("tokens %q and %q, want %q", loaded.Identity.Token(), previewed.Identity.Token(), want)
	}
	id := previewed.Identity
	id.HadQuorum = true
	if err := s.Record(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	again, err := s.Load(context.Background())
	if err != nil || !reflect.DeepEqual(again.Identity, id) {
		t.Errorf("recorded %+v, read %+v: %v", id, again.Identity, err)
	}
}

func TestRecordRefusesAnotherLife(t *testing.T) {
	t.Parallel()
	s := open(t, testInventory(t))
	m, _ := kept(t, s)
	restored := m.Identity
	restored.Generation = 2
	if err := s.Record(context.Background(), restored); err != nil {
		t.Fatal(err)
	}
	foreign := restored
	foreign.ID = "foreign"
	for name, id := range map[string]Identity{"an older generation": m.Identity, "another cluster": foreign} {
		err := s.Record(context.Background(), id)
		var stale *StaleStoreError
		if !errors.As(err, &stale) || stale.ExitCode() != 7 || remote.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now, err := s.Load(context.Background()); err != nil || !reflect.DeepEqual(now.Identity, restored) {
		t.Errorf("store has %+v: %v", now.Identity, err)
	}
}

func TestUnreadableIdentityIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "half": `{"apiVersion":`, "of a later hactl": `{"apiVersion":"hactl/v9","cluster":"demo","id":"demo-1","generation":1}`,
		"without an id":      `{"apiVersion":"hactl/v1","cluster":"demo","generation":1}`,
		"generation 0":       `{"apiVersion":"hactl/v1","cluster":"demo","id":"demo-1"}`,
		"id with a new line": `{"apiVersion":"hactl/v1","cluster":"demo","id":"demo\n1","generation":1}`,
		"another cluster":    `{"apiVersion":"hactl/v1","cluster":"other","id":"demo-1","generation":1}`,
	} {
		inv := testInventory(t)
		s := open(t, inv)
		kept(t, s)
		text = strings.ReplaceAll(text, `"cluster":"demo"`, `"cluster":"`+inv.Cluster+`"`)
		if err := os.WriteFile(filepath.Join(s.Dir(), identityFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Preview(context.Background()); err == nil || !strings.Contains(err.Error(), identityFile) || remote.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A cluster that has run never gets new authorities.
func TestStoreThatLostItsAuthoritiesIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, testInventory(t))
	id := newIdentity(s.inv.Cluster)
	id.HadQuorum = true
	if err := s.Record(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Preview(context.Background()); err == nil || !strings.Contains(err.Error(), "has run") {
		t.Errorf("got %v", err)
	}
	id.HadQuorum = false
	if err := s.Record(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if m, _ := kept(t, s); !reflect.DeepEqual(m.Identity, id) {
		t.Errorf("an interrupted first run gave up its identity: %+v", m.Identity)
	}
}
