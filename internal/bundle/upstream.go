package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"hactl/internal/remote"
	"hactl/internal/versions"
)

// release is a file of a project's release, with its checksum file. Inside,
// when set, is the path of the binary in a .tar.gz.
type release struct {
	url, sums, inside string
}

// runcArtifact comes with releases only: a bundle built from source leaves runc
// to the hosts' distribution.
func runcArtifact(set versions.Set) Artifact {
	return Artifact{Name: "runc", Kind: Binary, Version: set.Runc, File: "bin/runc", Dest: "/usr/local/sbin/runc"}
}

// releaseOf says where upstream publishes an artifact. The second result is
// false for images, which come from a registry, and for what is made here.
func releaseOf(a Artifact, arch string) (release, bool) {
	bare := strings.TrimPrefix(a.Version, "v")
	k8s := fmt.Sprintf("https://dl.k8s.io/release/%s/bin/linux/%s/%s", a.Version, arch, a.Name)
	switch a.Name {
	case "kubelet", "kubeadm", "kubectl":
		return release{url: k8s, sums: k8s + ".sha256"}, true
	case "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy":
		return release{url: k8s + ".tar", sums: k8s + ".tar.sha256"}, true
	case "etcd", "etcdctl", "etcdutl":
		base := "https://github.com/etcd-io/etcd/releases/download/" + a.Version
		top := fmt.Sprintf("etcd-%s-linux-%s", a.Version, arch)
		return release{url: base + "/" + top + ".tar.gz", sums: base + "/SHA256SUMS", inside: top + "/" + a.Name}, true
	case "containerd", "containerd-shim-runc-v2", "ctr":
		u := fmt.Sprintf("https://github.com/containerd/containerd/releases/download/%s/containerd-static-%s-linux-%s.tar.gz", a.Version, bare, arch)
		return release{url: u, sums: u + ".sha256sum", inside: "bin/" + a.Name}, true
	case "bridge", "loopback", "host-local", "portmap":
		u := fmt.Sprintf("https://github.com/containernetworking/plugins/releases/download/%s/cni-plugins-linux-%s-%s.tgz", a.Version, arch, a.Version)
		return release{url: u, sums: u + ".sha256", inside: a.Name}, true
	case "runc":
		base := "https://github.com/opencontainers/runc/releases/download/" + a.Version
		return release{url: base + "/runc." + arch, sums: base + "/runc.sha256sum"}, true
	}
	return release{}, false
}

// upstreamJobs fetch everything that has a release. The demo image is ours: it
// is built where there is a Go toolchain and left out elsewhere.
func (o Options) upstreamJobs() ([]job, error) {
	f, err := newFetcher(filepath.Join(o.Dir, fetchFolder), o.Mirror)
	if err != nil {
		return nil, err
	}
	_, noGo := exec.LookPath("go")
	var jobs []job
	for _, a := range append(catalog(o.Set), runcArtifact(o.Set)) {
		j := job{Artifact: a}
		r, released := releaseOf(a, o.Arch)
		switch {
		case released && a.Kind == Image:
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return f.imageArchive(ctx, r, a.Image, o.Arch, out, note)
			}
		case released:
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return "", f.binary(ctx, r, out, note)
			}
		case a.Demo():
			if noGo != nil {
				continue
			}
			spec := imageSpecs()[a.Name]
			spec.Ref, spec.Arch = a.Image, o.Arch
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return buildImage(ctx, programs(o.Set)[a.Name], spec, nil, out, note)
			}
		default:
			j.make = func(ctx context.Context, out string, note func(string)) (string, error) {
				return f.pull(ctx, a.Image, o.Arch, out, note)
			}
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// binary fetches one executable, out of an archive where it comes in one.
func (f *fetcher) binary(ctx context.Context, r release, out string, note func(string)) error {
	got, err := f.file(ctx, r.url, r.sums, note)
	if err != nil {
		return err
	}
	in, err := os.Open(got)
	if err != nil {
		return fmt.Errorf("open download: %w", err)
	}
	defer in.Close()
	if r.inside == "" {
		return copyTo(out, in)
	}
	if err := extract(in, r.inside, out); err != nil {
		return remote.Hint(fmt.Errorf("extract %s from %s: %w", r.inside, path.Base(got), err), "the release has another layout than this hactl knows; hactl bundle --from source builds it")
	}
	return nil
}

// extract copies one plain file out of a .tar.gz.
func extract(in io.Reader, name, out string) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return os.ErrNotExist
		}
		if err != nil {
			return err
		}
		if path.Clean(h.Name) == name && h.Typeflag == tar.TypeReg {
			return copyTo(out, t)
		}
	}
}

func copyTo(out string, in io.Reader) error {
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	n, err := io.Copy(f, io.LimitReader(in, maxFile+1))
	if err == nil && n > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(out), err)
	}
	return nil
}
