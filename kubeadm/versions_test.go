package kubeadm

import (
	"strings"
	"testing"

	"hactl/internal/versions"
)

// What a Kubernetes no longer accepts stands in none of the files that its nodes get.
func TestNoFileUsesWhatItsKubernetesDropped(t *testing.T) {
	for _, kubernetes := range versions.Known() {
		inv := withVersion(t, kubernetes)
		gone := versions.GoneFrom(kubernetes)
		files := nodeFiles(t, clusterOf(t, inv, true), &inv.Hosts[0])
		if _, ok := files[initFile]; !ok {
			t.Fatalf("%s: no %s", kubernetes, initFile)
		}
		for path, f := range files {
			text := string(f.Content)
			for _, gate := range append(gone.FeatureGates, gone.KubeadmGates...) {
				if strings.Contains(text, gate) {
					t.Errorf("%s: %s sets the gate %s", kubernetes, path, gate)
				}
			}
			for _, flag := range append(gone.KubeletFlags, gone.ControllerFlags...) {
				if strings.Contains(text, flag) {
					t.Errorf("%s: %s sets the flag %s", kubernetes, path, flag)
				}
			}
			for _, api := range gone.KubeadmAPIs {
				if strings.Contains(text, "kubeadm.k8s.io/"+api) {
					t.Errorf("%s: %s is of the API %s", kubernetes, path, api)
				}
			}
		}
	}
}
