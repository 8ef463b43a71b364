package pki

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
)

func TestSecretsDoNotPrint(t *testing.T) {
	m, _ := kept(t, open(t, testInventory(t)))
	p := m.Operator()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %x %q %v %+v", p, p, p, p.KeyPEM, p.KeyPEM, p.KeyPEM, m.ServiceAccount, *m.EtcdCA) + string(text)
	for _, s := range m.Secrets() {
		if strings.Contains(all, string(s)) {
			t.Errorf("a secret of %d bytes was printed", len(s))
		}
	}
	// %v of a parsed key would show its numbers.
	for _, bad := range []string{"D:", "PRIVATE"} {
		if strings.Contains(all, bad) {
			t.Errorf("%q was printed", bad)
		}
	}
}

func TestSecretsCoverEveryKeyOfTheStore(t *testing.T) {
	s := open(t, testInventory(t))
	m, _ := kept(t, s)
	secrets := m.Secrets()
	redacted := func(text []byte) []byte {
		for _, s := range secrets {
			text = bytes.ReplaceAll(text, s, []byte("*"))
		}
		return text
	}
	keys := 0
	err := filepath.WalkDir(s.Dir(), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if e.Name() != keyFile {
			if !bytes.Equal(redacted(text), text) {
				t.Errorf("%s is public and was redacted", p)
			}
			return nil
		}
		keys++
		line := strings.Split(string(text), "\n")[1]
		for form, in := range map[string]string{
			"whole": string(text), "one line": "x " + line + " y", "kubeconfig": "client-key-data: " + base64.StdEncoding.EncodeToString(text),
		} {
			if out := redacted([]byte(in)); bytes.Contains(out, []byte(line[:20])) || bytes.Contains(out, []byte("LS0tLS1CRUdJTi")) {
				t.Errorf("%s: %s got through", p, form)
			}
		}
		return nil
	})
	if err != nil || keys != 4+2*3+3 {
		t.Errorf("%d keys, %v", keys, err)
	}
}

func TestReportListsTheNextToExpireFirst(t *testing.T) {
	s := open(t, testInventory(t))
	m, _ := kept(t, s)
	r := m.Report()
	if len(r) != 3+2*3+3 || r[0].Name != "admin" || r[0].CA || r[0].Days != 364 {
		t.Errorf("%+v", r)
	}
	last := r[len(r)-1]
	if !last.CA || last.Days < 3640 || !last.NotAfter.Equal(m.KubernetesCA.NotAfter()) {
		t.Errorf("%+v", last)
	}
	m.now = clock(366 * 24 * time.Hour)
	if r := m.Report(); r[0].Days != -2 {
		t.Errorf("a day past its end: %d days", r[0].Days)
	}
}

func TestForeignCAOnAHostIsNamed(t *testing.T) {
	s := open(t, testInventory(t))
	fresh, _ := kept(t, s)
	m, _ := kept(t, s)
	other, _ := kept(t, open(t, testInventory(t)))
	const host, path = "m1", "/etc/kubernetes/pki/ca.crt"
	for name, c := range map[string]struct {
		found   []byte
		known   *CA
		foreign string // what the store knows, "" when all is well
	}{
		"none there":             {nil, m.KubernetesCA, ""},
		"blank":                  {[]byte(" \n"), m.KubernetesCA, ""},
		"ours":                   {m.KubernetesCA.CertPEM, m.KubernetesCA, ""},
		"another":                {other.KubernetesCA.CertPEM, m.KubernetesCA, m.KubernetesCA.Fingerprint()},
		"some, ours brand new":   {other.KubernetesCA.CertPEM, fresh.KubernetesCA, "none"},
		"ours and more after it": {append(bytes.Clone(m.KubernetesCA.CertPEM), other.KubernetesCA.CertPEM...), m.KubernetesCA, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckHostCA(host, path, c.found, c.known)
			if c.foreign == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var f *ForeignCAError
			if !errors.As(err, &f) || f.Host != host || f.Path != path || f.Known != c.foreign || f.Found != Fingerprint(c.found) {
				t.Errorf("got %v", err)
			}
			if h := remote.HintOf(err); !strings.Contains(h, "pki.externalCA") || !strings.Contains(h, "backup") {
				t.Errorf("hint %q", h)
			}
		})
	}
	if err := CheckHostCA(host, path, []byte("garbage"), m.KubernetesCA); err == nil || remote.HintOf(err) == "" {
		t.Errorf("garbage: got %v", err)
	}
	if err := CheckHostServiceAccount(host, "sa.pub", m.ServiceAccount.PubPEM, m.ServiceAccount); err != nil {
		t.Error(err)
	}
	var f *ForeignCAError
	if err := CheckHostServiceAccount(host, "sa.pub", other.ServiceAccount.PubPEM, m.ServiceAccount); !errors.As(err, &f) {
		t.Errorf("another service-account key: got %v", err)
	}
}

func TestHashesAreThoseOfOpenSSLAndKubeadm(t *testing.T) {
	// A certificate made by openssl; the two values are the output of
	//   openssl x509 -fingerprint -sha256 -noout
	//   openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum
	cert, err := os.ReadFile("testdata/openssl.crt")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/openssl.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := Fingerprint(cert) + "\n" + CAHash(cert) + "\n"; got != string(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if Fingerprint([]byte("x")) != "" || CAHash(nil) != "" {
		t.Error("a hash of nothing")
	}
}

func TestTokensHaveKubeadmsShape(t *testing.T) {
	token := regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	key := regexp.MustCompile(`^[a-f0-9]{64}$`)
	seen := map[string]bool{}
	for range 1000 {
		a, b := BootstrapToken(), CertificateKey()
		if !token.MatchString(a) || !key.MatchString(b) || seen[a] || seen[b] {
			t.Fatalf("token %q, key %q", a, b)
		}
		seen[a], seen[b] = true, true
	}
}

func FuzzHostCertificate(f *testing.F) {
	certPEM, keyPEM, err := newCA("x", "etcd", "blue", "ecdsa-p256", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	ca, err := loadCA("x", certPEM, keyPEM, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add(certPEM)
	f.Add(append([]byte("text before\n"), certPEM...))
	f.Add(certPEM[:len(certPEM)/2])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(keyPEM))
	f.Fuzz(func(t *testing.T, text []byte) {
		err := CheckHostCA("m1", "/etc/etcd/ca.crt", text, ca)
		blank := len(bytes.TrimSpace(text)) == 0
		if err == nil && !blank && Fingerprint(text) != ca.Fingerprint() {
			t.Errorf("another CA passed: %q", text)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\r") {
			t.Errorf("control characters in %q", err)
		}
		_, _ = parseKey(text)
		_ = CheckHostServiceAccount("m1", "sa.pub", text, Key{PubPEM: certPEM})
	})
}
