package kubeadm

import (
	"errors"
	"fmt"
	"slices"

	"hactl/internal/facts"
	"hactl/internal/remote"
	"hactl/inventory"
	"hactl/pki"
)

// OtherClusterError says that a host belongs to another cluster.
type OtherClusterError struct{ Host, Why string }

// Error names the host and how it is known.
func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("%s belongs to another cluster: %s", e.Host, e.Why)
}

// ExitCode is the code for "refused: not safe".
func (e *OtherClusterError) ExitCode() int { return 7 }

// Belongs returns the workers whose kubelet belongs to this cluster. It is an
// error, with what to do, when a host belongs to another one: hactl takes no host
// away from a cluster.
func Belongs(inv *inventory.Inventory, all map[string]*facts.Brief, m *pki.Material) (joined []string, err error) {
	var errs []error
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		f := all[h.Name]
		if f == nil {
			continue // skipped on request
		}
		if why := otherCluster(f, m); why != "" {
			errs = append(errs, &OtherClusterError{h.Name, why})
		} else if f.KubeletCA != "" && h.Role == inventory.Worker {
			joined = append(joined, h.Name)
		}
	}
	return joined, remote.Hint(errors.Join(errs...),
		"use the store of that cluster (pki.store in %s); or, if the host is to leave that cluster, take it out there and reinstall it, or move /etc/kubernetes and %s away on it", inv.Path, facts.RecordFile)
}

// otherCluster says how it is known that the host is of another cluster; "" when
// it is of this one, or of none.
func otherCluster(f *facts.Brief, m *pki.Material) string {
	if was := f.Record.Cluster; was != "" && was != m.Identity.ID {
		return fmt.Sprintf("%s names %q, the store is of %q", facts.RecordFile, was, m.Identity.ID)
	}
	if f.KubeletCA == "" {
		return ""
	}
	trusted, err := pki.ParseCertificates([]byte(f.KubeletCA))
	if err != nil {
		return "the CA in " + kubeDir + "/kubelet.conf cannot be read: " + err.Error()
	}
	ours, err := pki.ParseCertificates(m.KubernetesCA.CertPEM)
	if err != nil {
		return "the store's CA cannot be read: " + err.Error()
	}
	for _, t := range trusted {
		if slices.ContainsFunc(ours, t.Equal) {
			return ""
		}
	}
	return "its kubelet trusts a CA that the store does not have"
}
