package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// vmRecipe counts changes of the steps around vmScript, as baseRecipe does for those of
// hosts in namespaces.
const vmRecipe = "1"

// vmPackages make a machine boot, and give it what servers have: a clock service, AppArmor,
// and cloud-init, zram and netplan, which do nothing until a test has them do it.
var vmPackages = []string{
	"udev", "linux-image-cloud-amd64", "initramfs-tools", "zstd", "chrony", "zram-tools", "apparmor", "netplan.io",
	"cloud-init", "python3-cffi-backend", // debootstrap does not follow the provided name by which a package asks for it
}

//go:embed vm.sh
var vmScript string

// vmMasked are the units that a machine has no use for.
var vmMasked = []string{
	"getty.target", "console-getty.service", "serial-getty@ttyS0.service", "apt-daily.timer", "apt-daily-upgrade.timer",
	"dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "man-db.timer",
}

// diskSize is what a machine sees; the file holds only what was written.
const diskSize = "16G"

// vmTools are the programs that virtual machines need beside those of the lab, and the
// Debian package of each.
var vmTools = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "ssh": "openssh-client",
}

// checkForVM tells in one go what this machine lacks for virtual machines.
func checkForVM() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("virtual machines of the lab are amd64, this machine is %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	return need(vmTools)
}

// describeVM is the state of a new lab of virtual machines. Their disk is there by then.
func describeVM(ctx context.Context, c Config) (*state, error) {
	base, err := ensureVMBase(ctx, c.Report)
	if err != nil {
		return nil, err
	}
	disk := filepath.Join(base, "disk.qcow2")
	if c.Golden != "" {
		if disk, err = ensureGolden(ctx, base, c.Golden, c.Report); err != nil {
			return nil, err
		}
	}
	st, err := newState(c, base)
	if err != nil {
		return nil, err
	}
	st.Disk, st.Accel = disk, chooseAccel(ctx, filepath.Join(base, "vmlinuz"), c.Report)
	return st, nil
}

// vmBaseID names a base by everything that went into it.
func vmBaseID() string {
	parts := append(basePackages(vmSystem, false), vmPackages...)
	sum := sha256.Sum256([]byte(strings.Join(append(parts, runtime.GOARCH, baseRecipe, vmRecipe, vmScript, diskSize), "|")))
	return "base-" + vmSystem + "-vm-" + hex.EncodeToString(sum[:6])
}

// ensureVMBase returns the folder of the base, building it when it is not there.
func ensureVMBase(ctx context.Context, report func(string)) (string, error) {
	return ensureMade(ctx, vmBaseID(), "disk of virtual machines", report, func(tmp, cache string) error {
		return buildVM(ctx, tmp, filepath.Join(cache, "debs-"+vmSystem), report)
	})
}

// buildVM makes the base of virtual machines in the folder tmp: root, which is kept for the
// owners of its files, vmlinuz, initrd and disk.qcow2.
func buildVM(ctx context.Context, tmp, debs string, report func(string)) error {
	root := filepath.Join(tmp, "root")
	report("building the disk of virtual machines with debootstrap (" + vmSystem + "; about four minutes, once)")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	packages := append(basePackages(vmSystem, false), vmPackages...)
	if err := debootstrap(ctx, vmSystem, root, debs, packages, filepath.Join(tmp, "debootstrap.log"), report); err != nil {
		return err
	}
	if err := customize(ctx, root, vmMasked); err != nil {
		return err
	}
	report("making the initial RAM disk")
	if err := inRoot(ctx, root, vmScript); err != nil {
		return err
	}
	if err := takeKernel(root, tmp); err != nil {
		return err
	}
	report("making the disk")
	return makeImage(ctx, root, filepath.Join(tmp, "disk.qcow2"))
}

// inRoot runs a script in a root file system, with /proc, and in a PID namespace of its
// own: what a killed build leaves running ends with it.
func inRoot(ctx context.Context, root, script string) error {
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--",
		"chroot", root, "/bin/sh", "-c", "set -eu\nmount -t proc proc /proc\n"+script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("prepare the root of virtual machines: %w: %s", err, lastLine(out))
	}
	return nil
}

// takeKernel copies the kernel and the initial RAM disk out of the root.
func takeKernel(root, to string) error {
	for pattern, name := range map[string]string{"vmlinuz-*": "vmlinuz", "initrd.img-*": "initrd"} {
		found, err := filepath.Glob(filepath.Join(root, "boot", pattern))
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("find %s of the virtual machines: %d files in /boot, want 1", pattern, len(found))
		}
		content, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), content, 0o644); err != nil { //nolint:gosec // no secret is in it
			return err
		}
	}
	return nil
}

// makeImage makes a disk with the content of root, without a mount: an ext4 file system on
// the whole disk. The journal comes last, since mke2fs is slow with one.
func makeImage(ctx context.Context, root, to string) error {
	raw := to + ".raw"
	for _, argv := range [][]string{
		{"mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-i", "32768", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-d", root, raw, diskSize},
		{"tune2fs", "-O", "has_journal", raw},
		{"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, to},
	} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // programs named above
			return fmt.Errorf("make disk of virtual machines: %s: %w: %s", argv[0], err, strings.TrimSpace(lastLine(out)))
		}
	}
	return os.Remove(raw)
}
