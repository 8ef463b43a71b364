// Package versions says what hactl installs: for each Kubernetes minor the
// patches that are known, the parts that go with them, and what changed in flags
// and feature gates. It is data: nothing here looks at a host or at the network.
package versions

import (
	"slices"

	"golang.org/x/mod/semver"
)

// ImageRepository is where kubeadm expects the control-plane images; hosts
// never pull from it, the bundle's archives carry these names.
const ImageRepository = "registry.k8s.io"

// Default is the Kubernetes version of a new cluster whose inventory names none.
const Default = "v1.36.3"

// Set is one version of each part. They go together.
type Set struct {
	Kubernetes string `json:"kubernetes"`
	Etcd       string `json:"etcd"`
	Containerd string `json:"containerd"`
	Runc       string `json:"runc"` // the release that a bundle of releases carries; a bundle from source leaves runc to the distribution
	CNIPlugins string `json:"cni_plugins"`
	CoreDNS    string `json:"coredns"`
	Flannel    string `json:"flannel"`
	Pause      string `json:"pause"` // without a leading v, as its image is tagged
	KubeadmDNS string `json:"-"`     // the CoreDNS that this kubeadm installs when its configuration names none
}

// Minor is one Kubernetes minor.
type Minor struct {
	Name    string   // "v1.36"
	Patches []string // known patches, oldest first
	// EndOfLife is the month in which the project's support ends, "2027-06": 14
	// months after the first release (https://kubernetes.io/releases/patch-releases/).
	EndOfLife  string
	Etcd       []string // that go with it; the first is installed when the inventory names none
	Containerd []string // likewise
	Gone       Gone     // what this minor no longer accepts
	parts      Set      // without Kubernetes, Etcd and Containerd
}

// Gone lists what the minor before still accepted. A component that is given one
// of them does not start, so the inventory's extra arguments are compared with it.
type Gone struct {
	KubeletFlags    []string
	ControllerFlags []string
	FeatureGates    []string // of any Kubernetes component
	KubeadmGates    []string // of ClusterConfiguration.featureGates
	KubeadmAPIs     []string // kubeadm.k8s.io versions
}

// Minors returns every known minor, oldest first. The table is in minors.go.
func Minors() []Minor { return slices.Clone(minors) }

// Known lists every known Kubernetes version, oldest first.
func Known() []string {
	var out []string
	for _, m := range minors {
		out = append(out, m.Patches...)
	}
	return out
}

// MinorOf finds the minor that a Kubernetes version belongs to.
func MinorOf(kubernetes string) (Minor, bool) {
	if semver.Canonical(kubernetes) != kubernetes {
		return Minor{}, false // "v1.36" is a minor, and no version
	}
	for _, m := range minors {
		if semver.MajorMinor(kubernetes) == m.Name {
			return m, true
		}
	}
	return Minor{}, false
}

// For is the set of a Kubernetes version. A patch that is not known gets the
// parts of its minor. The result is false for a minor that is not known.
func For(kubernetes string) (Set, bool) {
	m, ok := MinorOf(kubernetes)
	if !ok {
		return Set{}, false
	}
	return m.set(kubernetes), true
}

func (m Minor) set(kubernetes string) Set {
	s := m.parts
	s.Kubernetes, s.Etcd, s.Containerd = kubernetes, m.Etcd[0], m.Containerd[0]
	return s
}

// OfDefault is the set of [Default].
func OfDefault() Set {
	s, _ := For(Default)
	return s
}

// Sets returns the set of every known Kubernetes version, oldest first.
func Sets() []Set {
	var out []Set
	for _, m := range minors {
		for _, p := range m.Patches {
			out = append(out, m.set(p))
		}
	}
	return out
}

// With is the set with another etcd and containerd; an empty one stays.
func (s Set) With(etcd, containerd string) Set {
	if etcd != "" {
		s.Etcd = etcd
	}
	if containerd != "" {
		s.Containerd = containerd
	}
	return s
}

// DNSTag is the tag of CoreDNS' image that kubeadm has to be told, or "" where
// it is kubeadm's own.
func (s Set) DNSTag() string {
	if s.CoreDNS == s.KubeadmDNS {
		return ""
	}
	return s.CoreDNS
}

// CoreDNSImage is CoreDNS under the name that kubeadm gives it.
func (s Set) CoreDNSImage() string { return ImageRepository + "/coredns/coredns:" + s.CoreDNS }

// PauseImage is the sandbox image; containerd and the bundle must name the same.
func (s Set) PauseImage() string { return ImageRepository + "/pause:" + s.Pause }

// FlannelImage is flannel under the name that its project gives it.
func (s Set) FlannelImage() string { return "ghcr.io/flannel-io/flannel:" + s.Flannel }

// Fit says how well a version fits into a list of known ones.
type Fit int

// How well a version fits.
const (
	Foreign Fit = iota // of no minor in the list
	Older              // an older patch than any of that minor in the list
	Patch              // a later patch than one of that minor in the list
	Listed             // in the list
)

// FitOf compares a version, "vX.Y.Z", with a list of known ones.
func FitOf(version string, known []string) Fit {
	if slices.Contains(known, version) {
		return Listed
	}
	fit := Foreign
	for _, k := range known {
		switch {
		case !semver.IsValid(version) || semver.MajorMinor(k) != semver.MajorMinor(version):
		case semver.Compare(version, k) > 0:
			fit = Patch
		case fit == Foreign:
			fit = Older
		}
	}
	return fit
}
