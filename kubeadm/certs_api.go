package kubeadm

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"hactl/internal/remote"
)

// TrustedText is a PEM text with certificates that an object of the cluster holds.
type TrustedText struct {
	Object string // "configmap kube-system/kube-root-ca.crt"
	PEM    []byte
	Others bool // not made for the cluster, such as the CA of a webhook
}

// configMaps is a list of config maps.
type configMaps struct {
	Items []struct {
		Metadata struct{ Namespace, Name string }
		Data     map[string]string
	}
}

// rootCAs is every copy of the Kubernetes CA that pods read.
const rootCAs = "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt"

// named are single config maps with certificates, and the fields that have them.
var named = []struct{ namespace, name string }{{"kube-system", "extension-apiserver-authentication"}, {"kube-public", "cluster-info"}}

// Trusted reads what the cluster's objects say is to be trusted: by pods, by nodes that
// join, by extension apiservers, of webhooks and of extension apiservers.
func (a *API) Trusted(ctx context.Context) ([]TrustedText, error) {
	var list configMaps
	if err := a.Get(ctx, rootCAs, &list); err != nil {
		return nil, err
	}
	for _, n := range named {
		var one configMaps
		if err := a.Get(ctx, "/api/v1/namespaces/"+n.namespace+"/configmaps?fieldSelector=metadata.name%3D"+n.name, &one); err != nil {
			return nil, err
		}
		list.Items = append(list.Items, one.Items...)
	}
	var out []TrustedText
	for _, m := range list.Items {
		name := remote.Clean("configmap " + m.Metadata.Namespace + "/" + m.Metadata.Name)
		for key, text := range m.Data {
			if key == "kubeconfig" { // of cluster-info
				text = dataOf(text)
			}
			if strings.Contains(text, "-----BEGIN CERTIFICATE-----") {
				out = append(out, TrustedText{Object: name, PEM: []byte(text)})
			}
		}
	}
	more, err := a.bundles(ctx)
	return append(out, more...), err
}

// dataOf is the CA in a kubeconfig.
func dataOf(kubeconfig string) string {
	for line := range strings.Lines(kubeconfig) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "certificate-authority-data: "); ok {
			text, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(v))
			return string(text)
		}
	}
	return ""
}

// withBundles are the kinds whose objects name a CA of a server that others run.
var withBundles = []string{
	"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
	"/apis/apiregistration.k8s.io/v1/apiservices", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}

func (a *API) bundles(ctx context.Context) ([]TrustedText, error) {
	var out []TrustedText
	for _, path := range withBundles {
		var list struct{ Items []map[string]any }
		if err := a.Get(ctx, path, &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			meta, _ := item["metadata"].(map[string]any)
			name := remote.Clean(fmt.Sprintf("%s %v", path[strings.LastIndex(path, "/")+1:], meta["name"]))
			findBundles(item, func(text string) {
				if pem, err := base64.StdEncoding.DecodeString(text); err == nil {
					out = append(out, TrustedText{Object: name, PEM: pem, Others: true})
				}
			})
		}
	}
	return out, nil
}

// findBundles calls found with every field caBundle below v.
func findBundles(v any, found func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if s, ok := x.(string); ok && k == "caBundle" && s != "" {
				found(s)
				continue
			}
			findBundles(x, found)
		}
	case []any:
		for _, x := range v {
			findBundles(x, found)
		}
	}
}
