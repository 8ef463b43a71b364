package bundle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hactl/internal/versions"
)

// programs says where each binary of a set comes from, by the artifact's name
// (or the name of the image that carries it).
func programs(set versions.Set) map[string]program {
	etcd := "etcd/" + set.Etcd
	out := map[string]program{
		"etcd":    {module: etcd, pkg: "go.etcd.io/etcd/server/v3"},
		"etcdctl": {module: etcd, pkg: "go.etcd.io/etcd/etcdctl/v3"},
		"etcdutl": {module: etcd, pkg: "go.etcd.io/etcd/etcdutl/v3"},
		"coredns": {module: "coredns/" + set.CoreDNS, pkg: "github.com/coredns/coredns"},
		"flannel": {module: "flannel/" + set.Flannel, pkg: "github.com/flannel-io/flannel", cgo: true, flags: "-X github.com/flannel-io/flannel/pkg/version.Version=" + set.Flannel},
		"pause":   {module: "pause", pkg: "."},
		"demo-v1": {module: "demo", pkg: "."},
		"demo-v2": {module: "demo", pkg: "."},
	}
	for _, n := range []string{"kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		out[n] = program{module: "kubernetes/" + set.Kubernetes, pkg: "k8s.io/kubernetes/cmd/" + n, flags: kubernetesFlags(set.Kubernetes)}
	}
	for _, n := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		out[n] = program{module: "containerd/" + set.Containerd, pkg: "github.com/containerd/containerd/v2/cmd/" + n, tags: "no_btrfs no_devmapper no_zfs"}
	}
	for _, n := range []string{"main/bridge", "main/loopback", "ipam/host-local", "meta/portmap"} {
		out[n[strings.Index(n, "/")+1:]] = program{module: "cni/" + set.CNIPlugins, pkg: "github.com/containernetworking/plugins/plugins/" + n}
	}
	return out
}

// kubernetesFlags stamps the version that Kubernetes' own build stamps; kubeadm
// refuses to work with components that report none.
func kubernetesFlags(version string) string {
	part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	const base, client = "-X k8s.io/component-base/version.", "-X k8s.io/client-go/pkg/version."
	return strings.Join([]string{
		base + "gitVersion=" + version,
		base + "gitMajor=" + part[0],
		base + "gitMinor=" + part[1],
		base + "gitTreeState=clean",
		client + "gitVersion=" + version,
	}, " ")
}

// imageSpecs says what is in the images that are made here, by artifact name.
// Paths are those that kubeadm's and flannel's manifests call.
func imageSpecs() map[string]imageSpec {
	local := func(name string) imageSpec { return imageSpec{Binary: "/usr/local/bin/" + name} }
	proxy := local("kube-proxy")
	proxy.Tools = true
	return map[string]imageSpec{
		"kube-apiserver":          local("kube-apiserver"),
		"kube-controller-manager": local("kube-controller-manager"),
		"kube-scheduler":          local("kube-scheduler"),
		"kube-proxy":              proxy,
		"coredns":                 {Binary: "/coredns"},
		"flannel":                 {Binary: "/opt/bin/flanneld", Tools: true},
		"pause":                   {Binary: "/pause", User: "65535:65535"},
		"demo-v1":                 {Binary: "/demo", User: "65532:65532", Env: []string{"VERSION=v1", "COLOUR=blue"}},
		"demo-v2":                 {Binary: "/demo", User: "65532:65532", Env: []string{"VERSION=v2", "COLOUR=green"}},
	}
}

func (o Options) sourceJobs() ([]job, error) {
	progs, specs := programs(o.Set), imageSpecs()
	tools := &toolbox{root: "/", dir: filepath.Join(o.work(), "tools")}
	var jobs []job
	for _, a := range catalog(o.Set) {
		p, ok := progs[a.Name]
		if !ok {
			return nil, fmt.Errorf("build %s: no recipe", a.Name)
		}
		j := job{Artifact: a}
		if a.Kind == Image {
			spec := specs[a.Name]
			spec.Ref, spec.Arch = a.Image, o.Arch
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return buildImage(ctx, p, spec, tools, out, note)
			}
		} else {
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return "", p.build(ctx, o.Arch, out, note)
			}
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

func buildImage(ctx context.Context, p program, spec imageSpec, tools *toolbox, out string, note func(string)) (string, error) {
	work, err := os.MkdirTemp(filepath.Dir(out), ".image-")
	if err != nil {
		return "", fmt.Errorf("make image folder: %w", err)
	}
	defer os.RemoveAll(work)
	var layers [][]entry
	if spec.Tools {
		note("collecting nft, conntrack and iptables")
		files, err := tools.collect(ctx, note)
		if err != nil {
			return "", err
		}
		layers = append(layers, files)
	}
	note("compiling")
	bin := filepath.Join(work, "binary")
	if err := p.build(ctx, spec.Arch, bin, note); err != nil {
		return "", err
	}
	note("writing the image")
	layers = append(layers, append(accounts(), entry{Path: spec.Binary, From: bin, Mode: 0o755}))
	return writeImage(out, work, spec, layers)
}
