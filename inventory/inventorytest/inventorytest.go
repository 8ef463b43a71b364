// Package inventorytest hands loaded inventories to the tests of other
// packages. They go through inventory.Load, so they are as valid and complete
// as an operator's, with addresses from the documentation ranges. Each call
// returns a fresh one that lies in a folder of its own: change it at will.
package inventorytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/inventory"
)

// One is a single master, 192.0.2.11, with the VIP 192.0.2.10.
func One(t testing.TB) *inventory.Inventory { t.Helper(); return Load(t, Text(1, 0, false)) }

// Three is master-1 to master-3, 192.0.2.11 to .13, with the VIP 192.0.2.10.
func Three(t testing.TB) *inventory.Inventory { t.Helper(); return Load(t, Text(3, 0, false)) }

// Five is master-1 to master-5, 192.0.2.11 to .15, with the VIP 192.0.2.10.
func Five(t testing.TB) *inventory.Inventory { t.Helper(); return Load(t, Text(5, 0, false)) }

// ThreeIPv6 is master-1 to master-3, 2001:db8::11 to ::13, with the VIP 2001:db8::10.
func ThreeIPv6(t testing.TB) *inventory.Inventory { t.Helper(); return Load(t, Text(3, 0, true)) }

// ThreeWithWorkers is Three and worker-1 to worker-n, from 192.0.2.101 on.
func ThreeWithWorkers(t testing.TB, n int) *inventory.Inventory {
	t.Helper()
	return Load(t, Text(3, n, false))
}

// Text is the YAML of an inventory with so many hosts, and nothing but what is
// required.
func Text(masters, workers int, ipv6 bool) string {
	network := "192.0.2."
	if ipv6 {
		network = "2001:db8::"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: hactl/v1\nkind: Cluster\ncluster: demo\nvip:\n  address: %s10\nhosts:\n", network)
	for i := 1; i <= masters; i++ {
		fmt.Fprintf(&b, "  - name: master-%d\n    address: %s%d\n    role: control-plane\n", i, network, 10+i)
	}
	for i := 1; i <= workers; i++ {
		fmt.Fprintf(&b, "  - name: worker-%d\n    address: %s%d\n    role: worker\n", i, network, 100+i)
	}
	return b.String()
}

// Load writes text to inventory.yaml in a fresh folder and loads it.
func Load(t testing.TB, text string) *inventory.Inventory {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Load(path)
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return inv
}
