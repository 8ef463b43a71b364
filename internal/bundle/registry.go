package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	registry "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"hactl/internal/remote"
)

// imageArchive fetches a docker-archive of a release and writes it under the
// name that the cluster calls: in releases the names carry the architecture
// ("kube-apiserver-amd64").
func (f *fetcher) imageArchive(ctx context.Context, r release, ref, arch, out string, note func(string)) (string, error) {
	got, err := f.file(ctx, r.url, r.sums, note)
	if err != nil {
		return "", err
	}
	img, err := tarball.ImageFromPath(got, nil)
	if err != nil {
		return "", fmt.Errorf("read image archive: %w", err)
	}
	return save(img, ref, arch, out)
}

// pullTimeout bounds one image, some tens of megabytes, on a slow line.
const pullTimeout = 15 * time.Minute

// pull fetches an image from its registry. Every blob is checked against its
// digest, and the digests against the manifest that the tag names.
func (f *fetcher) pull(ctx context.Context, ref, arch, out string, note func(string)) (string, error) {
	note("pulling " + ref)
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("name image: %w", err)
	}
	img, err := registry.Image(tag, registry.WithContext(ctx), registry.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}),
		registry.WithTransport(&mirrored{fetcher: f, host: tag.RegistryStr()}))
	if err != nil {
		return "", remote.Hint(fmt.Errorf("%w %s: %w", ErrFetch, ref, err), "%s", f.missingHint())
	}
	id, err := save(img, ref, arch, out)
	if err != nil {
		return "", fmt.Errorf("%w %s: %w", ErrFetch, ref, err)
	}
	return id, nil
}

// mirrored sends the requests that are meant for a registry to the mirror.
type mirrored struct {
	*fetcher
	host string
}

// RoundTrip is one request, to the registry itself where there is no mirror.
func (m *mirrored) RoundTrip(req *http.Request) (*http.Response, error) {
	if m.mirror != nil && req.URL.Host == m.host {
		req = req.Clone(req.Context())
		u, err := req.URL.Parse(m.locate(*req.URL))
		if err != nil {
			return nil, err
		}
		req.URL, req.Host = u, u.Host
	}
	return http.DefaultTransport.RoundTrip(req)
}

// save writes an image of the wanted architecture as a docker-archive.
func save(img v1.Image, ref, arch, out string) (id string, err error) {
	cfg, err := img.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("read image config: %w", err)
	}
	if cfg.Architecture != arch || cfg.OS != "linux" {
		return "", fmt.Errorf("image is for %s/%s, linux/%s is wanted", cfg.OS, cfg.Architecture, arch)
	}
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("name image: %w", err)
	}
	file, err := os.Create(out)
	if err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	err = tarball.Write(tag, img, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("write image: %w", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		return "", fmt.Errorf("name image: %w", err)
	}
	return digest.String(), nil
}
