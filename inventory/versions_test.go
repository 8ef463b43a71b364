package inventory

import (
	"strings"
	"testing"

	"hactl/internal/versions"
)

func TestAKubernetesVersionBringsItsParts(t *testing.T) {
	for text, want := range map[string]Versions{
		"":                                {"v1.36.3", "v3.6.16", "v2.2.1"},
		"versions: {kubernetes: v1.35.4}": {"v1.35.4", "v3.6.16", "v2.2.9"},
		"versions: {kubernetes: v1.36.1}": {"v1.36.1", "v3.6.16", "v2.2.1"},
		"versions: {kubernetes: v1.37.2}": {"v1.37.2", "v3.7.3", "v2.3.7"},
		"versions: {etcd: v3.7.3}":        {"v1.36.3", "v3.7.3", "v2.2.1"},
		"versions: {kubernetes: v1.36.9}": {"v1.36.9", "v3.6.16", "v2.2.1"},
		"versions: {kubernetes: v1.37.2, etcd: v3.6.16, containerd: v2.4.2}": {"v1.37.2", "v3.6.16", "v2.4.2"},
	} {
		inv, err := Parse("inventory.yaml", []byte(doc(text)))
		if err != nil || inv.Versions != want {
			t.Errorf("%q: %+v, %v", text, inv, err)
			continue
		}
		if set := inv.Versions.Set(); set.Etcd != want.Etcd || set.Containerd != want.Containerd || set.Kubernetes != want.Kubernetes || set.CoreDNS == "" {
			t.Errorf("%q: set %+v", text, set)
		}
	}
	if got := (Versions{}).Set(); got != versions.OfDefault() {
		t.Errorf("without a version: %+v", got)
	}
}

func TestAnotherPatchIsAllowedAndNoted(t *testing.T) {
	for text, want := range map[string]string{
		"versions: {kubernetes: v1.36.3, etcd: v3.7.3, containerd: v2.3.7}": "",
		"versions: {kubernetes: v1.36.9}":                                   "inventory.yaml:2:24: versions.kubernetes: Kubernetes v1.36.9 is not a patch that this hactl knows (v1.36.1, v1.36.3); it is installed all the same; write one of v1.35.4, v1.36.1, v1.36.3, v1.37.2",
		"versions: {kubernetes: v1.35.0}":                                   "Kubernetes v1.35.0 is not a patch that this hactl knows (v1.35.4)",
		"versions: {etcd: v3.6.99}":                                         "inventory.yaml:2:18: versions.etcd: etcd v3.6.99 is not a patch that this hactl knows (v3.6.16, v3.6.14, v3.7.3)",
		"versions: {etcd: v3.7.1}":                                          "etcd v3.7.1 is not a patch",
		"versions: {containerd: v2.2.5}":                                    "versions.containerd: containerd v2.2.5 is not a patch that this hactl knows",
		"versions: {containerd: v2.2.0}":                                    "containerd v2.2.0 is not a patch",
	} {
		inv, err := Parse("inventory.yaml", []byte(doc(text)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var notes []string
		for _, n := range inv.Notes {
			if n.Path != "" {
				notes = append(notes, n.String())
			}
		}
		if said := strings.Join(notes, "\n"); !strings.Contains(said, want) || want == "" && said != "" || len(notes) > 1 {
			t.Errorf("%s: notes %q, want %q", text, said, want)
		}
	}
}
