package kubeadm

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"hactl/internal/plan"
	"hactl/inventory"
)

// extraFiles are the operator's files for the apiservers, by name.
type extraFiles map[string][]byte

// maxExtraFile is the size of the largest file, in bytes.
const maxExtraFile = 1 << 20

func (c Cluster) extraFiles() (extraFiles, error) {
	out := extraFiles{}
	for name, path := range c.Inv.Kubernetes.Files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read kubernetes.files.%s: %w", name, err)
		}
		if len(b) > maxExtraFile {
			return nil, fmt.Errorf("read kubernetes.files.%s: %s has more than %d bytes", name, path, maxExtraFile)
		}
		out[name] = b
	}
	return out, nil
}

// sum names the files by names and content; "" when there are none.
func (f extraFiles) sum() string {
	if len(f) == 0 {
		return ""
	}
	var parts [][]byte
	for _, name := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, []byte(name), f[name])
	}
	return plan.Digest(parts...)
}

// steps lay the files down on a master, before an apiserver starts there.
func (f extraFiles) steps(h *inventory.Host) (steps []plan.Step) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		steps = append(steps, plan.File{
			ID: id(h, "file-"+name), Host: h.Name, Path: inventory.FilesDir + "/" + name, Content: f[name], Mode: 0o600, Secret: true, Lane: Lane,
		}.Step())
	}
	return steps
}
