package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hactl/inventory"
)

// The pairs by name in the store.
const (
	nameEtcdServer = "etcd-server-" // and the host
	nameEtcdPeer   = "etcd-peer-"   // and the host
	nameNodeServer = "node-server-" // and the host
	nameEtcdClient = "etcd-client-apiserver"
	nameOperator   = "etcd-client-hactl"
	nameAdmin      = "admin"
	// nameFrontProxy is a pair of the store where the front-proxy CA's key is elsewhere;
	// kubeadm makes one on each master where it is not.
	nameFrontProxy = "front-proxy-client"
)

// Reasons to issue a pair again that serves still.
const (
	toBeRenewed = "is to be renewed"
	expiresIn   = "expires in "
)

// adminLifetime bounds the operator's Kubernetes certificate: unlike etcd's it
// cannot be taken back by anything short of a new CA, and it costs nothing to
// renew, since no process has to be restarted for it.
const adminLifetime = 365 * 24 * time.Hour

// RenewBefore is how long before its end a certificate is made anew.
const RenewBefore = 30 * 24 * time.Hour

// requests lists every certificate that the inventory asks for.
func requests(inv *inventory.Inventory) ([]request, error) {
	life := inv.PKI.Expiry
	var out []request
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		sans, err := names(h)
		if err != nil {
			return nil, err
		}
		if h.Role == inventory.ControlPlane {
			out = append(out,
				request{name: nameEtcdServer + h.Name, cn: h.Name, sans: sans, profile: profileServer, lifetime: life},
				request{name: nameEtcdPeer + h.Name, cn: h.Name, sans: sans, profile: profilePeer, lifetime: life})
		}
		out = append(out, request{name: nameNodeServer + h.Name, cn: h.Name, sans: sans, profile: profileServing, lifetime: life})
	}
	if keyless(inv.PKI.ExternalCA.FrontProxy) {
		out = append(out, request{name: nameFrontProxy, cn: nameFrontProxy, profile: profileClient, lifetime: life})
	}
	return append(out,
		request{name: nameEtcdClient, cn: "kube-apiserver-etcd-client", profile: profileClient, lifetime: life},
		request{name: nameOperator, cn: "hactl", profile: profileClient, lifetime: life},
		// kubeadm binds this group to cluster-admin; unlike system:masters the
		// binding can be removed.
		request{name: nameAdmin, cn: "hactl-admin", orgs: []string{"kubeadm:cluster-admins"}, profile: profileClient, lifetime: min(life, adminLifetime)},
	), nil
}

// authority is the one that signs the request.
func (m *Material) authority(r request) *CA {
	switch {
	case r.name == nameAdmin, r.profile == profileServing:
		return m.KubernetesCA
	case r.name == nameFrontProxy:
		return m.FrontProxyCA
	}
	return m.EtcdCA
}

// names are the SANs of a host's server certificates.
func names(h *inventory.Host) ([]string, error) {
	if h.Name == "" || strings.ContainsAny(h.Name, `/\`) {
		return nil, fmt.Errorf("host name %q cannot name a certificate", h.Name)
	}
	addr := h.PrivateAddress
	if !addr.IsValid() {
		var err error
		if addr, err = netip.ParseAddr(h.Address); err != nil {
			return nil, fmt.Errorf("host %s has no private address", h.Name)
		}
	}
	return []string{h.Name, "localhost", addr.Unmap().WithZone("").String(), "127.0.0.1", "::1"}, nil
}

// pair returns the stored pair, or issues it when there is a reason to.
func (w *work) pair(ca *CA, r request) (Pair, error) {
	have, reason, err := w.stored(ca, r)
	if err != nil {
		return Pair{}, fmt.Errorf("read %s: %w", r.name, err)
	}
	if reason == "" {
		return have, nil
	}
	if ca.key == nil {
		return w.elsewhere(ca, r, have, reason)
	}
	pair, err := ca.replace(r, have)
	if err != nil {
		return Pair{}, err
	}
	if err := w.publish(r.name, map[string][]byte{certFile: pair.CertPEM, keyFile: pair.KeyPEM}); err != nil {
		return Pair{}, fmt.Errorf("publish %s in PKI store: %w", r.name, err)
	}
	w.created = append(w.created, r.name+": "+reason)
	return pair, nil
}

// replace makes a pair in place of an earlier one. A key that is in order stays: the
// hosts then get one new file, and no process sees half of a pair.
func (ca *CA) replace(r request, have Pair) (Pair, error) {
	if certs, err := ParseCertificates(have.CertPEM); err == nil {
		key, err := parseKey(have.KeyPEM)
		same := err == nil && sameKey(key, certs[0].PublicKey) && certs[0].Subject.CommonName == r.cn && sameSet(certs[0].Subject.Organization, r.orgs)
		if same && certs[0].CheckSignatureFrom(ca.certs[0]) == nil {
			return ca.reissue(r, have.KeyPEM)
		}
	}
	return ca.issue(r)
}

// stored reads a pair and says why it has to be issued again, "" if it need
// not be. An error means that we could not look.
func (w *work) stored(ca *CA, r request) (Pair, string, error) {
	cert, certErr := w.read(r.name, certFile)
	key, keyErr := w.read(r.name, keyFile)
	for _, err := range []error{certErr, keyErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Pair{}, "", err
		}
	}
	switch {
	case certErr != nil && keyErr != nil:
		return Pair{}, "new", nil
	case certErr != nil:
		return Pair{}, "certificate was missing", nil
	case keyErr != nil:
		return Pair{}, "key was missing", nil
	}
	pair := Pair{Name: r.name, CertPEM: cert, KeyPEM: key}
	reason := ca.outdated(pair, r)
	if reason == "" && w.store.anew != nil && w.store.anew(r.name) {
		reason = toBeRenewed
	}
	return pair, reason, nil
}

// outdated says why pair does not serve the request any more, "" if it does.
func (ca *CA) outdated(pair Pair, r request) string {
	certs, err := ParseCertificates(pair.CertPEM)
	if err != nil {
		return "certificate was unreadable"
	}
	cert := certs[0]
	key, err := parseKey(pair.KeyPEM)
	if err != nil || !sameKey(key, cert.PublicKey) {
		return "key did not belong to the certificate"
	}
	if !ca.signedBy(certs) {
		return "was signed by another CA"
	}
	if cert.Subject.CommonName != r.cn || !sameSet(cert.Subject.Organization, r.orgs) {
		return fmt.Sprintf("was for %s", cert.Subject)
	}
	if have := sans(cert); !sameSet(have, r.sans) {
		return fmt.Sprintf("was for %s, now %s", strings.Join(have, " "), strings.Join(r.sans, " "))
	}
	return ca.ending(cert, r.lifetime)
}

// ending says why a certificate's time is up. A certificate that cannot be
// made to live longer, because the CA ends, is left alone.
func (ca *CA) ending(cert *x509.Certificate, lifetime time.Duration) string {
	left := cert.NotAfter.Sub(ca.now())
	if left <= 0 {
		return "expired on " + cert.NotAfter.Format(time.DateOnly)
	}
	// A lifetime of a day must not mean a new certificate on every run.
	if left >= min(RenewBefore, lifetime/3) || ca.until(lifetime).Sub(cert.NotAfter) < time.Hour {
		return ""
	}
	return fmt.Sprintf(expiresIn+"%d days", int(left.Hours()/24))
}

func sans(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
