package pki

import (
	"net/netip"
	"testing"

	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// A host with another name, or another address, than the certificates of a cluster that has
// run is found; before the cluster has run, and for what was removed, none is.
func TestHostsWithAnotherNameOrAddressAreFound(t *testing.T) {
	inv := inventorytest.ThreeWithWorkers(t, 1)
	store, err := Open(inv)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := store.Preview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Keep(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	change := func(name string, with func(*inventory.Host)) *inventory.Inventory {
		changed := *inv
		changed.Hosts = append([]inventory.Host(nil), inv.Hosts...)
		with(changed.Host(name))
		return &changed
	}
	renamed := change("worker-1", func(h *inventory.Host) { h.Name = "node-c" })
	moved := change("master-2", func(h *inventory.Host) { h.PrivateAddress = netip.MustParseAddr("192.0.2.99") })
	if got := MovedHosts(moved); got != nil {
		t.Errorf("the cluster has not run: %+v", got)
	}
	id := m.Identity
	id.HadQuorum = true
	if err := store.Record(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := MovedHosts(inv); got != nil {
		t.Errorf("nothing was changed: %+v", got)
	}
	if got := MovedHosts(renamed); len(got) != 1 || got[0].Host != "node-c" || got[0].Name != "worker-1" {
		t.Errorf("renamed: %+v", got)
	}
	if got := MovedHosts(moved); len(got) != 1 || got[0].Host != "master-2" || got[0].Name != "" || got[0].Address.String() != "192.0.2.12" || got[0].Present.String() != "192.0.2.99" {
		t.Errorf("moved: %+v", got)
	}
	id.Removed = []string{"worker-1"}
	if err := store.Record(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := MovedHosts(renamed); got != nil {
		t.Errorf("worker-1 was removed: %+v", got)
	}
}
