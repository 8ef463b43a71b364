package expiry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, cn string, left time.Duration) authority {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return authority{sign(t, c, c, key, key, now.Add(-day), now.Add(left)), key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, parent *x509.Certificate, key, by *ecdsa.PrivateKey, from, to time.Time) *x509.Certificate {
	t.Helper()
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<60))
	c.NotBefore, c.NotAfter = from, to
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a authority) leaf(t *testing.T, key *ecdsa.PrivateKey, from, to time.Time) *x509.Certificate {
	t.Helper()
	return sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}}, a.cert, key, a.key, from, to)
}

func TestEachFindingIsNamed(t *testing.T) {
	ca, stranger, short := newAuthority(t, "ours", 3000*day), newAuthority(t, "theirs", 3000*day), newAuthority(t, "short", 90*day)
	key := newKey(t)
	good := ca.leaf(t, key, now.Add(-day), now.Add(200*day))
	renewed := ca.leaf(t, key, now.Add(-time.Hour), now.Add(400*day))
	public := base64.StdEncoding.EncodeToString(good.RawSubjectPublicKeyInfo)
	const file, port = "/etc/kubernetes/pki/apiserver.crt", "192.0.2.1:6443"
	disk := func(what string, c *x509.Certificate) Sighting {
		return Sighting{Place: Disk, Host: "m1", What: what, Cert: c}
	}
	one := func(c *x509.Certificate) Evidence { return Evidence{Seen: []Sighting{disk(file, c)}} }
	for name, c := range map[string]struct {
		e    Evidence
		want []Kind
	}{
		"nothing":                         {one(good), nil},
		"due":                             {one(ca.leaf(t, key, now.Add(-day), now.Add(29*day))), []Kind{Due}},
		"expired":                         {one(ca.leaf(t, key, now.Add(-2*day), now.Add(-day))), []Kind{Expired}},
		"from tomorrow":                   {one(ca.leaf(t, key, now.Add(day), now.Add(200*day))), []Kind{NotYet}},
		"the clock of the host is behind": {Evidence{Seen: []Sighting{disk(file, good)}, Clocks: map[string]time.Duration{"m1": -2 * day}}, []Kind{NotYet}},
		"of a foreign CA":                 {one(stranger.leaf(t, key, now.Add(-day), now.Add(200*day))), []Kind{Untrusted}},
		"a foreign CA in cluster-info":    {Evidence{Seen: []Sighting{{Place: API, What: "configmap kube-public/cluster-info", Cert: stranger.cert}}}, []Kind{Untrusted}},
		"a webhook's own CA":              {Evidence{Seen: []Sighting{{Place: API, What: "webhook", Cert: stranger.cert, Others: true}}}, nil},
		"a CA that ends soon":             {one(short.cert), []Kind{Ending}},
		"no certificate":                  {Evidence{Seen: []Sighting{{Place: Disk, Host: "m1", What: file, Problem: "no PEM"}}}, []Kind{Unreadable}},
		"a port that is closed":           {Evidence{Seen: []Sighting{{Place: Wire, Host: "m1", What: port, Problem: "refused"}}}, []Kind{Unreadable}},
		"renewed and in use":              {Evidence{Seen: []Sighting{disk(file, renewed), {Place: Wire, Host: "m1", What: port, Cert: renewed}}}, nil},
		"renewed, not in use":             {Evidence{Seen: []Sighting{disk(file, renewed), {Place: Wire, Host: "m1", What: port, Cert: good}}}, []Kind{NotInUse}},
		"the key is private and fits":     {Evidence{Seen: one(good).Seen, Keys: []Key{{"m1", "/etc/kubernetes/pki/apiserver.key", "600", public}}}, nil},
		"the key is readable":             {Evidence{Seen: one(good).Seen, Keys: []Key{{"m1", "/etc/kubernetes/pki/apiserver.key", "644", public}}}, []Kind{KeyMode}},
		"the key is another's":            {Evidence{Seen: one(good).Seen, Keys: []Key{{"m1", "/etc/kubernetes/pki/apiserver.key", "600", "AAAA"}}}, []Kind{KeyDiffers}},
		"a kubelet renews by itself":      {Evidence{Seen: []Sighting{disk("/var/lib/kubelet/pki/kubelet-client-1.pem", ca.leaf(t, key, now.Add(-100*day), now.Add(20*day)))}}, nil},
		"a kubelet that does not":         {Evidence{Seen: []Sighting{disk("/var/lib/kubelet/pki/kubelet-client-1.pem", ca.leaf(t, key, now.Add(-100*day), now.Add(5*day)))}}, []Kind{NotRotated}},
	} {
		t.Run(name, func(t *testing.T) {
			rep := Judge(c.e, Rules{
				Now: now, Within: 30 * day, Life: 1800 * day, CAs: []*x509.Certificate{ca.cert, short.cert},
				Serves: map[string][]Port{"m1": {{port, file}}},
			})
			var got []Kind
			for _, r := range rep.Rows {
				for _, f := range r.Findings {
					got = append(got, f.Kind)
					if f.Text == "" || f.Where == "" {
						t.Errorf("%+v says nothing", f)
					}
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			bad := slices.ContainsFunc(c.want, func(k Kind) bool { return k != Due && k != Ending })
			if rep.Bad() != bad || rep.Due() != (len(c.want) > 0 && !bad) {
				t.Errorf("bad %v, due %v", rep.Bad(), rep.Due())
			}
		})
	}
}

// One public key is one row, wherever it was seen; a row tells of the file.
func TestOneRowForACertificateInAllPlaces(t *testing.T) {
	ca := newAuthority(t, "ours", 3000*day)
	leaf := ca.leaf(t, newKey(t), now.Add(-day), now.Add(200*day))
	rep := Judge(Evidence{Seen: []Sighting{
		{Place: Store, What: "etcd-server-m1", Cert: leaf},
		{Place: Wire, Host: "m1", What: "192.0.2.1:2379", Cert: leaf},
		{Place: Disk, Host: "m1", What: "/etc/etcd/pki/server.crt", Cert: leaf},
		{Place: Disk, Host: "m1", What: "/etc/etcd/pki/ca.crt", Cert: ca.cert},
		{Place: Disk, Host: "m2", What: "/etc/etcd/pki/ca.crt", Cert: ca.cert},
	}}, Rules{Now: now, Within: 30 * day, Life: 300 * day, CAs: []*x509.Certificate{ca.cert}})
	if len(rep.Rows) != 2 {
		t.Fatalf("%+v", rep.Rows)
	}
	r := rep.Rows[0]
	if r.Name != "server.crt" || r.Host != "m1" || len(r.Places) != 3 || r.Days != 200 || r.Serial != leaf.SerialNumber.Text(16) {
		t.Errorf("%+v", r)
	}
	if ca := rep.Rows[1]; !ca.CA || ca.Host != "" || len(ca.Places) != 2 {
		t.Errorf("%+v", ca)
	}
}

func TestAnswerOfADiskIsParsed(t *testing.T) {
	ca := newAuthority(t, "ours", 3000*day)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	out := fmt.Sprintf("%d.500000000\ncert /etc/etcd/pki/ca.crt\n%skey 600 AAAA /etc/etcd/pki/server.key\ncert /var/lib/kubelet/pki/kubelet-client-1.pem\n%scert /var/lib/kubelet/pki/kubelet-client-2.pem\n%s"+
		"conf /etc/kubernetes/admin.conf\ncertificate-authority-data %s\nclient-certificate-data %s\ncert /etc/kubernetes/pki/apiserver.crt\n",
		now.Unix(), text, text, text, base64.StdEncoding.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte("no certificate")))
	e, err := parseDisk("m1", out+"current /var/lib/kubelet/pki/kubelet-client-2.pem\nend\n", now.Add(-time.Minute), now.Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, s := range e.Seen {
		seen = append(seen, fmt.Sprint(s.What, " ", s.Cert != nil))
	}
	want := "/etc/etcd/pki/ca.crt true, /var/lib/kubelet/pki/kubelet-client-2.pem true, /etc/kubernetes/admin.conf true, /etc/kubernetes/admin.conf false, /etc/kubernetes/pki/apiserver.crt false"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if e.Clocks["m1"] != 1500*time.Millisecond || len(e.Keys) != 1 {
		t.Errorf("clock %s, keys %+v", e.Clocks["m1"], e.Keys)
	}
	if _, err := parseDisk("m1", out, now, now); err == nil {
		t.Error("an answer that ends early passed for a whole one")
	}
}
