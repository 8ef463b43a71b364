package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"hactl/inventory"
)

// manifestName is the file that makes a folder a bundle; it is written last.
const manifestName = "manifest.json"

// ErrIncomplete says that a folder holds no complete bundle: no manifest, or
// files that are missing or do not look like those that the manifest was
// written for.
var ErrIncomplete = errors.New("bundle is not complete")

// Bundle is a complete folder of artifacts.
type Bundle struct {
	Dir string `json:"dir"` // absolute
	Manifest
}

// Open reads the bundle in dir. It looks at sizes and modification times, not
// at every byte; [Bundle.Verify] does that. The error is [ErrIncomplete] when
// there is no complete bundle, and another one for a manifest that is not to be
// trusted with paths.
func Open(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find bundle: %w", err)
	}
	m, written, err := readManifest(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no %s in %s", ErrIncomplete, manifestName, dir)
	}
	if err != nil {
		return nil, err
	}
	b := &Bundle{Dir: dir, Manifest: *m}
	for _, a := range b.Artifacts {
		st, err := os.Lstat(b.Path(a))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %s: %w", ErrIncomplete, a.File, err)
		case !st.Mode().IsRegular():
			err = fmt.Errorf("%w: %s is not a plain file", ErrIncomplete, a.File)
		case st.Size() != a.Size:
			err = fmt.Errorf("%w: %s has %d bytes, the manifest says %d", ErrIncomplete, a.File, st.Size(), a.Size)
		case st.ModTime().After(written.ModTime()):
			err = fmt.Errorf("%w: %s changed after the manifest was written", ErrIncomplete, a.File)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Path is where an artifact lies on this machine.
func (b *Bundle) Path(a Artifact) string { return filepath.Join(b.Dir, filepath.FromSlash(a.File)) }

// For lists what a host of the role needs, in the manifest's order: binaries
// and images whose roles name it or name none.
func (b *Bundle) For(role inventory.Role) []Artifact {
	var out []Artifact
	for _, a := range b.Artifacts {
		if a.Kind != Extra && (len(a.Roles) == 0 || slices.Contains(a.Roles, string(role))) {
			out = append(out, a)
		}
	}
	return out
}

// Lookup finds an artifact by its name.
func (b *Bundle) Lookup(name string) (Artifact, bool) {
	i := slices.IndexFunc(b.Artifacts, func(a Artifact) bool { return a.Name == name })
	if i < 0 {
		return Artifact{}, false
	}
	return b.Artifacts[i], true
}

// Size is the sum of all artifacts, in bytes.
func (b *Bundle) Size() int64 {
	var n int64
	for _, a := range b.Artifacts {
		n += a.Size
	}
	return n
}

// Verify hashes every artifact and returns one error for each that differs,
// joined. It reads the whole bundle.
func (b *Bundle) Verify() error {
	var bad []error
	for _, a := range b.Artifacts {
		if err := verify(b.Dir, a); err != nil {
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

func verify(dir string, a Artifact) error {
	sum, size, err := HashFile(filepath.Join(dir, filepath.FromSlash(a.File)))
	if err != nil {
		return fmt.Errorf("verify %s: %w", a.File, err)
	}
	if size != a.Size || sum != a.SHA256 {
		return fmt.Errorf("verify %s: %w: sha256 %s over %d bytes, the manifest says %s over %d", a.File, ErrChecksum, sum, size, a.SHA256, a.Size)
	}
	return nil
}

// maxManifest bounds what is read of a manifest: some twenty artifacts take
// ten kilobytes.
const maxManifest = 1 << 20

func readManifest(path string) (*Manifest, fs.FileInfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxManifest {
		return nil, nil, fmt.Errorf("read manifest: %s is not a plain file of at most %d bytes", path, maxManifest)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", path, err)
	}
	if err := m.validate(); err != nil {
		return nil, nil, fmt.Errorf("read manifest %s: %w", path, err)
	}
	return &m, st, nil
}
