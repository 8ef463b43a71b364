package kubeadm

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"gopkg.in/yaml.v3"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// extraFiles are the operator's files for the apiservers, by name.
type extraFiles map[string][]byte

// maxExtraFile is the size of the largest file, in bytes.
const maxExtraFile = 1 << 20

func (c Cluster) extraFiles() (extraFiles, error) {
	out := extraFiles{}
	for name, local := range c.Inv.Kubernetes.Files {
		b, err := os.ReadFile(local)
		if err != nil {
			return nil, fmt.Errorf("read kubernetes.files.%s: %w", name, err)
		}
		if len(b) > maxExtraFile {
			return nil, fmt.Errorf("read kubernetes.files.%s: %s has more than %d bytes", name, local, maxExtraFile)
		}
		out[name] = b
	}
	return out, c.anonymousPaths(out)
}

// anonymousPaths refuses an AuthenticationConfiguration under which kubelet and prober
// get no answer about an apiserver's health, or a joining worker none about the cluster:
// kubeadm waits for that for five minutes.
func (c Cluster) anonymousPaths(files extraFiles) error {
	name := path.Base(c.Inv.Kubernetes.APIServerExtraArgs["authentication-config"])
	var conf struct {
		Anonymous *struct {
			Enabled    bool
			Conditions []struct{ Path string }
		}
	}
	if err := yaml.Unmarshal(files[name], &conf); err != nil {
		return fmt.Errorf("read kubernetes.files.%s: %w", name, err)
	}
	if conf.Anonymous == nil || conf.Anonymous.Enabled && len(conf.Anonymous.Conditions) == 0 {
		return nil
	}
	for _, p := range inventory.AnonymousPaths {
		open := slices.ContainsFunc(conf.Anonymous.Conditions, func(o struct{ Path string }) bool { return o.Path == p })
		if !open || !conf.Anonymous.Enabled {
			return remote.Hint(fmt.Errorf("kubernetes.files.%s: requests without a login have to reach %s", name, p), "write there %s", inventory.AnonymousSetting())
		}
	}
	return nil
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

// filesDir holds on a master a folder for each content of the files that is in use: the
// manifest names it, so that an older manifest which is put back has its own files.
const filesDir = kubeDir + "/hactl-files.d"

// dir is the folder of these files on a master.
func (f extraFiles) dir() string { return filesDir + "/" + f.sum() }

// steps lay the files down on a master, before an apiserver starts there.
func (f extraFiles) steps(h *inventory.Host) (steps []plan.Step) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		steps = append(steps, plan.File{
			ID: id(h, "file-"+name), Host: h.Name, Path: f.dir() + "/" + name, Content: f[name], Mode: 0o600, Secret: true, Lane: Lane,
		}.Step())
	}
	return steps
}

// OldFiles returns the step that removes the files of former apiservers from a master.
// It comes after [Cluster.Manifests].
func (c Cluster) OldFiles(h *inventory.Host) (plan.Step, error) {
	f, err := c.extraFiles()
	// An older hactl had one folder for all contents.
	each := func(do string) string {
		return `for d in ` + filesDir + `/* ` + inventory.FilesDir + `; do [ ! -d "$d" ] || [ "$d" = ` + f.dir() + ` ] || ` + do + `; done`
	}
	return plan.Script{
		ID: id(h, "old-files"), Host: h.Name, Title: "files of former apiservers", Op: plan.Delete, Acts: plan.EachOf,
		Look:    `o=$(` + each(`printf ' %s' "$d"`) + `); [ -z "$o" ] && echo ok || echo "in:$o"`,
		Summary: "remove files that no apiserver reads any more",
		Run:     each(`rm -rf "$d"`),
	}.Step(), err
}
