//go:build e2e

package kubeadm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hactl/internal/bundle"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

// TestKubeadmAcceptsItsConfiguration has the kubeadm of the bundle (HACTL_BUNDLE
// or the cache) validate every configuration that it would be given.
func TestKubeadmAcceptsItsConfiguration(t *testing.T) {
	dir, err := bundle.Find(bundle.Options{Dir: os.Getenv("HACTL_BUNDLE")})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatalf("%v\nhint: make bundle", err)
	}
	a, _ := b.Lookup("kubeadm")
	validate := func(t *testing.T, conf []byte) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "kubeadm.yaml")
		if err := os.WriteFile(file, conf, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), b.Path(a), "config", "validate", "--config", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for name, inv := range map[string]*inventory.Inventory{
		"one": inventorytest.One(t), "three": inventorytest.Three(t), "five": inventorytest.Five(t), "ipv6": inventorytest.ThreeIPv6(t),
		"rsa":     with(inventorytest.Three(t), func(i *inventory.Inventory) { i.PKI.Algorithm = "rsa-2048" }),
		"flannel": with(inventorytest.Three(t), func(i *inventory.Inventory) { i.Network.Preset = "flannel" }),
		"workers": inventorytest.ThreeWithWorkers(t, 1),
	} {
		t.Run(name, func(t *testing.T) {
			for _, v2 := range []bool{true, false} {
				c := clusterOf(t, inv, v2)
				for _, h := range inv.Masters() {
					conf, err := c.InitConfig(h)
					if err != nil {
						t.Fatal(err)
					}
					validate(t, conf)
				}
				for _, h := range inv.Workers() {
					conf, err := c.joinConfig(h, "abcdef.0123456789abcdef")
					if err != nil {
						t.Fatal(err)
					}
					validate(t, conf)
				}
			}
		})
	}
}
