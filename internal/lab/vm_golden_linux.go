package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"hactl/internal/bundle"
)

//go:embed golden.sh
var goldenScript string

// goldenID names a golden disk by everything that went into it.
func goldenID(base, manifest string) string {
	sum := sha256.Sum256([]byte(base + "|" + goldenScript + "|" + manifest))
	return "golden-" + vmSystem + "-" + hex.EncodeToString(sum[:6])
}

// ensureGolden returns the disk of the base with the programs and images of a bundle in it,
// and makes it when it is not there.
func ensureGolden(ctx context.Context, base, dir string, report func(string)) (disk string, err error) {
	b, err := bundle.Open(dir)
	if err != nil {
		return "", err
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return "", err
	}
	made, err := ensureMade(ctx, goldenID(filepath.Base(base), string(manifest)), "golden disk", report, func(tmp, _ string) error {
		return buildGolden(ctx, tmp, base, b, report)
	})
	return filepath.Join(made, "disk.qcow2"), err
}

// buildGolden puts every program and image of the bundle into a copy of the base's root, and
// makes a disk of it. The copy does not stay.
func buildGolden(ctx context.Context, tmp, base string, b *bundle.Bundle, report func(string)) error {
	root := filepath.Join(tmp, "root")
	report("putting the bundle into a copy of the base")
	if out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", filepath.Join(base, "root"), root).CombinedOutput(); err != nil { //nolint:gosec // paths of our own
		return fmt.Errorf("copy the base: %w: %s", err, lastLine(out))
	}
	for _, a := range b.Artifacts {
		if a.Kind == bundle.Binary {
			if out, err := exec.CommandContext(ctx, "install", "-D", "-m", "0755", b.Path(a), filepath.Join(root, a.Dest)).CombinedOutput(); err != nil { //nolint:gosec // paths of our own
				return fmt.Errorf("install %s: %w: %s", a.Name, err, lastLine(out))
			}
		}
	}
	if err := importImages(ctx, tmp, root, b); err != nil {
		return err
	}
	report("making the golden disk")
	if err := makeImage(ctx, root, filepath.Join(tmp, "disk.qcow2")); err != nil {
		return err
	}
	return removeTree(root)
}

// importImages has the bundle's own containerd import the images, on this machine, into the
// folder that it uses in the root. In an emulated machine that takes minutes.
func importImages(ctx context.Context, tmp, root string, b *bundle.Bundle) error {
	args := []string{filepath.Join(root, "usr/local/bin"), filepath.Join(root, "var/lib/containerd"), filepath.Join(tmp, "containerd")}
	for _, a := range b.Artifacts {
		if a.Kind == bundle.Image {
			args = append(args, b.Path(a), a.ArchiveLabel(), bundle.PinnedLabel)
		}
	}
	// In mount and PID namespaces of its own: containerd and its mounts end with it.
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", goldenScript, "golden"}, args...)...)
	out, err := cmd.CombinedOutput()
	log := filepath.Join(tmp, "import.log")
	if err := os.WriteFile(log, out, 0o600); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("import the images of the bundle: %w: %s (log: %s)", err, lastLine(out), log)
	}
	return nil
}
