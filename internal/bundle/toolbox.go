package bundle

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/remote"
)

// ToolPackages are the Debian packages whose programs go into the images of
// kube-proxy and flannel. They need not be installed where the bundle is built
// from source: they are downloaded then, which takes apt-get and dpkg-deb and
// an up-to-date package index.
var ToolPackages = []string{"nftables", "conntrack", "iptables"}

// BuildPackages are the Debian packages that a build from source needs besides
// Go: flannel is linked against the static C library.
var BuildPackages = []string{"gcc", "libc6-dev"}

// toolPrograms are taken into the images, with every library that they need.
var toolPrograms = []string{"/usr/sbin/nft", "/usr/sbin/conntrack", "/usr/sbin/xtables-nft-multi"}

// toolLinks are the names that iptables' one program goes by.
var toolLinks = []string{
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
	"iptables-nft", "iptables-nft-save", "iptables-nft-restore", "ip6tables-nft", "ip6tables-nft-save", "ip6tables-nft-restore",
}

// toolbox finds the network tools once, for all images.
type toolbox struct {
	root  string // where the programs may be installed: /
	dir   string // for downloaded packages
	mu    sync.Mutex
	files []entry
}

// collect lists the tools, their libraries and links as files of a layer: from
// this machine where all are installed, else from downloaded packages.
func (t *toolbox) collect(ctx context.Context, note func(string)) ([]entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files != nil {
		return t.files, nil
	}
	root := t.root
	if !hasAll(root, toolPrograms) {
		root = t.dir
		if err := unpackPackages(ctx, root, note); err != nil {
			return nil, remote.Hint(fmt.Errorf("fetch network tools: %w", err), "apt-get update, or apt-get install %s, then hactl bundle again", strings.Join(ToolPackages, " "))
		}
	}
	files, err := closure(root, toolPrograms)
	if err != nil {
		return nil, fmt.Errorf("collect network tools: %w", err)
	}
	t.files = append(files, protocols())
	return t.files, nil
}

func hasAll(root string, paths []string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool {
		st, err := os.Stat(filepath.Join(root, p))
		return err != nil || !st.Mode().IsRegular()
	})
}

// packageTimeout bounds the download of some twenty small packages.
const packageTimeout = 5 * time.Minute

func unpackPackages(ctx context.Context, root string, note func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, packageTimeout)
	defer cancel()
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	names, err := dependencies(ctx)
	if err != nil {
		return err
	}
	debs := root + "-debs"
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	get := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, names...)...)
	get.Dir = debs
	if out, err := runNoting(get, note); err != nil {
		return fmt.Errorf("apt-get download: %w: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", f, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(f), err, out)
		}
	}
	return nil
}

// dependencies asks the package index for everything that the tools depend on.
func dependencies(ctx context.Context) ([]string, error) {
	args := []string{"depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"}
	out, err := exec.CommandContext(ctx, "apt-cache", append(args, ToolPackages...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache depends: %w", err)
	}
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if n := s.Text(); n != "" && n[0] >= 'a' && n[0] <= 'z' { // relations are indented, virtual packages in <>
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// closure lists programs below root with all shared libraries that they load,
// iptables' extensions and the loader.
func closure(root string, programs []string) ([]entry, error) {
	c := &linker{root: root, seen: map[string]bool{}}
	for _, p := range programs {
		if err := c.add(p); err != nil {
			return nil, err
		}
	}
	extensions, err := filepath.Glob(filepath.Join(root, "usr/lib/*/xtables/*.so"))
	if err != nil {
		return nil, err
	}
	for _, e := range extensions {
		if err := c.add("/" + strings.TrimPrefix(strings.TrimPrefix(e, root), "/")); err != nil {
			return nil, err
		}
	}
	for _, n := range toolLinks {
		c.files = append(c.files, entry{Path: "/usr/sbin/" + n, Link: "xtables-nft-multi"})
	}
	return c.files, nil
}

// linker walks ELF files as ld.so would.
type linker struct {
	root  string
	seen  map[string]bool
	files []entry
}

// add takes one ELF file at its path in the image, and all that it needs.
func (c *linker) add(p string) error {
	if c.seen[p] {
		return nil
	}
	c.seen[p] = true
	real, err := c.resolve(p)
	if err != nil {
		return err
	}
	c.files = append(c.files, entry{Path: p, From: real, Mode: 0o755})
	f, err := elf.Open(real)
	if err != nil {
		return fmt.Errorf("read %s: %w", p, err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read %s: %w", p, err)
	}
	if interp := interpreter(f); interp != "" {
		if err := c.add(interp); err != nil {
			return err
		}
	}
	for _, lib := range needed {
		found, err := c.library(lib)
		if err != nil {
			return fmt.Errorf("%s needs %s: %w", p, lib, err)
		}
		if err := c.add(found); err != nil {
			return err
		}
	}
	return nil
}

func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			raw := make([]byte, p.Filesz)
			if _, err := p.ReadAt(raw, 0); err == nil {
				return strings.TrimRight(string(raw), "\x00")
			}
		}
	}
	return ""
}

// library finds a library in the folders that ld.so looks at by itself.
func (c *linker) library(soname string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib64", "/usr/lib64"} {
		hits, err := filepath.Glob(filepath.Join(c.root, pattern, soname))
		if err != nil {
			return "", err
		}
		if len(hits) > 0 {
			return "/" + strings.TrimPrefix(strings.TrimPrefix(hits[0], c.root), "/"), nil
		}
	}
	return "", fs.ErrNotExist
}

// resolve follows links inside root, where an absolute link starts at root.
func (c *linker) resolve(p string) (string, error) {
	for range 16 {
		at := filepath.Join(c.root, p)
		st, err := os.Lstat(at)
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			return at, nil
		}
		to, err := os.Readlink(at)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(p), to)
		}
		p = to
	}
	return "", errors.New("too many links")
}
