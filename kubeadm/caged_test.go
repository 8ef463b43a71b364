package kubeadm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hactl/inventory/inventorytest"
)

// An apiserver in a cage has the configuration of the master and the operator's files;
// on the data of a cluster, no webhook keeps it from getting ready.
func TestCagedAPIServerIsTheMasters(t *testing.T) {
	inv := inventorytest.Three(t)
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	inv.Kubernetes.Files = map[string]string{"encryption.yaml": file}
	inv.Kubernetes.APIServerExtraArgs = map[string]string{
		"encryption-provider-config": "/etc/kubernetes/hactl-files/encryption.yaml", "enable-admission-plugins": "NodeRestriction,ValidatingAdmissionWebhook", "disable-admission-plugins": "LimitRanger",
	}
	c := clusterOf(t, inv, true)
	for _, onData := range []bool{false, true} {
		s, err := c.Caged(inv.Masters()[0], onData)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, f := range s.Files {
			files[f.Path] = string(f.Content)
		}
		if files["/etc/kubernetes/hactl-files/encryption.yaml"] != "secret" {
			t.Errorf("the files are %v", files)
		}
		conf := files[s.Config]
		for text, with := range map[string]bool{
			`name: encryption-provider-config`: true, `"NodeRestriction,ValidatingAdmissionWebhook"`: !onData, `"LimitRanger,MutatingAdmissionWebhook,ValidatingAdmissionWebhook"`: onData, `value: "NodeRestriction"`: onData,
		} {
			if strings.Contains(conf, text) != with {
				t.Errorf("on data %v: %s in the configuration: %v", onData, text, !with)
			}
		}
	}
	if inv.Kubernetes.APIServerExtraArgs["disable-admission-plugins"] != "LimitRanger" {
		t.Error("the inventory was changed")
	}
}
