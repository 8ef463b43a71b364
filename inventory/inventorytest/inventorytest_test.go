package inventorytest

import "testing"

func TestInventoriesLoad(t *testing.T) {
	for name, inv := range map[string]int{"one": len(One(t).Masters()) - 1, "three": len(Three(t).Masters()) - 3, "five": len(Five(t).Masters()) - 5} {
		if inv != 0 {
			t.Errorf("%s has %+d masters too many", name, inv)
		}
	}
	if inv := ThreeWithWorkers(t, 2); len(inv.Workers()) != 2 || *inv.Kubernetes.SchedulableMasters {
		t.Errorf("workers: got %d, schedulable masters %v", len(inv.Workers()), *inv.Kubernetes.SchedulableMasters)
	}
	if inv := ThreeIPv6(t); !inv.IPv6() || inv.Network.PodSubnet.Addr().Is4() {
		t.Errorf("IPv6: got %v, pods %v", inv.VIP.Address, inv.Network.PodSubnet)
	}
}
