package ops

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hactl/internal/exitcode"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/pki"
	"hactl/pki/pkitest"
)

// withElsewhere is a session on a cluster whose etcd CA and front-proxy CA sign elsewhere.
// Its hosts fail the test when they are asked to change something.
func withElsewhere(t *testing.T) (*session, *pkitest.Elsewhere) {
	t.Helper()
	inv := inventorytest.Load(t, inventorytest.Text(3, 1, false))
	e := pkitest.NewElsewhere(t, filepath.Dir(inv.Path))
	ca := &inventory.CAFiles{Cert: e.File}
	inv.PKI.ExternalCA = inventory.ExternalCA{Etcd: ca, FrontProxy: ca}
	return untouched(t, inv), e
}

// untouched is a new run of hactl, whose hosts may not be asked for anything.
func untouched(t *testing.T, inv *inventory.Inventory) *session {
	t.Helper()
	s := &session{Console: quiet{}, inv: inv, hosts: plan.Hosts{}, identity: new(sync.Mutex)}
	for i := range inv.Hosts {
		s.hosts[inv.Hosts[i].Name] = remote.NewFake(inv.Hosts[i].Name, func(c remote.Call) (*remote.Result, error) {
			if c.Cmd.Title == "read the clock" {
				return &remote.Result{Stdout: []byte(systest.Clock(time.Now()))}, nil
			}
			t.Errorf("%s is asked: %s %s", inv.Hosts[i].Name, c.Kind, c.Cmd.Title)
			return nil, errors.New("not asked")
		})
	}
	var err error
	s.store, err = pki.Open(inv)
	must(t, err)
	return s
}

// up, certs renew and restore write what has to be signed elsewhere and end, before a host
// is asked for anything; a dry run and plan write nothing. With the signed certificates they
// go on. What still serves does not stop up or restore.
func TestOperationsWaitForSignaturesBeforeAnythingIsTouched(t *testing.T) {
	t.Parallel()
	s, e := withElsewhere(t)
	dir := RequestsDir(s.inv)
	refused := func(what string, err error, next string, files int) {
		t.Helper()
		if exitcode.Of(err) != exitcode.Unsafe || !strings.Contains(remote.HintOf(err), next) {
			t.Errorf("%s: exit %d: %v; hint %q", what, exitcode.Of(err), err, remote.HintOf(err))
		}
		found, _ := filepath.Glob(filepath.Join(dir, "*.csr"))
		if len(found) != files {
			t.Errorf("%s: %d requests", what, len(found))
		}
		must(t, os.RemoveAll(dir))
	}
	_, err := s.makePlan(t.Context(), nil)
	refused("plan", err, "nothing was written; hactl up writes the requests to "+dir, 0)
	if _, err := os.Stat(s.store.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("plan made a store: %v", err)
	}
	never := func(context.Context) error { t.Error("the run goes on"); return nil }
	_, err = s.makePlan(t.Context(), never)
	refused("up", err, "then: hactl up --certs FOLDER", 9)

	// They are signed.
	_, err = s.makePlan(t.Context(), never)
	if exitcode.Of(err) != exitcode.Unsafe {
		t.Fatal(err)
	}
	signed := filepath.Join(t.TempDir(), "signed")
	if n := e.Sign(t, dir, signed); n != 9 {
		t.Fatalf("%d requests", n)
	}
	must(t, os.RemoveAll(dir))
	s.store.SignedIn(signed)
	m, created, err := s.preview(t.Context(), signing{verb: "up"})
	must(t, err)
	if len(created) == 0 {
		t.Error("nothing was taken")
	}
	must(t, s.store.Keep(t.Context(), m))

	n := &renewal{RenewOptions: RenewOptions{Only: []string{"etcd"}}}
	s = untouched(t, s.inv)
	_, err = n.plan(t.Context(), s)
	refused("renew", err, "then: hactl certs renew --only etcd --certs FOLDER", 6)
	n = &renewal{RenewOptions: RenewOptions{All: true, Options: Options{DryRun: true}}}
	s = untouched(t, s.inv)
	_, err = n.plan(t.Context(), s)
	refused("renew --dry-run", err, "nothing was written; hactl certs renew --all writes", 0)
	if what, err := s.waiting(t.Context()); err != nil || len(what) != 9 || !strings.Contains(what[0], "etcd-server-master-1 (etcd-ca: is to be renewed)") {
		t.Errorf("%v: %v", what, err)
	}

	// An address changed: the member's pairs do not serve any more.
	s.inv.Hosts[0].PrivateAddress = netip.MustParseAddr("192.0.2.77")
	for _, c := range []struct {
		o    RestoreOptions
		next string
	}{{RestoreOptions{File: "x.db"}, "hactl restore x.db --certs FOLDER"}, {RestoreOptions{Survivor: true}, "hactl restore --survivor --certs FOLDER"}} {
		s = untouched(t, s.inv)
		_, err = (&restore{RestoreOptions: c.o}).fence(t.Context(), s)
		refused("restore", err, c.next, 2)
	}
	// A certificate that does not serve is refused by name.
	s.store.SignedIn(signed) // those of the former address
	other := pkitest.NewElsewhere(t, t.TempDir())
	s = untouched(t, s.inv)
	_, err = s.makePlan(t.Context(), never)
	if exitcode.Of(err) != exitcode.Unsafe {
		t.Fatal(err)
	}
	strange := filepath.Join(t.TempDir(), "strange")
	other.Sign(t, dir, strange)
	s.store.SignedIn(strange)
	_, err = s.makePlan(t.Context(), never)
	refused("a stranger's certificates", err, "nothing was changed", 2)
	if !strings.Contains(err.Error(), "etcd-server-master-1.crt: wrong-issuer: ") || !strings.Contains(err.Error(), "etcd-peer-master-1.crt: wrong-issuer: ") {
		t.Error(err)
	}
}
