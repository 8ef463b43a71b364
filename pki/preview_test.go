package pki

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/inventory"
)

func TestSecondRunMakesNothing(t *testing.T) {
	inv := testInventory(t)
	first, created := kept(t, open(t, inv))
	if want := 3 + 1 + 3*3 + 3; len(created) != want {
		t.Errorf("first run made %d things, want %d: %q", len(created), want, created)
	}
	if !first.EtcdCA.New || !first.ServiceAccount.New {
		t.Error("first run does not call its CAs new")
	}
	second, created := kept(t, open(t, inv))
	if len(created) != 0 {
		t.Errorf("second run made %q", created)
	}
	if fingerprints(first) != fingerprints(second) || string(first.Operator().KeyPEM) != string(second.Operator().KeyPEM) {
		t.Error("second run returns other material")
	}
	if second.EtcdCA.New || second.ServiceAccount.New {
		t.Error("second run calls its CAs new")
	}
	loaded, err := open(t, inv).Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if fingerprints(loaded) != fingerprints(first) || string(loaded.Admin().CertPEM) != string(first.Admin().CertPEM) {
		t.Error("load returns other material")
	}
}

func TestPreviewWritesNothing(t *testing.T) {
	inv := testInventory(t)
	s := open(t, inv)
	m, created, err := s.Preview(context.Background())
	if err != nil || len(created) != 16 || !m.EtcdCA.New {
		t.Fatalf("preview of an empty store: %q, %v", created, err)
	}
	if _, err := os.Lstat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("preview made the store: %v", err)
	}
	made, _ := kept(t, s)
	inv.Hosts[0].PrivateAddress = netip.MustParseAddr("192.0.2.99")
	before := snapshot(t, s.Dir())
	m, created, err = s.Preview(context.Background())
	if err != nil || len(created) != 3 || fingerprints(m) != fingerprints(made) {
		t.Errorf("preview of a changed host: %q, %v", created, err)
	}
	if !slices.Equal(before, snapshot(t, s.Dir())) {
		t.Error("preview changed the store")
	}
}

// snapshot lists the files of a folder with their content.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		out = append(out, p+"\n"+string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCertificatesAreIssuedAgainForAReason(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		change func(t *testing.T, s *Store)
		want   []string // created, by prefix
	}{
		"address of a host changed": {
			func(_ *testing.T, s *Store) { s.inv.Hosts[1].PrivateAddress = netip.MustParseAddr("192.0.2.77") },
			[]string{"etcd-server-m2: was for m2 localhost 192.0.2.2", "etcd-peer-m2: was for", "node-server-m2: was for"},
		},
		"a master more": {
			func(_ *testing.T, s *Store) {
				s.inv.Hosts = append(s.inv.Hosts, inventory.Host{Name: "m4", Role: inventory.ControlPlane, Address: "192.0.2.4"})
			},
			[]string{"etcd-server-m4: new", "etcd-peer-m4: new", "node-server-m4: new"},
		},
		"a worker more": {
			func(_ *testing.T, s *Store) {
				s.inv.Hosts = append(s.inv.Hosts, inventory.Host{Name: "w1", Role: inventory.Worker, Address: "192.0.2.5"})
			},
			[]string{"node-server-w1: new"},
		},
		"certificate gone": {
			func(t *testing.T, s *Store) { removeFile(t, s, "etcd-client-apiserver", certFile) },
			[]string{"etcd-client-apiserver: certificate was missing"},
		},
		"key gone": {
			func(t *testing.T, s *Store) { removeFile(t, s, "etcd-client-hactl", keyFile) },
			[]string{"etcd-client-hactl: key was missing"},
		},
		"key of another certificate": {
			func(t *testing.T, s *Store) { copyFile(t, s, "admin/key.pem", "etcd-client-hactl/key.pem") },
			[]string{"etcd-client-hactl: key did not belong"},
		},
		"certificate of another CA": {
			func(t *testing.T, s *Store) {
				copyFile(t, s, "admin/cert.pem", "etcd-client-hactl/cert.pem")
				copyFile(t, s, "admin/key.pem", "etcd-client-hactl/key.pem")
			},
			[]string{"etcd-client-hactl: was signed by another CA"},
		},
		"certificate of another user": {
			func(t *testing.T, s *Store) {
				copyFile(t, s, "etcd-client-hactl/cert.pem", "etcd-client-apiserver/cert.pem")
				copyFile(t, s, "etcd-client-hactl/key.pem", "etcd-client-apiserver/key.pem")
			},
			[]string{"etcd-client-apiserver: was for CN=hactl"},
		},
		"garbage": {
			func(t *testing.T, s *Store) { writeFile(t, s, "admin/cert.pem", "garbage") },
			[]string{"admin: certificate was unreadable"},
		},
		"31 days left": {
			func(_ *testing.T, s *Store) { s.now = clock(365*day - 31*day) }, nil,
		},
		"29 days left": {
			func(_ *testing.T, s *Store) { s.now = clock(365*day - 29*day) },
			[]string{"admin: expires in 28 days"},
		},
		"all expired": {
			func(_ *testing.T, s *Store) { s.now = clock(43801 * time.Hour) },
			[]string{"etcd-server-m1: expired on", "etcd-peer-m1", "node-server-m1", "etcd-server-m2", "etcd-peer-m2", "node-server-m2", "etcd-server-m3", "etcd-peer-m3", "node-server-m3",
				"etcd-client-apiserver", "etcd-client-hactl", "admin"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, testInventory(t))
			before, _ := kept(t, s)
			c.change(t, s)
			after, created := kept(t, s)
			if fingerprints(before) != fingerprints(after) {
				t.Error("a CA or the service-account key changed")
			}
			if len(created) != len(c.want) {
				t.Fatalf("made %q, want %q", created, c.want)
			}
			for i := range created {
				if !strings.HasPrefix(created[i], c.want[i]) {
					t.Errorf("made %q, want %q", created[i], c.want[i])
				}
			}
			for name, p := range after.pairs {
				leaf(t, p)
				if i := slices.IndexFunc(created, func(s string) bool { return strings.HasPrefix(s, name+":") }); i >= 0 {
					old := before.pairs[name]
					keeps := strings.Contains(created[i], ": expire") || strings.Contains(created[i], ", now ")
					if got := string(old.KeyPEM) == string(p.KeyPEM); got != keeps || string(old.CertPEM) == string(p.CertPEM) {
						t.Errorf("%s: its key stayed: %v, want %v", created[i], got, keeps)
					}
				} else if old := before.pairs[name]; string(old.CertPEM) != string(p.CertPEM) {
					t.Errorf("%s changed without a reason given", name)
				}
			}
			if _, created := kept(t, s); len(created) != 0 {
				t.Errorf("the run after that made %q", created)
			}
		})
	}
}

func TestCertificateBoundByItsCAIsNotRenewedForEver(t *testing.T) {
	inv := testInventory(t)
	inv.PKI.CAExpiry = 40 * 24 * time.Hour
	s := open(t, inv)
	kept(t, s)
	s.now = clock(20 * 24 * time.Hour)
	m, created := kept(t, s)
	if len(created) != 0 {
		t.Errorf("made %q though nothing can outlive the CA", created)
	}
	if r := m.Report(); r[0].Days != 19 {
		t.Errorf("report says %d days, want 19", r[0].Days)
	}
}

func clock(ahead time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(ahead) }
}

func removeFile(t *testing.T, s *Store, parts ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(append([]string{s.Dir()}, parts...)...)); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, s *Store, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir(), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, s *Store, from, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir(), from))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s, to, string(text))
}

func TestDamagedAuthoritiesAreNeverMadeAgain(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *Store){
		"CA key gone":         func(t *testing.T, s *Store) { removeFile(t, s, authorities, nameEtcdCA, keyFile) },
		"CA certificate gone": func(t *testing.T, s *Store) { removeFile(t, s, authorities, nameKubernetesCA, certFile) },
		"service key gone":    func(t *testing.T, s *Store) { removeFile(t, s, authorities, nameServiceAccount, keyFile) },
		"CA gone": func(t *testing.T, s *Store) {
			if err := os.RemoveAll(filepath.Join(s.Dir(), authorities, nameFrontProxyCA)); err != nil {
				t.Fatal(err)
			}
		},
		"all gone": func(t *testing.T, s *Store) {
			if err := os.RemoveAll(filepath.Join(s.Dir(), authorities)); err != nil {
				t.Fatal(err)
			}
		},
		"CA key of another CA": func(t *testing.T, s *Store) {
			copyFile(t, s, "authorities/etcd-ca/key.pem", "authorities/kubernetes-ca/key.pem")
		},
		"service public key of another": func(t *testing.T, s *Store) {
			writeFile(t, s, "authorities/service-account/pub.pem", "-----BEGIN PUBLIC KEY-----")
		},
		"CA is a leaf": func(t *testing.T, s *Store) {
			copyFile(t, s, "admin/key.pem", "authorities/kubernetes-ca/key.pem")
			copyFile(t, s, "admin/cert.pem", "authorities/kubernetes-ca/cert.pem")
		},
		"CA expired": func(_ *testing.T, s *Store) { s.now = clock(87601 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, testInventory(t))
			kept(t, s)
			damage(t, s)
			before := snapshot(t, s.Dir())
			for verb, run := range map[string]func() error{
				"keep": func() error { _, _, err := keep(s); return err },
				"load": func() error { _, err := s.Load(context.Background()); return err },
			} {
				err := run()
				if err == nil || !strings.Contains(remote.HintOf(err), "backup") {
					t.Errorf("%s: got %v with hint %q", verb, err, remote.HintOf(err))
				}
			}
			if !slices.Equal(before, snapshot(t, s.Dir())) {
				t.Error("the refused run changed the store")
			}
		})
	}
}

func TestStoreOfAnotherClusterIsRefused(t *testing.T) {
	inv := testInventory(t)
	inv.PKI.Store = filepath.Join(filepath.Dir(inv.Path), "shared")
	kept(t, open(t, inv))
	inv.Cluster = "green"
	if _, _, err := keep(open(t, inv)); err == nil || !strings.Contains(err.Error(), `belongs to cluster "blue"`) {
		t.Errorf("got %v", err)
	}
}

func TestLoadOfAMissingStoreSaysWhatToDo(t *testing.T) {
	_, err := open(t, testInventory(t)).Load(context.Background())
	if !strings.Contains(remote.HintOf(err), "hactl up") {
		t.Errorf("got %v with hint %q", err, remote.HintOf(err))
	}
}

func TestLoadReadsAStoreFromBeforeNodesHadPairs(t *testing.T) {
	s := open(t, testInventory(t))
	kept(t, s)
	if err := os.RemoveAll(filepath.Join(s.Dir(), nameNodeServer+"m2")); err != nil {
		t.Fatal(err)
	}
	m, err := s.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.NodeServer("m2"); err == nil {
		t.Error("a pair that is not there was returned")
	}
	removeFile(t, s, nameNodeServer+"m1", keyFile)
	if _, err := s.Load(context.Background()); err == nil {
		t.Error("half a pair was taken for none")
	}
}

func TestKeepSavesWhatThePreviewMade(t *testing.T) {
	inv := testInventory(t)
	s := open(t, inv)
	m, created, err := s.Preview(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	late, _, err := s.Preview(context.Background()) // of a run that looked at the same time
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(context.Background(), m); err != nil {
		t.Errorf("the second time there is nothing to do: %v", err)
	}
	now, again := kept(t, s)
	if len(created) == 0 || len(again) != 0 || fingerprints(now) != fingerprints(m) || string(now.Operator().KeyPEM) != string(m.Operator().KeyPEM) {
		t.Errorf("previewed %q, then made %q", created, again)
	}
	before := snapshot(t, s.Dir())
	if err := s.Keep(context.Background(), late); err == nil || remote.HintOf(err) == "" {
		t.Errorf("other CAs were taken: %v", err)
	}
	if !slices.Equal(before, snapshot(t, s.Dir())) {
		t.Error("the refused ones changed the store")
	}
}

func TestPairsAreRenewedWhenAskedFor(t *testing.T) {
	s := open(t, testInventory(t))
	before, _ := kept(t, s)
	s.RenewAlso(func(name string) bool { return strings.HasPrefix(name, "etcd-peer-") })
	after, created := kept(t, s)
	if len(created) != 3 {
		t.Fatalf("made %q", created)
	}
	old, now := before.pairs["etcd-peer-m1"], after.pairs["etcd-peer-m1"]
	if string(old.KeyPEM) != string(now.KeyPEM) || string(old.CertPEM) == string(now.CertPEM) {
		t.Error("the pair is not a new certificate for the same key")
	}
	leaf(t, now)
}

// What hosts have and the store does not is signed again as it was, with another key.
func TestCertificateLikeAnother(t *testing.T) {
	s := open(t, testInventory(t))
	m, _ := kept(t, s)
	for _, name := range []string{"node-server-m1", "admin"} {
		old, err := ParseCertificates(m.pairs[name].CertPEM)
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.KubernetesCA.Like(name, old[0], 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert := leaf(t, p)
		if cert.Subject.String() != old[0].Subject.String() || !slices.Equal(sans(cert), sans(old[0])) || !slices.Equal(cert.ExtKeyUsage, old[0].ExtKeyUsage) {
			t.Errorf("%s: %s %v %v", name, cert.Subject, sans(cert), cert.ExtKeyUsage)
		}
		if string(p.KeyPEM) == string(m.pairs[name].KeyPEM) || cert.SerialNumber.Cmp(old[0].SerialNumber) == 0 {
			t.Errorf("%s is the old one", name)
		}
		if left := time.Until(cert.NotAfter); left > 24*time.Hour {
			t.Errorf("%s lives for %s", name, left)
		}
	}
}
