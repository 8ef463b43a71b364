package keepalived

import (
	"fmt"
	"testing"

	"hactl/internal/facts"
	"hactl/inventory"
)

// A host in a minority ranks below every host that is not, and no two hosts have
// the same priority.
func TestMinorityRanksBelowTheMajority(t *testing.T) {
	for _, n := range []int{3, 5, 7} {
		inv := &inventory.Inventory{}
		for i := range n {
			inv.Hosts = append(inv.Hosts, inventory.Host{Name: fmt.Sprintf("m%d", i), Role: inventory.ControlPlane})
		}
		v := VIP{Inv: inv}
		seen := map[int]bool{}
		highest, lowest := 0, 255
		for _, m := range inv.Masters() {
			p := v.Priority(m)
			if seen[p] || p < 1 || p > 254 {
				t.Errorf("%d masters: %s has priority %d", n, m.Name, p)
			}
			seen[p], highest, lowest = true, max(highest, p), min(lowest, p)
		}
		if highest-v.minorityPenalty() >= lowest {
			t.Errorf("%d masters: %d less %d is not below %d", n, highest, v.minorityPenalty(), lowest)
		}
	}
}

func masters(names ...string) *inventory.Inventory {
	inv := &inventory.Inventory{}
	for _, n := range names {
		inv.Hosts = append(inv.Hosts, inventory.Host{Name: n, Role: inventory.ControlPlane})
	}
	return inv
}

func recorded(p int) *facts.Brief { return &facts.Brief{Record: facts.Record{VIPPriority: p}} }

func TestPriorityBelongsToTheHost(t *testing.T) {
	for name, c := range map[string]struct {
		masters []string
		facts   map[string]*facts.Brief
		want    map[string]int
	}{
		"a new cluster follows the inventory": {[]string{"a", "b", "c"}, map[string]*facts.Brief{"a": {}, "b": {}, "c": {}}, map[string]int{"a": 250, "b": 220, "c": 190}},
		"the first host was replaced": {[]string{"x", "b", "c"}, map[string]*facts.Brief{"x": {}, "b": recorded(220), "c": recorded(190)},
			map[string]int{"x": 250, "b": 220, "c": 190}},
		"the list was turned round": {[]string{"c", "b", "a"}, map[string]*facts.Brief{"a": recorded(250), "b": recorded(220), "c": recorded(190)},
			map[string]int{"a": 250, "b": 220, "c": 190}},
		"a host came first":      {[]string{"x", "a"}, map[string]*facts.Brief{"x": {}, "a": recorded(250)}, map[string]int{"a": 250, "x": 220}},
		"two hosts say the same": {[]string{"a", "b"}, map[string]*facts.Brief{"a": recorded(250), "b": recorded(250)}, map[string]int{"a": 250, "b": 220}},
		"a host was not asked":   {[]string{"x", "b", "c"}, map[string]*facts.Brief{"x": {}, "c": recorded(190)}, map[string]int{"b": 250, "x": 220, "c": 190}},
		"of seven, three are left": {[]string{"a", "f", "g"}, map[string]*facts.Brief{"a": recorded(250), "f": recorded(100), "g": recorded(70)},
			map[string]int{"a": 250, "f": 100, "g": 70}},
	} {
		v := VIP{Inv: masters(c.masters...), Facts: c.facts}
		lowest, highest := 255, 0
		for _, m := range v.Inv.Masters() {
			p := v.Priority(m)
			if p != c.want[m.Name] {
				t.Errorf("%s: %s has %d, want %d", name, m.Name, p, c.want[m.Name])
			}
			lowest, highest = min(lowest, p), max(highest, p)
		}
		if highest-v.minorityPenalty() >= lowest {
			t.Errorf("%s: %d less %d is not below %d", name, highest, v.minorityPenalty(), lowest)
		}
	}
}
