//go:build e2e

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/pki/pkitest"
)

// TestOneMasterWhoseAuthorityIsElsewhere brings a single master up with an authority of etcd and of
// the front proxy whose key hactl never sees. Then it renews every certificate, and restores
// a snapshot; each of them waits first for what has to be signed.
func TestOneMasterWhoseAuthorityIsElsewhere(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("elsewhere"), Masters: 1, Workers: 1})
	company := pkitest.NewElsewhere(t, r.Path("."))
	r.inventory(t, "inventory.yaml", func(s string) string {
		ca := "{cert: " + filepath.Base(company.File) + "}"
		return strings.Replace(s, "hosts:\n", "pki:\n  externalCA:\n    etcd: "+ca+"\n    frontProxy: "+ca+"\nhosts:\n", 1)
	})
	requests := r.Path("requests-" + r.Name())
	// waits runs a command that has to end with requests, and has these signed.
	waits := func(t *testing.T, n int, args ...string) (signed string) {
		t.Helper()
		if res := r.must(t, 7, args...); !strings.Contains(res.err, "--certs FOLDER") || !strings.Contains(res.err, requests) {
			t.Errorf("%s", res)
		}
		signed = filepath.Join(t.TempDir(), "signed")
		if got := company.Sign(t, requests, signed); got != n {
			t.Errorf("hactl %s: %d requests, want %d", strings.Join(args, " "), got, n)
		}
		if err := os.RemoveAll(requests); err != nil {
			t.Fatal(err)
		}
		return signed
	}
	const pairs = 5 // of the member two, of its clients two, of the front proxy
	then(t, "up waits, and touches nothing", func(t *testing.T) {
		before := r.touched(t, "master-1") + r.touched(t, "worker-1")
		if res := r.must(t, 7, "plan"); !strings.Contains(res.err, "nothing was written") {
			t.Errorf("%s", res)
		}
		signed := waits(t, pairs, "up", "--yes")
		stranger := filepath.Join(signed, "etcd-peer-master-1.crt")
		good := readText(t, stranger)
		if err := os.WriteFile(stranger, []byte(readText(t, company.File)), 0o600); err != nil {
			t.Fatal(err)
		}
		if res := r.must(t, 7, "up", "--yes", "--certs", signed); !strings.Contains(res.err, stranger+": wrong-key: ") {
			t.Errorf("%s", res)
		}
		if r.touched(t, "master-1")+r.touched(t, "worker-1") != before {
			t.Error("a host was touched")
		}
		if err := os.WriteFile(stranger, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		r.must(t, 0, "up", "--yes", "--certs", signed)
		r.nodesReady(t, 2)
		r.inSync(t)
		r.must(t, 0, "certs")
	})
	then(t, "every certificate is renewed without a restart", func(t *testing.T) {
		before, processes := r.must(t, 0, "certs", "-o", "json").certs(t).serials(), r.restarts(t)
		signed := waits(t, pairs, "certs", "renew", "--all", "--yes")
		took(t, "certs renew --all of one master, signed elsewhere", r.measured(t, "certs", "renew", "--all", "--certs", signed).took)
		if now := r.restarts(t); !maps.Equal(processes, now) {
			t.Errorf("before %v\nafter %v", processes, now)
		}
		after := r.must(t, 0, "certs", "-o", "json").certs(t).serials()
		for place, serial := range before {
			if strings.Contains(place, "kubelet-client-") || strings.HasSuffix(place, ".kube/config") {
				continue // another file by now
			}
			if after[place] == serial || after[place] == "" {
				t.Errorf("%s: serial %s, was %s", place, after[place], serial)
			}
		}
		r.inSync(t)
	})
	then(t, "a restore waits before anything stops, and goes on", func(t *testing.T) {
		r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
		file := r.saved(t)
		r.kubectlDoes(t, "create", "configmap", "newer")
		if err := os.RemoveAll(r.Path("pki-"+r.Name(), "etcd-peer-master-1")); err != nil {
			t.Fatal(err)
		}
		processes := r.restarts(t)
		signed := waits(t, 1, "restore", file, "--yes-restore", r.Name())
		if now := r.restarts(t); !maps.Equal(processes, now) {
			t.Errorf("a process was stopped: before %v\nafter %v", processes, now)
		}
		took(t, "restore of one master", r.must(t, 0, "restore", file, "--yes-restore", r.Name(), "--certs", signed).took)
		if got := r.objects(t); strings.Contains(got, "/newer") || !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
		r.nodesReady(t, 2)
		r.inSync(t)
		r.must(t, 0, "certs")
	})
}

// TestOneMasterIsRenewedAndRestoredByOtherLogins has IPv6 addresses only. It renews every
// certificate as a user with sudo, and restores a snapshot through a bastion.
func TestOneMasterIsRenewedAndRestoredByOtherLogins(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("logins"), Masters: 1, IPv6: true, Bastion: true})
	r.inventory(t, "inventory-sudo.yaml", unchanged)
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 1)
	then(t, "renew as a user with sudo", func(t *testing.T) {
		processes := r.restarts(t)
		r.measured(t, "certs", "renew", "--all")
		if now := r.restarts(t); !maps.Equal(processes, now) {
			t.Errorf("before %v\nafter %v", processes, now)
		}
		r.must(t, 0, "certs")
	})
	then(t, "restore through a bastion", func(t *testing.T) {
		r.inventory(t, "inventory-bastion.yaml", unchanged)
		r.kubectlDoes(t, "create", "configmap", "kept", "--from-literal=written=before")
		file := r.saved(t)
		r.kubectlDoes(t, "create", "configmap", "newer")
		took(t, "restore of one master through a bastion", r.must(t, 0, "restore", file, "--yes-restore", r.Name()).took)
		if got := r.objects(t); strings.Contains(got, "/newer") || !strings.Contains(got, "/kept") {
			t.Errorf("objects: %s", got)
		}
		r.nodesReady(t, 1)
		r.inSync(t)
	})
	then(t, "no secret in anything that a run wrote", r.noSecretsInRuns)
}
