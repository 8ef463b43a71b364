// Package bundle knows the artifacts that a host needs, where they come from
// and what they must hash to. A bundle is a folder with a manifest.json and the
// files it names; it is filled once and cached by version.
package bundle

// Kind says how an artifact is used on a host.
type Kind string

// The kinds of artifacts.
const (
	Binary Kind = "binary" // an executable with a fixed place
	Image  Kind = "image"  // a docker-archive for containerd's k8s.io namespace
	Extra  Kind = "extra"  // kept in the bundle, not sent by default
)

// Artifact is one file of a bundle.
type Artifact struct {
	Name    string   `json:"name"` // "kubelet", "kube-apiserver"
	Kind    Kind     `json:"kind"`
	Version string   `json:"version"`           // "v1.36.3"
	File    string   `json:"file"`              // path inside the bundle, slash-separated, relative
	SHA256  string   `json:"sha256"`            // of the file, lower-case hex
	Size    int64    `json:"size"`              // bytes
	Dest    string   `json:"dest,omitempty"`    // absolute path on a host, binaries only
	Roles   []string `json:"roles,omitempty"`   // inventory roles that need it; empty: all
	Image   string   `json:"image,omitempty"`   // full reference: "registry.k8s.io/kube-apiserver:v1.36.3"
	ImageID string   `json:"imageID,omitempty"` // digest of the image's config, "sha256:…"
	Recipe  string   `json:"recipe,omitempty"`  // how it is made, where that has changed since the recipe of all
}

// Demo reports whether it is an image of the demo workload, which a cluster runs
// without.
func (a Artifact) Demo() bool { return a.Image == DemoImage || a.Image == DemoImageNext }

// Manifest is manifest.json.
type Manifest struct {
	Schema    int        `json:"schema"` // 1
	Arch      string     `json:"arch"`   // "amd64", "arm64"
	Origin    string     `json:"origin"` // "source" or "upstream"
	Artifacts []Artifact `json:"artifacts"`
}
