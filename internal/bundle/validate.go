package bundle

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// schema is the manifest's version that this hactl writes and reads.
const schema = 1

// A manifest may come from a mirror or a copied folder, and what it names is
// written on hosts as root: nothing in it is taken on trust.
var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	fileForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$`)
	destForm    = regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._+-]*)+$`)
	sumForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	imageForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9][A-Za-z0-9._-]*$`)
	imageIDForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$`)
	archForm    = regexp.MustCompile(`^[a-z0-9]+$`)
)

// destFolders are the only folders that a bundle may put binaries into.
var destFolders = []string{"/usr/bin", "/usr/local/bin", "/usr/local/sbin", "/opt/cni/bin"}

func (m *Manifest) validate() error {
	if m.Schema != schema {
		return fmt.Errorf("schema %d: this hactl reads schema %d", m.Schema, schema)
	}
	if !archForm.MatchString(m.Arch) {
		return fmt.Errorf("arch %q is not a name", m.Arch)
	}
	var bad []error
	names, files := map[string]bool{}, map[string]bool{}
	for i, a := range m.Artifacts {
		if err := a.validate(); err != nil {
			bad = append(bad, fmt.Errorf("artifact %d (%q): %w", i, a.Name, err))
		}
		if names[a.Name] {
			bad = append(bad, fmt.Errorf("artifact %d: %q is named twice", i, a.Name))
		}
		if files[a.File] {
			bad = append(bad, fmt.Errorf("artifact %d: file %q is used twice", i, a.File))
		}
		names[a.Name], files[a.File] = true, true
	}
	return errors.Join(bad...)
}

func (a *Artifact) validate() error {
	switch {
	case !nameForm.MatchString(a.Name):
		return errors.New("name is not a lower-case name")
	case !versionForm.MatchString(a.Version):
		return fmt.Errorf("version %q is not a version", a.Version)
	case !fileForm.MatchString(a.File) || !filepath.IsLocal(filepath.FromSlash(a.File)) || strings.HasPrefix(a.File, manifestName):
		return fmt.Errorf("file %q is not a path inside the bundle", a.File)
	case !sumForm.MatchString(a.SHA256):
		return fmt.Errorf("sha256 %q is not 64 lower-case hex digits", a.SHA256)
	case a.Size <= 0:
		return fmt.Errorf("size %d is not a size", a.Size)
	}
	for _, r := range a.Roles {
		if !nameForm.MatchString(r) {
			return fmt.Errorf("role %q is not a role", r)
		}
	}
	return a.validateKind()
}

func (a *Artifact) validateKind() error {
	switch a.Kind {
	case Binary:
		if !destForm.MatchString(a.Dest) || !inDestFolders(a.Dest) {
			return fmt.Errorf("dest %q is not a file in one of %s", a.Dest, strings.Join(destFolders, " "))
		}
	case Image:
		if !imageForm.MatchString(a.Image) || !imageIDForm.MatchString(a.ImageID) {
			return fmt.Errorf("image %q with id %q is not an image reference and a digest", a.Image, a.ImageID)
		}
	case Extra:
	default:
		return fmt.Errorf("kind %q is none of %s, %s, %s", a.Kind, Binary, Image, Extra)
	}
	if a.Kind != Binary && a.Dest != "" {
		return fmt.Errorf("dest %q: only binaries have one", a.Dest)
	}
	return nil
}

func inDestFolders(dest string) bool {
	for _, d := range destFolders {
		if path.Dir(dest) == d {
			return true
		}
	}
	return false
}
