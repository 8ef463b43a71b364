package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hactl/internal/versions"
)

// siblings lists the folders beside this one that hold other sets made in the same
// way: an artifact of the same name and version is the same bytes there. Only
// names that this hactl gives are taken; a folder of an older recipe is not.
func (o Options) siblings() []string {
	var out []string
	root := filepath.Dir(o.Dir)
	for _, set := range variants() {
		other := o
		other.Set = set
		for _, name := range []func() (string, error){other.key, other.formerKey} {
			key, err := name()
			if err != nil {
				continue
			}
			if dir := filepath.Join(root, key); dir != o.Dir && (isFile(filepath.Join(dir, manifestName)) || isFile(filepath.Join(dir, partialName))) {
				out = append(out, dir)
			}
		}
	}
	return out
}

// variants lists every known set with every etcd and containerd that goes with it.
func variants() []versions.Set {
	var out []versions.Set
	for _, set := range versions.Sets() {
		m, _ := versions.MinorOf(set.Kubernetes)
		for _, e := range m.Etcd {
			for _, c := range m.Containerd {
				out = append(out, set.With(e, c))
			}
		}
	}
	return out
}

// share takes an artifact from another set's folder: a second name of the same
// file, or a copy where the file system has no hard links. The bytes are hashed
// first. from is empty when no other set has it.
func (f *filler) share(j job) (a Artifact, from string, err error) {
	for _, dir := range f.siblings {
		a, ok := artifactIn(dir, j, f.origin())
		if !ok || verify(dir, a) != nil {
			continue
		}
		work, final := filepath.Join(f.work(), a.Name), filepath.Join(f.Dir, filepath.FromSlash(a.File))
		if err := linkOrCopy(filepath.Join(dir, filepath.FromSlash(a.File)), work); err != nil {
			return a, "", fmt.Errorf("share %s with %s: %w", a.Name, dir, err)
		}
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return a, "", fmt.Errorf("make folder: %w", err)
		}
		if err := os.Rename(work, final); err != nil {
			return a, "", fmt.Errorf("put in place: %w", err)
		}
		return a, dir, nil
	}
	return Artifact{}, "", nil
}

func artifactIn(dir string, j job, origin string) (Artifact, bool) {
	for _, name := range []string{manifestName, partialName} {
		m, _, err := readManifest(filepath.Join(dir, name))
		if err != nil || m.Origin != origin {
			continue
		}
		for _, a := range m.Artifacts {
			if j.same(a) {
				return a, true
			}
		}
	}
	return Artifact{}, false
}

// linkOrCopy gives from a second name. Rename does nothing when both names are
// already the same file, so what lies at to is removed first.
func linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	return copyFile(from, to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
