package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

// recipe is raised when the same versions are made in another way.
const recipe = "2"

// Find is the folder that the options mean, whether it exists or not.
func Find(o Options) (string, error) {
	o, err := o.withDefaults()
	return o.Dir, err
}

// DefaultDir is the folder of the default set in the user's cache.
func DefaultDir(from, arch string) (string, error) {
	return Find(Options{From: from, Arch: arch})
}

// Root is the folder that holds the sets when no other is named.
func Root() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", remote.Hint(fmt.Errorf("find the cache folder: %w", err), "set HOME or name a folder with --dir")
	}
	return filepath.Join(cache, "hactl", "bundle"), nil
}

// withFolder replaces Dir, the folder of all sets, by the folder of this set. A
// folder that is a bundle itself, as hactl made them before there were sets, stays
// what it is for the versions that it holds; another set lies inside it.
func (o Options) withFolder() (Options, error) {
	root := o.Dir
	if root == "" {
		var err error
		if root, err = Root(); err != nil {
			return o, err
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return o, fmt.Errorf("find bundle: %w", err)
	}
	o.Dir = root
	if holdsVersions(root, o.Set) {
		return o, nil
	}
	key, err := o.key()
	o.Dir = filepath.Join(root, key)
	return o, err
}

// holdsVersions reports whether the manifest in dir, or that of a bundle that is
// being filled there, is of the set's Kubernetes, etcd and containerd.
func holdsVersions(dir string, set versions.Set) bool {
	for _, name := range []string{manifestName, partialName} {
		m, _, err := readManifest(filepath.Join(dir, name))
		if err == nil {
			return differs(m, set) == ""
		}
	}
	return false
}

// key names the set's folder: a change of a version, of a build module or of the
// recipe is another folder.
func (o Options) key() (string, error) { return o.keyFor(catalog(o.Set)) }

// formerKey is the key from before single artifacts had a recipe.
func (o Options) formerKey() (string, error) {
	all := catalog(o.Set)
	for i := range all {
		all[i].Recipe = ""
	}
	return o.keyFor(all)
}

func (o Options) keyFor(artifacts []Artifact) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "recipe %s %s %s\n", recipe, o.origin(), o.Arch)
	for _, a := range artifacts {
		fmt.Fprintf(h, "%s %s %s\n", a.Name, a.Version, a.File)
		if a.Recipe != "" {
			fmt.Fprintf(h, "recipe %s\n", a.Recipe)
		}
	}
	for _, project := range projects(o.Set) {
		if err := hashModule(h, project); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s-%s-%s-%s", o.Set.Kubernetes, o.Arch, o.origin(), hex.EncodeToString(h.Sum(nil))[:10]), nil
}

// projects lists the build modules that the set is made with, sorted.
func projects(set versions.Set) []string {
	seen := map[string]bool{}
	for _, p := range programs(set) {
		seen[p.module] = true
	}
	out := make([]string, 0, len(seen))
	for m := range seen {
		out = append(out, m)
	}
	slices.Sort(out)
	return out
}

// hashModule writes a module's files to h under names without the version, as they
// were before there were several of a project, so that a folder keeps its name. A
// version that has no module, of a release only, adds nothing.
func hashModule(h interface{ Write([]byte) (int, error) }, module string) error {
	dir := path.Join("modules", module)
	entries, err := fs.ReadDir(modules, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hash build modules: %w", err)
	}
	project, _, _ := strings.Cut(module, "/")
	for _, e := range entries {
		raw, err := modules.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("hash build modules: %w", err)
		}
		fmt.Fprintf(h, "%s %x\n", path.Join("modules", project, e.Name()), sha256.Sum256(raw))
	}
	return nil
}

// In lists the bundles in dir: dir itself, and every folder in it that has a
// manifest, sorted by name. It does not say whether they are complete.
func In(dir string) []string {
	var out []string
	if isFile(filepath.Join(dir, manifestName)) {
		out = append(out, dir)
	}
	found, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*", manifestName))
	if err != nil { // only a malformed pattern
		return out
	}
	for _, f := range found {
		out = append(out, filepath.Dir(f))
	}
	return out
}

// escapeGlob takes the meaning from the characters of a folder's name.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
