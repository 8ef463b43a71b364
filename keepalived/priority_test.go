package keepalived

import (
	"fmt"
	"testing"

	"hactl/inventory"
)

// A host that sees a minority ranks below every host that does not, and no
// priority is the same as another's.
func TestMinorityIsBelowEverybody(t *testing.T) {
	for _, n := range []int{3, 5, 7} {
		inv := &inventory.Inventory{}
		for i := range n {
			inv.Hosts = append(inv.Hosts, inventory.Host{Name: fmt.Sprintf("m%d", i), Role: inventory.ControlPlane})
		}
		v := VIP{Inv: inv}
		seen := map[int]bool{}
		highest, lowest := 0, 255
		for _, m := range inv.Masters() {
			p := v.priority(m)
			if seen[p] || p < 1 || p > 254 {
				t.Errorf("%d masters: %s has priority %d", n, m.Name, p)
			}
			seen[p], highest, lowest = true, max(highest, p), min(lowest, p)
		}
		if highest-v.minorityWeight() >= lowest {
			t.Errorf("%d masters: %d less %d is not below %d", n, highest, v.minorityWeight(), lowest)
		}
	}
}
