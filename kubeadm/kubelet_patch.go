package kubeadm

import (
	"fmt"
	"reflect"

	"gopkg.in/yaml.v3"

	"hactl/internal/plan"
	"hactl/inventory"
)

// kubeletPatchDir holds what the inventory changes of the kubelet's configuration:
// the kubelet merges its *.conf over the file that kubeadm wrote, so that a node that
// runs follows.
const (
	kubeletPatchDir  = kubeDir + "/kubelet.conf.d"
	kubeletPatchFile = kubeletPatchDir + "/50-hactl.conf"
)

// kubeletPatch is the content of kubeletPatchFile; nil when the inventory changes nothing.
func (c Cluster) kubeletPatch() ([]byte, error) {
	if reflect.ValueOf(c.Inv.Kubernetes.Kubelet).IsZero() {
		return nil, nil
	}
	fields, err := yaml.Marshal(c.Inv.Kubernetes.Kubelet)
	if err != nil {
		return nil, fmt.Errorf("encode kubernetes.kubelet: %w", err)
	}
	return append([]byte("# Written by hactl; changes made here are seen as drift and undone.\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"), fields...), nil
}

// KubeletSettings returns the step that keeps the file, or that there is none. It comes
// before [Cluster.KubeletUnit], which names its folder.
func (c Cluster) KubeletSettings(h *inventory.Host) (plan.Step, error) {
	patch, err := c.kubeletPatch()
	return plan.File{ID: id(h, "kubelet-settings"), Host: h.Name, Path: kubeletPatchFile, Content: patch, Lane: Lane, Absent: patch == nil}.Step(), err
}
