package pki

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

func TestEveryCertificateVerifiesForItsPurpose(t *testing.T) {
	m, _ := kept(t, open(t, testInventory(t)))
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	server, err := m.EtcdServer("m2")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := m.EtcdPeer("m2")
	if err != nil {
		t.Fatal(err)
	}
	node, err := m.NodeServer("m2")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pair   Pair
		ca     *CA
		usages []x509.ExtKeyUsage
		names  []string
		cn     string
		orgs   []string
	}{
		{server, m.EtcdCA, both, []string{"m2", "localhost", "192.0.2.2", "127.0.0.1", "::1"}, "m2", nil},
		{peer, m.EtcdCA, both, []string{"m2", "localhost", "192.0.2.2", "127.0.0.1", "::1"}, "m2", nil},
		{node, m.KubernetesCA, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"m2", "localhost", "192.0.2.2", "127.0.0.1", "::1"}, "m2", nil},
		{m.EtcdClient(), m.EtcdCA, client, nil, "kube-apiserver-etcd-client", nil},
		{m.Operator(), m.EtcdCA, client, nil, "hactl", nil},
		{m.Admin(), m.KubernetesCA, client, nil, "hactl-admin", []string{"kubeadm:cluster-admins"}},
	} {
		t.Run(c.pair.Name, func(t *testing.T) {
			cert := leaf(t, c.pair)
			for _, usage := range c.usages {
				opts := x509.VerifyOptions{Roots: pool(c.ca.certs[0]), KeyUsages: []x509.ExtKeyUsage{usage}}
				if _, err := cert.Verify(opts); err != nil {
					t.Errorf("usage %v: %v", usage, err)
				}
			}
			if !slices.Equal(cert.ExtKeyUsage, c.usages) {
				t.Errorf("usages %v, want %v", cert.ExtKeyUsage, c.usages)
			}
			if !sameSet(sans(cert), c.names) {
				t.Errorf("names %v, want %v", sans(cert), c.names)
			}
			for _, name := range c.names {
				if err := cert.VerifyHostname(name); err != nil {
					t.Error(err)
				}
			}
			if cert.IsCA || cert.Subject.CommonName != c.cn || !slices.Equal(cert.Subject.Organization, c.orgs) {
				t.Errorf("subject %s, CA %v", cert.Subject, cert.IsCA)
			}
			if age := time.Since(cert.NotBefore); age < 4*time.Minute || age > 7*time.Minute {
				t.Errorf("starts %s ago, want five minutes", age)
			}
		})
	}
}

func TestLifetimesFollowTheInventory(t *testing.T) {
	inv := testInventory(t)
	inv.PKI.Expiry, inv.PKI.CAExpiry = 43800*time.Hour, 20000*time.Hour
	m, _ := kept(t, open(t, inv))
	if d := time.Until(m.EtcdCA.NotAfter()) - inv.PKI.CAExpiry; d.Abs() > 10*time.Minute {
		t.Errorf("CA ends %s off", d)
	}
	if end := leaf(t, m.Operator()).NotAfter; !end.Equal(m.EtcdCA.NotAfter()) {
		t.Errorf("certificate ends %s, its CA %s: must not outlive it", end, m.EtcdCA.NotAfter())
	}
	if d := time.Until(leaf(t, m.Admin()).NotAfter) - adminLifetime; d.Abs() > 10*time.Minute {
		t.Errorf("admin certificate ends %s off a year", d)
	}
}

func TestTwoClustersHaveDifferentCASubjects(t *testing.T) {
	blue := testInventory(t)
	green := testInventory(t)
	green.Cluster = "green"
	a, _ := kept(t, open(t, blue))
	b, _ := kept(t, open(t, green))
	for i, pair := range [][2]*CA{{a.EtcdCA, b.EtcdCA}, {a.KubernetesCA, b.KubernetesCA}, {a.FrontProxyCA, b.FrontProxyCA}} {
		if pair[0].certs[0].Subject.String() == pair[1].certs[0].Subject.String() {
			t.Errorf("CA %d: both have subject %s", i, pair[0].certs[0].Subject)
		}
	}
	if got := a.KubernetesCA.certs[0].Subject.CommonName; got != "kubernetes" {
		t.Errorf("Kubernetes CA is %q", got)
	}
}

func TestAlgorithms(t *testing.T) {
	for algorithm, bits := range map[string]int{"ecdsa-p256": 256, "rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			certPEM, keyPEM, err := newCA("x", "etcd", "blue", algorithm, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			ca, err := loadCA("x", certPEM, keyPEM, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			ca.algorithm, ca.now = algorithm, time.Now
			var got int
			switch pub := ca.certs[0].PublicKey.(type) {
			case *rsa.PublicKey:
				got = pub.N.BitLen()
			case *ecdsa.PublicKey:
				got = pub.Params().BitSize
			}
			if got != bits {
				t.Errorf("CA key has %d bits", got)
			}
			if algorithm == "rsa-4096" {
				return // more of these keys cost seconds
			}
			pair, err := ca.issue(request{name: "client", cn: "client", orgs: []string{"a", "b"}, profile: profileClient, lifetime: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			cert := leaf(t, pair)
			if _, err := cert.Verify(x509.VerifyOptions{Roots: pool(ca.certs[0]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			if !sameSet(cert.Subject.Organization, []string{"a", "b"}) {
				t.Errorf("groups %v", cert.Subject.Organization)
			}
		})
	}
	if _, _, err := newCA("x", "etcd", "blue", "dsa", time.Hour); err == nil {
		t.Error("unknown algorithm accepted")
	}
}

// handshake runs a real TLS handshake between a server with mutual
// authentication and a client, and returns what each made of it.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			err = conn.(*tls.Conn).Handshake()
			if err == nil {
				_, err = conn.Write([]byte("ok"))
			}
			_ = conn.Close()
		}
		done <- err
	}()
	conn, clientErr := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", ln.Addr().String(), client)
	if clientErr == nil {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		// In TLS 1.3 the client learns of a refusal with its first read.
		_, clientErr = io.ReadFull(conn, make([]byte, 2))
		_ = conn.Close()
	}
	return <-done, clientErr
}

func etcdLike(t *testing.T, m *Material) *tls.Config {
	t.Helper()
	server, err := m.EtcdServer("m1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(server.CertPEM, server.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(m.EtcdCA.certs...),
	}
}

func TestMutualTLSHandshake(t *testing.T) {
	m, _ := kept(t, open(t, testInventory(t)))
	other, _ := kept(t, open(t, testInventory(t)))
	config := func(m *Material) *tls.Config {
		c, err := m.TLSConfig()
		if err != nil {
			t.Fatal(err)
		}
		c.ServerName = "m1"
		return c
	}
	t.Run("ours", func(t *testing.T) {
		if s, c := handshake(t, etcdLike(t, m), config(m)); s != nil || c != nil {
			t.Errorf("server %v, client %v", s, c)
		}
	})
	t.Run("without client certificate", func(t *testing.T) {
		c := config(m)
		c.Certificates = nil
		if s, c := handshake(t, etcdLike(t, m), c); s == nil || c == nil {
			t.Errorf("server %v, client %v: want a refusal", s, c)
		}
	})
	t.Run("client of another cluster", func(t *testing.T) {
		c := config(m)
		c.Certificates = config(other).Certificates
		if s, c := handshake(t, etcdLike(t, m), c); s == nil || c == nil {
			t.Errorf("server %v, client %v: want a refusal", s, c)
		}
	})
	t.Run("server of another cluster", func(t *testing.T) {
		_, err := handshake(t, etcdLike(t, other), config(m))
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Errorf("got %v, want an unknown authority", err)
		}
	})
	t.Run("server under another name", func(t *testing.T) {
		c := config(m)
		c.ServerName = "m2"
		_, err := handshake(t, etcdLike(t, m), c)
		var name x509.HostnameError
		if !errors.As(err, &name) {
			t.Errorf("got %v, want a hostname error", err)
		}
	})
}
