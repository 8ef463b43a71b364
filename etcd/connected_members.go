package etcd

import (
	"hactl/internal/plan"
	"hactl/inventory"
)

// MembersOf are the members of the masters that are connected, in inventory
// order.
func MembersOf(inv *inventory.Inventory, hosts plan.Hosts) []Member {
	var out []Member
	for _, m := range inv.Masters() {
		if h := hosts[m.Name]; h != nil {
			out = append(out, Member{Name: m.Name, Host: h})
		}
	}
	return out
}
