package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// ExtractProgram writes to a file the program of that name out of an image of the
// bundle, with mode 0755.
func (b *Bundle) ExtractProgram(a Artifact, name, to string) error {
	img, err := tarball.ImageFromPath(b.Path(a), nil)
	if err != nil {
		return fmt.Errorf("read image %s: %w", a.Name, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("read image %s: %w", a.Name, err)
	}
	for _, l := range layers {
		found, err := extractFrom(l, name, to)
		if err != nil {
			return fmt.Errorf("take %s out of image %s: %w", name, a.Name, err)
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("there is no %s in image %s", name, a.Name)
}

func extractFrom(l v1.Layer, name, to string) (bool, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if h.Typeflag != tar.TypeReg || path.Base(h.Name) != name {
			continue
		}
		f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) //nolint:gosec // a program
		if err != nil {
			return false, err
		}
		_, err = io.Copy(f, t) //nolint:gosec // the bundle's own image
		return true, errors.Join(err, f.Close())
	}
}
