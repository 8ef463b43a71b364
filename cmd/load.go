package cmd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"hactl/internal/drill"
	"hactl/internal/nearest"
	"hactl/internal/remote"
	"hactl/inventory"
)

// loadInventory reads the file named by -i. Its own checks do not know the
// drill's scenarios: the bounds are looked at here.
func (a *app) loadInventory() (*inventory.Inventory, error) {
	inv, err := inventory.Load(a.inventory)
	if err != nil {
		return nil, err
	}
	if bad := wrongBounds(inv); bad != nil {
		return nil, bad
	}
	return inv, nil
}

// wrongBounds are the names below drill.bounds that no scenario and no check has.
func wrongBounds(inv *inventory.Inventory) inventory.Problems {
	var bad inventory.Problems
	known := drill.BoundNames()
	for _, name := range slices.Sorted(maps.Keys(inv.Drill.Bounds)) {
		if slices.Contains(known, name) {
			continue
		}
		p := inventory.Problem{File: inv.Path, Path: "drill.bounds", What: fmt.Sprintf("%q is no scenario and no check of one", name), Instead: "see hactl drill --list"}
		if c := nearest.Words(name, known); c != nil {
			p.Instead = "did you mean " + strings.Join(c, " or ") + "?"
		}
		bad = append(bad, p)
	}
	return bad
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
