package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// FlannelImage is flannel under the name that its project gives it.
const FlannelImage = "ghcr.io/flannel-io/flannel:" + versions.Flannel

var masters = []string{string(inventory.ControlPlane)}

// catalog lists every artifact, without what only its making tells. The order
// is that of the manifest: what takes longest to make stands first.
func catalog() []Artifact {
	k8s := func(name string) Artifact { return binary(name, versions.Kubernetes, "/usr/bin") }
	kubectl := k8s("kubectl") // for people who log in there; a worker has no kubeconfig for it
	kubectl.Roles = masters
	etcd := func(name string) Artifact {
		a := binary(name, versions.Etcd, "/usr/local/bin")
		a.Roles = masters
		return a
	}
	containerd := func(name string) Artifact { return binary(name, versions.Containerd, "/usr/local/bin") }
	cni := func(name string) Artifact {
		a := binary(name, versions.CNIPlugins, "/opt/cni/bin")
		a.File = "cni/" + name
		return a
	}
	master := func(name string) Artifact {
		a := image(name, versions.Kubernetes, versions.ImageRepository+"/"+name+":"+versions.Kubernetes)
		a.Roles = masters
		return a
	}
	return []Artifact{
		k8s("kubelet"), k8s("kubeadm"), kubectl,
		master("kube-apiserver"), master("kube-controller-manager"), master("kube-scheduler"),
		image("kube-proxy", versions.Kubernetes, versions.ImageRepository+"/kube-proxy:"+versions.Kubernetes),
		etcd("etcd"), etcd("etcdctl"), etcd("etcdutl"),
		containerd("containerd"), containerd("containerd-shim-runc-v2"), containerd("ctr"),
		cni("bridge"), cni("loopback"), cni("host-local"), cni("portmap"),
		image("coredns", versions.CoreDNS, versions.ImageRepository+"/coredns/coredns:"+versions.CoreDNS),
		image("pause", versions.Pause, versions.ImageRepository+"/pause:"+versions.Pause),
		image("flannel", versions.Flannel, FlannelImage),
		image("demo-v1", "v1", DemoImage),
		image("demo-v2", "v2", DemoImageNext),
	}
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
		return nil
	case Upstream:
		if arch != "amd64" && arch != "arm64" {
			return fmt.Errorf("architecture %q: releases of amd64 and arm64 are known", arch)
		}
		_, err := parseMirror(o.Mirror)
		return err
	}
	return fmt.Errorf("origin %q: source and upstream are known", o.From)
}

// jobs says how each artifact of the catalogue is made.
func (o Options) jobs() ([]job, error) {
	if o.origin() == Upstream {
		return o.upstreamJobs()
	}
	return o.sourceJobs()
}

// recipe is raised when the same versions are made in another way.
const recipe = "2"

// DefaultDir is the folder of the bundle with the pinned versions: a change of
// a version, of a build module or of the recipe is another folder.
func DefaultDir(from, arch string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", remote.Hint(fmt.Errorf("find the cache folder: %w", err), "set HOME or name a folder with --dir")
	}
	o := Options{From: from, Arch: arch}
	h := sha256.New()
	fmt.Fprintf(h, "recipe %s %s %s\n", recipe, o.origin(), arch)
	for _, a := range catalog() {
		fmt.Fprintf(h, "%s %s %s\n", a.Name, a.Version, a.File)
	}
	if err := fs.WalkDir(modules, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := modules.ReadFile(p)
		fmt.Fprintf(h, "%s %x\n", p, sha256.Sum256(raw))
		return err
	}); err != nil {
		return "", fmt.Errorf("hash build modules: %w", err)
	}
	key := fmt.Sprintf("%s-%s-%s-%s", versions.Kubernetes, arch, o.origin(), hex.EncodeToString(h.Sum(nil))[:10])
	return filepath.Join(cache, "hactl", "bundle", key), nil
}
