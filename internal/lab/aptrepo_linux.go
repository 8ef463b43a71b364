package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// repoPath is where a --bare host sees its apt repository: a folder, because
// the host has no route to a server.
const repoPath = "/srv/apt"

// downloadPackages fills the folder repo with the packages of a full base. debootstrap
// resolves the dependencies: it is asked to download a full base.
func downloadPackages(ctx context.Context, system, tmp, repo, debs string, report func(string)) error {
	report("collecting the packages that bare hosts can install")
	scratch := filepath.Join(tmp, "download")
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"debootstrap", "--download-only", "--variant=minbase", "--cache-dir=" + debs, "--include=" + strings.Join(basePackages(system, false), ","), suite(system), scratch}
	if m := os.Getenv("HACTL_DEBIAN_MIRROR"); m != "" {
		args = append(args, m)
	}
	if out, err := exec.CommandContext(ctx, "unshare", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("download packages: %w: %s", err, lastLine(out))
	}
	if err := os.Rename(filepath.Join(scratch, "var/cache/apt/archives"), repo); err != nil {
		return err
	}
	return removeTree(scratch)
}

// indexRepository writes the Packages file for the .deb files of a folder, by which apt
// takes them from there.
func indexRepository(ctx context.Context, repo string) error {
	files, err := filepath.Glob(filepath.Join(repo, "*.deb"))
	if err != nil {
		return err
	}
	var index bytes.Buffer
	for _, f := range files {
		control, err := exec.CommandContext(ctx, "dpkg-deb", "-f", f).Output()
		if err != nil {
			return fmt.Errorf("read control of %s: %w", filepath.Base(f), err)
		}
		sum, size, err := hashFile(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", bytes.TrimSpace(control), filepath.Base(f), size, sum)
	}
	return os.WriteFile(filepath.Join(repo, "Packages"), index.Bytes(), 0o644)
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
