package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	registryserver "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	registry "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

// releases is a local mirror with the layout of the real hosts, paths and file
// formats alike; its contents are small.
type releases struct {
	files map[string][]byte // by path
	blobs http.Handler
}

func (m *releases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/mirror")
	if strings.HasPrefix(path, "/v2/") {
		r.URL.Path = path
		m.blobs.ServeHTTP(w, r)
		return
	}
	raw, ok := m.files[path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(raw)
}

func (m *releases) add(path string, content []byte, sums, form string) {
	h := sha256.Sum256(content)
	m.files[path] = content
	m.files[sums] = append(m.files[sums], fmt.Sprintf(form, hex.EncodeToString(h[:]))...)
}

func tgz(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, n := range names {
		body := "binary of " + n
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func testImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func archive(t *testing.T, ref, arch string) []byte {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, testImage(t, arch), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newReleases fills a mirror with everything of the pinned versions. Paths are
// written out here, apart from the code under test.
func newReleases(t *testing.T) (m *releases, base string) {
	t.Helper()
	m = &releases{files: map[string][]byte{}, blobs: registryserver.New(registryserver.Logger(discardLog()))}
	const k8s = "/release/v1.36.3/bin/linux/amd64/"
	for _, n := range []string{"kubelet", "kubeadm", "kubectl"} {
		m.add(k8s+n, []byte("binary of "+n), k8s+n+".sha256", "%s")
	}
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		m.add(k8s+n+".tar", archive(t, "registry.k8s.io/"+n+"-amd64:v1.36.3", "amd64"), k8s+n+".tar.sha256", "%s")
	}
	const etcd = "/etcd-io/etcd/releases/download/v3.6.16/"
	const top = "etcd-v3.6.16-linux-amd64"
	m.add(etcd+top+".tar.gz", tgz(t, top+"/etcd", top+"/etcdctl", top+"/etcdutl"), etcd+"SHA256SUMS", "%s  "+top+".tar.gz\n")
	const cd = "/containerd/containerd/releases/download/v2.2.1/containerd-static-2.2.1-linux-amd64.tar.gz"
	m.add(cd, tgz(t, "bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"), cd+".sha256sum", "%s  containerd-static-2.2.1-linux-amd64.tar.gz\n")
	const cni = "/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz"
	m.add(cni, tgz(t, "./bridge", "./loopback", "./host-local", "./portmap"), cni+".sha256", "%s  cni-plugins-linux-amd64-v1.9.1.tgz\n")
	const runc = "/opencontainers/runc/releases/download/v1.3.4/"
	m.add(runc+"runc.amd64", []byte("binary of runc"), runc+"runc.sha256sum", "%s *runc.amd64\n")
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	for _, repo := range []string{"coredns/coredns:v1.14.2", "pause:3.10.2", "flannel-io/flannel:v0.28.4"} {
		m.push(t, server.URL, repo, "amd64")
	}
	return m, server.URL + "/mirror"
}

func (m *releases) push(t *testing.T, server, repo, arch string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(u.Host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Write(tag, testImage(t, arch)); err != nil {
		t.Fatal(err)
	}
}

func TestUpstreamBundleIsFilledFromAMirror(t *testing.T) {
	_, mirror := newReleases(t)
	t.Setenv("PATH", t.TempDir()) // no go: the demo image is left out
	o := Options{Dir: filepath.Join(t.TempDir(), "b"), From: Upstream, Mirror: mirror, Arch: "amd64"}
	b, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err, remote.HintOf(err))
	}
	if err := b.Verify(); err != nil {
		t.Error(err)
	}
	if len(b.Artifacts) != len(catalog(versions.OfDefault()))-2+1 {
		t.Errorf("%d artifacts", len(b.Artifacts))
	}
	for file, want := range map[string]string{"kubelet": "binary of kubelet", "etcdctl": "binary of etcd-v3.6.16-linux-amd64/etcdctl", "bridge": "binary of ./bridge", "ctr": "binary of bin/ctr", "runc": "binary of runc"} {
		a, _ := b.Lookup(file)
		if raw, err := os.ReadFile(b.Path(a)); err != nil || string(raw) != want {
			t.Errorf("%s: %q, %v", file, raw, err)
		}
	}
	for _, image := range []string{"kube-apiserver", "coredns", "flannel"} {
		a, _ := b.Lookup(image)
		tag, err := name.NewTag(a.Image)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(b.Path(a), &tag)
		if err != nil {
			t.Fatalf("%s is not in its archive under the name %s: %v", image, a.Image, err)
		}
		if id, err := img.ConfigName(); err != nil || id.String() != a.ImageID {
			t.Errorf("%s: id %s, %v, manifest %s", image, id, err, a.ImageID)
		}
	}
	if again, err := Ensure(t.Context(), o); err != nil || again.Manifest.Origin != Upstream {
		t.Errorf("second time: %v", err)
	}
}

func TestUpstreamTroubleIsNamed(t *testing.T) {
	const k8s = "/release/v1.36.3/bin/linux/amd64/"
	const etcd = "/etcd-io/etcd/releases/download/v3.6.16/etcd-v3.6.16-linux-amd64.tar.gz"
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, m *releases, server string)
		want  string
	}{
		{"a changed binary", func(_ *testing.T, m *releases, _ string) { m.files[k8s+"kubeadm"] = []byte("evil") }, "make kubeadm: checksum mismatch"},
		{"a missing checksum file", func(_ *testing.T, m *releases, _ string) { delete(m.files, k8s+"kubeadm.sha256") }, "404"},
		{"an archive without the file", func(t *testing.T, m *releases, _ string) {
			t.Helper()
			delete(m.files, "/etcd-io/etcd/releases/download/v3.6.16/SHA256SUMS")
			m.add(etcd, tgz(t, "else/etcd", "else/etcdctl", "else/etcdutl"), "/etcd-io/etcd/releases/download/v3.6.16/SHA256SUMS", "%s  etcd-v3.6.16-linux-amd64.tar.gz\n")
		}, "file does not exist"},
		{"an image that is not there", func(_ *testing.T, m *releases, _ string) {
			m.blobs = registryserver.New(registryserver.Logger(discardLog()))
		}, "fetch registry.k8s.io/coredns/coredns:v1.14.2"},
		{"an image of another architecture", func(t *testing.T, m *releases, server string) { m.push(t, server, "pause:3.10.2", "arm64") }, "arm64"},
		{"an archive of another architecture", func(t *testing.T, m *releases, _ string) {
			delete(m.files, k8s+"kube-proxy.tar.sha256")
			m.add(k8s+"kube-proxy.tar", archive(t, "x:y", "arm64"), k8s+"kube-proxy.tar.sha256", "%s")
		}, "linux/arm64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, mirror := newReleases(t)
			c.spoil(t, m, strings.TrimSuffix(mirror, "/mirror"))
			t.Setenv("PATH", t.TempDir())
			dir := filepath.Join(t.TempDir(), "b")
			_, err := Ensure(t.Context(), Options{Dir: dir, From: Upstream, Mirror: mirror, Arch: "amd64", Jobs: 1})
			if err == nil || !strings.Contains(err.Error(), c.want) || remote.HintOf(err) == "" {
				t.Errorf("error %v, hint %q", err, remote.HintOf(err))
			}
			if _, err := Open(dir); !errors.Is(err, ErrIncomplete) {
				t.Errorf("left something that opens: %v", err)
			}
		})
	}
}

func TestEveryArtifactHasAReleaseOrARegistry(t *testing.T) {
	for _, a := range append(catalog(versions.OfDefault()), runcArtifact(versions.OfDefault())) {
		r, ok := releaseOf(a, "arm64")
		if !ok && a.Kind == Binary {
			t.Errorf("%s: a binary without a release", a.Name)
		}
		for _, u := range []string{r.url, r.sums} {
			if ok && (!strings.HasPrefix(u, "https://") || strings.Contains(u, "amd64")) {
				t.Errorf("%s: %s", a.Name, u)
			}
		}
	}
}
