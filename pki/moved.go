package pki

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hactl/inventory"
)

// Moved is a host that the inventory names or places in another way than the certificates
// of the store, which were made for the running cluster.
type Moved struct {
	Host             string // in the inventory
	Name             string // in the store, where it differs; else empty
	Address, Present netip.Addr
}

// MovedHosts compares the inventory with the certificates of a store whose cluster has run.
// It reads public files only. A store that is not there, or cannot be read, knows of none.
func MovedHosts(inv *inventory.Inventory) []Moved {
	var id Identity
	text, err := os.ReadFile(filepath.Join(inv.PKI.Store, identityFile))
	if err != nil || json.Unmarshal(text, &id) != nil || !id.HadQuorum {
		return nil
	}
	known := addresses(inv.PKI.Store)
	var out []Moved
	for _, h := range inv.Hosts {
		was, there := known[h.Name]
		switch {
		case there && was.IsValid() && was != h.PrivateAddress:
			out = append(out, Moved{Host: h.Name, Address: was, Present: h.PrivateAddress})
		case !there:
			for name, at := range known {
				if at == h.PrivateAddress && inv.Host(name) == nil && !slices.Contains(id.Removed, name) {
					out = append(out, Moved{Host: h.Name, Name: name, Address: at, Present: at})
				}
			}
		}
	}
	return out
}

// addresses are those of the hosts that the store has certificates for, by name.
func addresses(store string) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	folders, err := filepath.Glob(filepath.Join(store, nameNodeServer+"*", certFile))
	if err != nil {
		return out
	}
	for _, f := range folders {
		text, err := os.ReadFile(f) //nolint:gosec // in the operator's store
		if err != nil {
			continue
		}
		certs, err := ParseCertificates(text)
		if err != nil || len(certs) == 0 {
			continue
		}
		for _, ip := range certs[0].IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok && !a.Unmap().IsLoopback() {
				out[strings.TrimPrefix(filepath.Base(filepath.Dir(f)), nameNodeServer)] = a.Unmap()
			}
		}
	}
	return out
}
