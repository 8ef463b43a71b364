package kubeadm

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"hactl/inventory"
	"hactl/pki"
)

// Kubeconfig returns the operator's kubeconfig: through the VIP, with a client
// certificate of the operator's own.
func Kubeconfig(inv *inventory.Inventory, m *pki.Material) ([]byte, error) {
	name := inv.Cluster
	user := "hactl-admin"
	admin := m.Admin()
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": "https://" + Endpoint(inv), "certificate-authority-data": encode(m.KubernetesCA.CertPEM),
		}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": user}}},
		"users": []any{map[string]any{"name": user, "user": map[string]any{
			"client-certificate-data": encode(admin.CertPEM), "client-key-data": encode(admin.KeyPEM),
		}}},
	})
}

// SaveKubeconfig writes the kubeconfig beside the inventory, 0600, and returns
// its path. A file with the same content is left alone.
func SaveKubeconfig(inv *inventory.Inventory, m *pki.Material) (path string, err error) {
	content, err := Kubeconfig(inv, m)
	if err != nil {
		return "", err
	}
	path = filepath.Join(filepath.Dir(inv.Path), inv.Cluster+".kubeconfig")
	old, err := os.ReadFile(path)
	if err == nil && string(old) == string(content) {
		return path, os.Chmod(path, 0o600)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*")
	if err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return path, os.Rename(tmp.Name(), path)
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
