//go:build e2e

package kubeadm

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hactl/internal/bundle"
	"hactl/internal/versions"
	"hactl/inventory"
)

// kubeadmOf is the kubeadm of the version in the bundle (HACTL_BUNDLE or the
// cache). Only the default set's must be there.
func kubeadmOf(t *testing.T, v inventory.Versions) string {
	t.Helper()
	b, err := bundle.Locate(os.Getenv("HACTL_BUNDLE"), v)
	if errors.Is(err, bundle.ErrIncomplete) && v.Kubernetes != versions.Default {
		t.Skipf("no bundle of %s: %s", v.Kubernetes, bundle.Command(v.Set()))
	}
	if err != nil {
		t.Fatalf("%v\nhint: make bundle", err)
	}
	a, _ := b.Lookup("kubeadm")
	return b.Path(a)
}

// TestKubeadmAcceptsItsConfiguration has the kubeadm of each version validate every
// configuration that it would be given.
func TestKubeadmAcceptsItsConfiguration(t *testing.T) {
	validate := func(t *testing.T, kubeadm string, conf []byte) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "kubeadm.yaml")
		if err := os.WriteFile(file, conf, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), kubeadm, "config", "validate", "--config", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	for name, c := range nodeCases(t) {
		t.Run(name, func(t *testing.T) {
			k := clusterOf(t, c.inv, c.v2)
			kubeadm := kubeadmOf(t, c.inv.Versions)
			for _, h := range c.inv.Masters() {
				conf, err := k.InitConfig(h)
				if err != nil {
					t.Fatal(err)
				}
				validate(t, kubeadm, conf)
			}
			for _, h := range c.inv.Workers() {
				conf, err := k.joinConfig(h, "abcdef.0123456789abcdef")
				if err != nil {
					t.Fatal(err)
				}
				validate(t, kubeadm, conf)
			}
		})
	}
}
