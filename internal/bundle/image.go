package bundle

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageSpec describes an image made here: one static binary, sometimes with
// the network tools beside it.
type imageSpec struct {
	Ref    string // full reference with a tag
	Arch   string
	Binary string   // where the binary lies in the image; it is the entry point
	User   string   // "uid:gid"; empty: root
	Env    []string // beyond PATH
	Tools  bool     // nft, conntrack and iptables with their libraries
}

// entry is one file of a layer: a copy of From, Content, or a link to Link.
type entry struct {
	Path    string // absolute
	From    string
	Content string
	Link    string
	Mode    int64
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// epoch is the time of everything in an image: the same input makes the same
// bytes, so that hosts that have an image already are sent nothing.
var epoch = time.Unix(0, 0).UTC()

// accounts are the two files without which a program cannot tell its own user's name.
func accounts() []entry {
	return []entry{
		{Path: "/etc/passwd", Content: "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n", Mode: 0o644},
		{Path: "/etc/group", Content: "root:x:0:\nnobody:x:65534:\n", Mode: 0o644},
	}
}

// protocols are the names by which nft writes protocols. Without them it writes numbers,
// and kube-proxy, which compares what it reads with names, takes every service that is
// there when it starts for an old one and removes it.
func protocols() entry {
	return entry{Path: "/etc/protocols", Content: "icmp\t1\tICMP\ntcp\t6\tTCP\nudp\t17\tUDP\nipv6-icmp\t58\tIPv6-ICMP\nsctp\t132\tSCTP\n", Mode: 0o644}
}

// writeImage writes a docker-archive to out and returns the image's ID. work is
// a folder for the layers.
func writeImage(out, work string, spec imageSpec, layers [][]entry) (id string, err error) {
	img, err := assemble(work, spec, layers)
	if err != nil {
		return "", fmt.Errorf("assemble image: %w", err)
	}
	return save(img, spec.Ref, spec.Arch, out)
}

func assemble(work string, spec imageSpec, layers [][]entry) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.DockerManifestSchema2)
	for i, files := range layers {
		l, err := writeLayer(filepath.Join(work, fmt.Sprintf("layer-%d", i)), files)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Created = "linux", spec.Arch, v1.Time{Time: epoch}
	cfg.History = nil
	cfg.Config = v1.Config{Entrypoint: []string{spec.Binary}, User: spec.User, Env: append([]string{searchPath}, spec.Env...), WorkingDir: "/"}
	return mutate.ConfigFile(img, cfg)
}

func tarEntries(w io.Writer, files []entry) error {
	tw := tar.NewWriter(w)
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	made := map[string]bool{".": true}
	folder := func(dir string, mode int64) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: epoch})
	}
	if err := folder("tmp", 0o1777); err != nil {
		return err
	}
	for _, e := range files {
		rel := strings.TrimPrefix(path.Clean(e.Path), "/")
		for i, c := range rel {
			if c == '/' {
				if err := folder(rel[:i], 0o755); err != nil {
					return err
				}
			}
		}
		if err := tarEntry(tw, rel, e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return tw.Close()
}

func tarEntry(tw *tar.Writer, rel string, e entry) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: e.Mode, ModTime: epoch, Size: int64(len(e.Content))}
	var from io.Reader = bytes.NewReader([]byte(e.Content))
	switch {
	case e.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
	case e.From != "":
		f, err := os.Open(e.From)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		h.Size, from = st.Size(), f
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(tw, from)
	return err
}
