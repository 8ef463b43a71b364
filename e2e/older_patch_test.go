//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"hactl/internal/bundle"
	"hactl/internal/versions"
	"hactl/inventory"
)

// otherPatch is the default version of Kubernetes with another last digit.
func otherPatch(t *testing.T, by int) string {
	t.Helper()
	end := len(versions.Default) - 1
	last := int(versions.Default[end]) + by
	if last < '0' || last > '9' {
		t.Fatalf("no version beside %s is as long", versions.Default)
	}
	return versions.Default[:end] + string(rune(last))
}

// stamped is a bundle in dir with the programs of the default bundle, which say that they
// are of another patch: a version is as long as the other, so that it can be put in its
// place in a program. An upgrade can be run with it where no other version was built.
func stamped(t *testing.T, dir, version string) {
	t.Helper()
	from, err := bundle.Locate("", inventory.Versions{})
	if err != nil {
		t.Fatal(err)
	}
	m := from.Manifest
	m.Artifacts = append([]bundle.Artifact(nil), m.Artifacts...)
	for i := range m.Artifacts {
		a := &m.Artifacts[i]
		to := filepath.Join(dir, filepath.FromSlash(a.File))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Version != versions.Default:
			err = stampFile(from.Path(*a), to, a.Version, a.Version)
		case a.Kind == bundle.Image:
			a.Image = strings.Replace(a.Image, a.Version, version, 1)
			a.ImageID, err = stampImage(from.Path(*a), to, a.Image, a.Version, version)
		default:
			err = stampFile(from.Path(*a), to, a.Version, version)
		}
		if err == nil && a.Version == versions.Default {
			a.Version = version
			a.SHA256, a.Size, err = bundle.HashFile(to)
		}
		if err != nil {
			t.Fatalf("%s of %s: %v", a.Name, version, err)
		}
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "manifest.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func stampFile(from, to, old, version string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, bytes.ReplaceAll(data, []byte(old), []byte(version)), 0o755)
}

// stampImage writes the image again under another reference, and returns its ID.
func stampImage(from, to, ref, old, version string) (id string, err error) {
	img, err := tarball.ImageFromPath(from, nil)
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	out := empty.Image
	for _, l := range layers {
		next, err := stampLayer(l, old, version)
		if err != nil {
			return "", err
		}
		if out, err = mutate.AppendLayers(out, next); err != nil {
			return "", err
		}
	}
	before, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	config, err := out.ConfigFile()
	if err != nil {
		return "", err
	}
	after := before.DeepCopy()
	after.RootFS, after.History = config.RootFS, nil
	if out, err = mutate.ConfigFile(out, after); err != nil {
		return "", err
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return "", err
	}
	sum, err := out.ConfigName()
	if err != nil {
		return "", err
	}
	return sum.String(), tarball.WriteToFile(to, tag, out)
}

func stampLayer(l v1.Layer, old, version string) (v1.Layer, error) {
	r, err := l.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	data = bytes.ReplaceAll(data, []byte(old), []byte(version))
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, tarball.WithCompressionLevel(gzip.BestSpeed))
}
