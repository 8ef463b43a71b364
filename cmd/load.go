package cmd

import (
	"hactl/internal/drill"
	"hactl/internal/remote"
	"hactl/inventory"
)

// loadInventory reads the file named by -i.
func (a *app) loadInventory() (*inventory.Inventory, error) {
	return inventory.Load(a.inventory, drill.BoundNames()...)
}

// checkHosts refuses names that no host of the inventory has.
func (a *app) checkHosts(inv *inventory.Inventory, names []string) error {
	for _, name := range names {
		if inv.Host(name) == nil {
			return remote.Hint(usagef("there is no host %q in %s", name, a.inventory), "hactl validate lists the hosts")
		}
	}
	return nil
}
