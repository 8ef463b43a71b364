package cmd

import (
	"fmt"
	"strconv"

	"hactl/internal/drill"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// loadInventory reads the file named by -i, and the environment that comes before it.
func (a *app) loadInventory() (*inventory.Inventory, error) {
	inv, err := inventory.Load(a.inventory, drill.BoundNames()...)
	if err != nil {
		return nil, err
	}
	if text := a.getenv(wait.Env); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < wait.Usual || n > wait.Most {
			return nil, usagef("%s is %q: write a whole number from %d to %d", wait.Env, text, wait.Usual, wait.Most)
		}
		inv.SlowHosts = n
	}
	a.slowHosts = inv.SlowHosts
	return inv, nil
}

// saysSlow is what a person reads of a factor other than 1; else "".
func saysSlow(factor int) string {
	if factor <= wait.Usual {
		return ""
	}
	return fmt.Sprintf("slow hosts: every wait may take %d times as long as usual", factor)
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
