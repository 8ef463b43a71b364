package bundle

import (
	"cmp"
	"fmt"
	"runtime"

	"hactl/internal/remote"
	"hactl/internal/versions"
	"hactl/inventory"
)

// DemoImage and DemoImageNext are two versions of a small web server, for
// demonstrations, drills and blue-green deployments. The registry does not
// exist: the image comes with the bundle.
const (
	DemoImage     = "registry.hactl.invalid/demo:v1"
	DemoImageNext = "registry.hactl.invalid/demo:v2"
)

var masters = []string{string(inventory.ControlPlane)}

// catalog lists every artifact of a set, without what only its making tells. The
// order is that of the manifest: what takes longest to make stands first.
func catalog(set versions.Set) []Artifact {
	k8s := func(name string) Artifact { return binary(name, set.Kubernetes, "/usr/bin") }
	kubectl := k8s("kubectl") // for people who log in there; a worker has no kubeconfig for it
	kubectl.Roles = masters
	etcd := func(name string) Artifact {
		a := binary(name, set.Etcd, "/usr/local/bin")
		a.Roles = masters
		return a
	}
	containerd := func(name string) Artifact { return binary(name, set.Containerd, "/usr/local/bin") }
	cni := func(name string) Artifact {
		a := binary(name, set.CNIPlugins, "/opt/cni/bin")
		a.File = "cni/" + name
		return a
	}
	master := func(name string) Artifact {
		a := image(name, set.Kubernetes, versions.ImageRepository+"/"+name+":"+set.Kubernetes)
		a.Roles = masters
		return a
	}
	return []Artifact{
		k8s("kubelet"), k8s("kubeadm"), kubectl,
		master("kube-apiserver"), master("kube-controller-manager"), master("kube-scheduler"),
		withTools(image("kube-proxy", set.Kubernetes, versions.ImageRepository+"/kube-proxy:"+set.Kubernetes)),
		etcd("etcd"), etcd("etcdctl"), etcd("etcdutl"),
		containerd("containerd"), containerd("containerd-shim-runc-v2"), containerd("ctr"),
		cni("bridge"), cni("loopback"), cni("host-local"), cni("portmap"),
		image("coredns", set.CoreDNS, set.CoreDNSImage()),
		image("pause", set.Pause, set.PauseImage()),
		withTools(image("flannel", set.Flannel, set.FlannelImage())),
		image("demo-v1", "v1", DemoImage),
		image("demo-v2", "v2", DemoImageNext),
	}
}

// withTools is an image with the network tools. Since its recipe 2 it has the names of
// protocols.
func withTools(a Artifact) Artifact {
	a.Recipe = "2"
	return a
}

func binary(name, version, folder string) Artifact {
	return Artifact{Name: name, Kind: Binary, Version: version, File: "bin/" + name, Dest: folder + "/" + name}
}

func image(name, version, ref string) Artifact {
	return Artifact{Name: name, Kind: Image, Version: version, File: "images/" + name + ".tar", Image: ref}
}

// Check refuses options that no bundle can be made with.
func (o Options) Check() error {
	if o.Jobs < 0 || o.Jobs > 16 {
		return fmt.Errorf("jobs %d: 1 to 16 are possible", o.Jobs)
	}
	arch := cmp.Or(o.Arch, runtime.GOARCH)
	switch o.origin() {
	case Source:
		if o.Mirror != "" {
			return remote.Hint(fmt.Errorf("a mirror serves releases, and this bundle is built from source"), "hactl bundle --from upstream --mirror %s", remote.Quote(o.Mirror))
		}
		if arch != runtime.GOARCH || runtime.GOOS != "linux" {
			return remote.Hint(fmt.Errorf("build from source: linux/%s is not made on %s/%s", arch, runtime.GOOS, runtime.GOARCH), "hactl bundle --from upstream --arch %s", arch)
		}
		return buildable(o.Set)
	case Upstream:
		if arch != "amd64" && arch != "arm64" {
			return fmt.Errorf("architecture %q: releases of amd64 and arm64 are known", arch)
		}
		_, err := parseMirror(o.Mirror)
		return err
	}
	return fmt.Errorf("origin %q: source and upstream are known", o.From)
}

// buildable refuses a set with a version that has no build module.
func buildable(set versions.Set) error {
	if set == (versions.Set{}) {
		set = versions.OfDefault()
	}
	for _, m := range projects(set) {
		if err := (program{module: m}).known(); err != nil {
			return err
		}
	}
	return nil
}

// jobs says how each artifact of the catalogue is made.
func (o Options) jobs() ([]job, error) {
	if o.origin() == Upstream {
		return o.upstreamJobs()
	}
	return o.sourceJobs()
}
