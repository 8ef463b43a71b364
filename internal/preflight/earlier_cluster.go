package preflight

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"sort"
	"strings"

	"hactl/internal/facts"
)

// earlierCluster finds what hactl must neither overwrite nor join by mistake. A
// host of this very cluster has the CAs of the store.
func earlierCluster(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		out := c.foreignCAs(h.Facts)
		out = append(out, c.foreignEtcd(h)...)
		return append(out, foreignTools(h.Facts)...)
	})
}

func (c *Cluster) foreignCAs(f *facts.Facts) []Finding {
	var out []Finding
	for _, name := range []string{"kubernetes", "front-proxy", "etcd"} {
		text, there := f.CAs[name]
		if !there {
			continue
		}
		theirs := der(text)
		switch {
		case theirs == nil:
			out = append(out, says("its %s CA is no readable certificate", name))
		case c.CAs[name] == "":
			out = append(out, says("it has a %s CA, and the store %s has none", name, c.Inv.PKI.Store))
		case !bytes.Equal(theirs, der(c.CAs[name])):
			out = append(out, says("its %s CA is not that of the store %s", name, c.Inv.PKI.Store))
		}
	}
	if len(f.CAs) == 0 && slices.Contains(f.Leftovers, "/etc/kubernetes/kubelet.conf") {
		out = append(out, says("it is a node of some cluster (/etc/kubernetes/kubelet.conf) without a CA"))
	}
	return out
}

// der is the first certificate of a PEM text, nil when there is none.
func der(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return nil
	}
	return block.Bytes
}

func (c *Cluster) foreignEtcd(h host) []Finding {
	f, dir := h.Facts, c.Inv.Etcd.DataDir
	member := slices.Contains(f.Leftovers, dir+"/member")
	var out []Finding
	switch {
	case !h.master() && member:
		out = append(out, says("%s holds an etcd member, and the host is a worker", dir))
	case f.EtcdCluster != "" && f.EtcdCluster != c.EtcdCluster:
		out = append(out, says("its etcd member is of cluster %q", f.EtcdCluster))
	case member && c.CAs["etcd"] == "":
		out = append(out, says("%s holds an etcd member, and the store %s knows no etcd CA", dir, c.Inv.PKI.Store))
	}
	if slices.Contains(f.Leftovers, "/etc/kubernetes/manifests/etcd.yaml") {
		out = append(out, says("kubeadm runs an etcd of its own there (/etc/kubernetes/manifests/etcd.yaml)"))
	}
	return out
}

// distributions bring a control plane of their own.
var distributions = map[string][]string{
	"k3s or rke2": {"/etc/rancher", "/var/lib/rancher", "k3s", "k3s-server", "k3s-agent", "rke2"},
	"k0s":         {"/var/lib/k0s", "k0s"},
	"microk8s":    {"/var/snap/microk8s"},
}

func foreignTools(f *facts.Facts) []Finding {
	var names []string
	for name, signs := range distributions {
		if slices.ContainsFunc(signs, func(s string) bool {
			if strings.HasPrefix(s, "/") {
				return slices.Contains(f.Leftovers, s)
			}
			return f.Runs(s)
		}) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var out []Finding
	for _, n := range names {
		out = append(out, says("%s is there", n).do("uninstall %s, or use a fresh host", n))
	}
	return out
}

// versionSkew: Kubernetes and etcd are upgraded one minor version at a time and
// not downgraded. What merely lies on the disk does not count.
func versionSkew(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if h.Probe == nil {
			return unknown("the versions on the host are not known")
		}
		var out []Finding
		for _, p := range []struct {
			name, want string
			matters    bool
		}{
			{"kubelet", c.Inv.Versions.Kubernetes, h.Facts.Runs("kubelet")},
			{"etcd", c.Inv.Versions.Etcd, slices.Contains(h.Facts.Leftovers, c.Inv.Etcd.DataDir+"/member")},
		} {
			have, known := h.Probe.Versions[p.name]
			want, ok := parseVersion(p.want)
			if !p.matters || !ok {
				continue
			}
			switch {
			case !known:
				out = append(out, unknown("the version of its %s is not known", p.name)...)
			case have.minor() > want.minor():
				out = append(out, says("%s %s would become the older %s", p.name, have, want))
			case have[0] != want[0] || want[1]-have[1] > 1:
				out = append(out, says("%s %s would become %s in one step", p.name, have, want))
			}
		}
		return out
	})
}
