package prober

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// lookAgain is how often a certificate that does not name this host is looked at anew.
const lookAgain = 2 * time.Second

// leftOut says why this host is no master of the cluster any more, "" where it is one or
// nothing is known.
//
// A master that was dead when it was taken out of the cluster, and that is switched on
// again with its old disk, has an apiserver that serves. The others send it no adverts,
// so its keepalived would take the address beside the owner's. But the certificates of
// their apiservers name every master, and no longer this one. Certificates that name no
// other master of the list either were made otherwise and tell nothing.
//
// Right after a boot the host is not fit before each peer has been asked once: until then
// nothing is known, and keepalived would have the address.
func (p *Prober) leftOut() string {
	if !p.cfg.Self.IsValid() {
		return ""
	}
	why := ""
	for _, t := range p.peers {
		cert := t.cert.Load()
		switch {
		case names(cert, p.cfg.Self):
			return ""
		case p.first && !t.asked.Load() && !p.local.healthy():
			why = "the host has just booted, and " + t.url + " has not been asked yet"
		case p.namesAnother(t, cert):
			why = "it was taken out of the cluster: the certificate of " + t.url + " names other masters, and not " + p.cfg.Self.String()
		}
	}
	return why
}

// namesAnother reports whether the certificate of t names a further peer.
func (p *Prober) namesAnother(t *target, cert *x509.Certificate) bool {
	for _, o := range p.peers {
		if o != t && names(cert, o.addr) {
			return true
		}
	}
	return false
}

// names reports whether the certificate is for the address.
func names(cert *x509.Certificate, addr netip.Addr) bool {
	if cert == nil || !addr.IsValid() {
		return false
	}
	for _, ip := range cert.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == addr.Unmap() {
			return true
		}
	}
	return false
}
