package pki

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	if err != nil || keys != 4+3*3+3 {
		t.Errorf("%d keys, %v", keys, err)
	}
}

func TestReportListsTheNextToExpireFirst(t *testing.T) {
	s := open(t, testInventory(t))
	m, _ := kept(t, s)
	r := m.Report()
	if len(r) != 3+3*3+3 || r[0].Name != "admin" || r[0].CA || r[0].Days != 364 {
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
	certs, err := ParseCertificates(cert)
	if err != nil {
		t.Fatal(err)
	}
	if got := Fingerprint(cert) + "\n" + caHash(certs[0]) + "\n"; got != string(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if Fingerprint([]byte("x")) != "" {
		t.Error("a hash of nothing")
	}
}

func FuzzHostCertificate(f *testing.F) {
	certPEM, keyPEM, err := newCA("x", "etcd", "blue", "ecdsa-p256", time.Hour)
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
		certs, err := ParseCertificates(text)
		if err == nil && len(certs) == 0 {
			t.Error("no certificate and no error")
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\r") {
			t.Errorf("control characters in %q", err)
		}
		_, _ = parseKey(text)
	})
}
