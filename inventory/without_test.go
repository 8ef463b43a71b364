package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What follows from the hosts follows from those that are left.
func TestInventoryWithoutAHost(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	text := "apiVersion: hactl/v1\nkind: Cluster\ncluster: demo\nvip:\n  address: 192.0.2.10\nhosts:\n" +
		"  - {name: m-1, address: 192.0.2.11, role: control-plane}\n  - name: w-1 # the last worker\n    address: 192.0.2.12\n    role: worker\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inv, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := inv.Without("w-1")
	if err != nil || len(rest.Hosts) != 1 || rest.Host("w-1") != nil || rest.Path != inv.Path {
		t.Fatalf("%v, %+v", err, rest)
	}
	if *inv.Kubernetes.SchedulableMasters || !*rest.Kubernetes.SchedulableMasters {
		t.Error("masters take pods only where there is no worker")
	}
	if _, err := inv.Without("m-1"); err == nil || !strings.Contains(err.Error(), "without m-1") {
		t.Errorf("no master is left: %v", err)
	}
	if same, err := inv.Without("other"); err != nil || len(same.Hosts) != 2 {
		t.Errorf("%v", err)
	}
}
