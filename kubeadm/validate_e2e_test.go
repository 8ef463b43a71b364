//go:build e2e

package kubeadm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hactl/internal/bundle"
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
	for name, c := range nodeCases(t) {
		t.Run(name, func(t *testing.T) {
			k := clusterOf(t, c.inv, c.v2)
			for _, h := range c.inv.Masters() {
				conf, err := k.InitConfig(h)
				if err != nil {
					t.Fatal(err)
				}
				validate(t, conf)
			}
			for _, h := range c.inv.Workers() {
				conf, err := k.joinConfig(h, "abcdef.0123456789abcdef")
				if err != nil {
					t.Fatal(err)
				}
				validate(t, conf)
			}
		})
	}
}
