package pki

import (
	"cmp"
	"crypto/x509"
	"math"
	"slices"
	"time"
)

// Expiring is one line of the expiry report.
type Expiring struct {
	Name     string    `json:"name"` // "etcd-ca", "etcd-server-master-1"
	NotAfter time.Time `json:"notAfter"`
	Days     int       `json:"days"` // whole days left; negative once expired
	CA       bool      `json:"ca"`
}

// Report lists every certificate of the store, the next to expire first.
func (m *Material) Report() []Expiring {
	var out []Expiring
	add := func(name string, end time.Time, ca bool) {
		days := int(math.Floor(end.Sub(m.now()).Hours() / 24))
		out = append(out, Expiring{Name: name, NotAfter: end, Days: days, CA: ca})
	}
	for _, ca := range []*CA{m.EtcdCA, m.KubernetesCA, m.FrontProxyCA} {
		add(ca.Name, ca.NotAfter(), true)
	}
	for name, p := range m.pairs {
		// An unreadable certificate is reported as long expired.
		end, _ := Expiry(p.CertPEM)
		add(name, end, false)
	}
	slices.SortFunc(out, func(a, b Expiring) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Certificates are the first certificate of every pair of the store, by name.
// Unreadable ones are left out.
func (m *Material) Certificates() map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{}
	for name, p := range m.pairs {
		if certs, err := ParseCertificates(p.CertPEM); err == nil {
			out[name] = certs[0]
		}
	}
	return out
}

// Intermediates are the authorities between the store's CAs and its pairs: one whose key is
// elsewhere may sign through another one.
func (m *Material) Intermediates() []*x509.Certificate {
	var out []*x509.Certificate
	for _, p := range m.pairs {
		certs, err := ParseCertificates(p.CertPEM)
		if err != nil || len(certs) < 2 {
			continue
		}
		for _, ca := range []*CA{m.EtcdCA, m.KubernetesCA, m.FrontProxyCA} {
			if !ca.signs(certs) {
				continue
			}
			for _, c := range certs[1:] {
				if !slices.ContainsFunc(slices.Concat(out, ca.certs), c.Equal) {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// Authorities are the certificates of the store's CAs by name: the issuing one and its
// chain.
func (m *Material) Authorities() map[string][]*x509.Certificate {
	out := map[string][]*x509.Certificate{}
	for _, ca := range []*CA{m.EtcdCA, m.KubernetesCA, m.FrontProxyCA} {
		out[ca.Name] = ca.certs
	}
	return out
}
