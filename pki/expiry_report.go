package pki

import (
	"cmp"
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
