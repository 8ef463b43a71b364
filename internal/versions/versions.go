// Package versions pins, in this one file, every version that hactl installs.
package versions

// Pinned versions. Kubernetes, CoreDNS and pause go together (kubeadm's
// constants of that release); etcd is at or past the releases that fixed the
// 2026 security advisories (3.6.14, 3.7.1).
const (
	Kubernetes = "v1.36.3"
	Etcd       = "v3.6.16"
	Containerd = "v2.2.1"
	Runc       = "v1.1.5" // Debian's package runs with containerd 2.2
	// RuncRelease is what containerd 2.2.1 is tested with; bundles of releases carry it.
	RuncRelease = "v1.3.4"
	CNIPlugins  = "v1.9.1"
	CoreDNS     = "v1.14.2"
	Flannel     = "v0.28.4"
	Pause       = "3.10.2"
)

// ImageRepository is where kubeadm expects the control-plane images; hosts
// never pull from it, the bundle's archives carry these names.
const ImageRepository = "registry.k8s.io"
