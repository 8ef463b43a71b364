package bundle

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func writeTestImage(t *testing.T) (archive, id string) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "binary")
	if err := os.WriteFile(bin, []byte(strings.Repeat("binary ", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(dir, "image.tar")
	spec := imageSpec{Ref: "registry.hactl.invalid/test:v1", Arch: "amd64", Binary: "/usr/local/bin/test", User: "65532:65532", Env: []string{"A=b"}}
	tools := []entry{{Path: "/usr/sbin/tool", Content: "x", Mode: 0o755}, {Path: "/usr/sbin/alias", Link: "tool"}}
	id, err := writeImage(archive, dir, spec, [][]entry{tools, append(accounts(), entry{Path: spec.Binary, From: bin, Mode: 0o755})})
	if err != nil {
		t.Fatal(err)
	}
	return archive, id
}

func TestTheSameImageIsTheSameBytes(t *testing.T) {
	one, id := writeTestImage(t)
	sum, _, err := HashFile(one)
	if err != nil {
		t.Fatal(err)
	}
	two, id2 := writeTestImage(t)
	sum2, _, err := HashFile(two)
	if err != nil || sum != sum2 || id != id2 {
		t.Errorf("%s %s and %s %s, %v", sum, id, sum2, id2, err)
	}
}

// The apiserver's program exists in its image alone, and a cage runs it by itself.
func TestProgramIsTakenOutOfItsImage(t *testing.T) {
	archive, _ := writeTestImage(t)
	b := &Bundle{Dir: filepath.Dir(archive)}
	to := filepath.Join(t.TempDir(), "test")
	a := Artifact{Name: "test", File: filepath.Base(archive)}
	if err := b.ExtractProgram(a, "test", to); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to) //nolint:gosec // of this test
	if st, serr := os.Stat(to); err != nil || serr != nil || string(got) != strings.Repeat("binary ", 1<<16) || st.Mode().Perm() != 0o755 {
		t.Errorf("%d bytes, %v, %v", len(got), err, serr)
	}
	if err := b.ExtractProgram(a, "other", to); err == nil || !strings.Contains(err.Error(), "no other in image test") {
		t.Errorf("got %v", err)
	}
}

func TestImageArchiveLoadsWithItsConfig(t *testing.T) {
	archive, id := writeTestImage(t)
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil || len(m) != 1 || !slices.Equal(m[0].RepoTags, []string{"registry.hactl.invalid/test:v1"}) || m[0].Config != id {
		t.Errorf("manifest %+v, %v; id %s", m, err, id)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.Config
	if cfg.Architecture != "amd64" || cfg.OS != "linux" || c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/local/bin/test"}) || !slices.Equal(c.Env, []string{searchPath, "A=b"}) {
		t.Errorf("config %+v", cfg)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 || len(cfg.RootFS.DiffIDs) != 2 {
		t.Fatalf("%d layers, %d diff ids, %v", len(layers), len(cfg.RootFS.DiffIDs), err)
	}
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := v1.SHA256(r)
		if err != nil || h != cfg.RootFS.DiffIDs[i] {
			t.Errorf("layer %d unpacks to %s, the config says %s (%v)", i, h, cfg.RootFS.DiffIDs[i], err)
		}
	}
	r, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := "tmp/ etc/ etc/group etc/passwd usr/ usr/local/ usr/local/bin/ usr/local/bin/test"
	if got := strings.Join(tarNames(t, r), " "); got != want {
		t.Errorf("layer holds %s\nwant        %s", got, want)
	}
}

func tarNames(t *testing.T, r io.Reader) (names []string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: time %s, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		names = append(names, h.Name)
	}
}

func TestImageOfAnotherArchitectureIsRefused(t *testing.T) {
	archive, _ := writeTestImage(t)
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := save(img, "registry.hactl.invalid/test:v1", "arm64", archive+".arm64"); err == nil || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("saved: %v", err)
	}
}
