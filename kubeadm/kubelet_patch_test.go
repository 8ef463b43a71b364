package kubeadm

import (
	"strings"
	"testing"

	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// Other settings are another configuration of the running process: the kubelets restart,
// one after another. Without settings the unit is what it was.
func TestKubeletFollowsItsSettings(t *testing.T) {
	t.Parallel()
	c := clusterOf(t, inventorytest.Three(t), true)
	h := &c.Inv.Hosts[0]
	seen := map[string]string{}
	for name, set := range map[string]func(*inventory.Kubelet){
		"none": func(*inventory.Kubelet) {},
		"one":  func(k *inventory.Kubelet) { k.EvictionHard = map[string]string{"nodefs.available": "5%"} },
		"two":  func(k *inventory.Kubelet) { k.EvictionHard = map[string]string{"nodefs.available": "6%"} },
	} {
		c.Inv.Kubernetes.Kubelet = inventory.Kubelet{}
		set(&c.Inv.Kubernetes.Kubelet)
		unit, config, err := c.kubeletUnit(h)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(unit), "--config-dir="+kubeletPatchDir) != (name != "none") || strings.Contains(string(unit), kubeletPatchFile) != (name != "none") {
			t.Errorf("%s: %s", name, unit)
		}
		for other, o := range seen {
			if o == config {
				t.Errorf("%s and %s are the same configuration", name, other)
			}
		}
		seen[name] = config
	}
	patch, err := c.kubeletPatch()
	if err != nil || c.Inv.Kubernetes.Kubelet.EvictionHard != nil && !strings.Contains(string(patch), "kind: KubeletConfiguration\nevictionHard:\n") {
		t.Errorf("%s, %v", patch, err)
	}
}
