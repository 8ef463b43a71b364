package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"hactl/internal/remote"
)

// The base is a Debian root file system made once by debootstrap and shown to
// every host as the read-only lower layer of its disk. That of el9 is dressed as
// Enterprise Linux 9 (see el9_linux.go).
//
// baseRecipe counts changes of customize and of the steps around it: with the
// package lists it names the base, so that an old base is never taken for a new one.
const baseRecipe = "1"

// barePackages make a host that systemd boots and ssh reaches, and no more.
var barePackages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "sudo", "kmod", "procps", "ca-certificates", "curl",
}

// clusterPackages are what a Kubernetes node with a VIP needs from the
// distribution; on --bare hosts they come from a local apt repository.
var clusterPackages = []string{
	"keepalived", "runc", "iptables", "nftables", "conntrack", "socat", "ethtool", "containernetworking-plugins",
	"mount", "util-linux", "ebtables", "iputils-ping",
}

func basePackages(system string, bare bool) []string {
	out := slices.Clone(barePackages)
	switch system {
	case EL9:
		out = append(out, el9Packages...)
	case Ubuntu:
		out = append(out, ubuntuPackages...)
	}
	if !bare {
		out = append(out, clusterPackages...)
	}
	return out
}

// suite is the Debian release that a base is made from.
func suite(system string) string {
	if system == EL9 || system == Ubuntu {
		return "bookworm"
	}
	return system
}

// baseID names a base by everything that went into it.
func baseID(system string, bare bool) string {
	parts := []string{system, runtime.GOARCH, baseRecipe, strings.Join(basePackages(system, bare), ",")}
	switch system {
	case EL9:
		parts = append(parts, el9Script)
	case Ubuntu:
		parts = append(parts, ubuntuScript)
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	kind := "full"
	if bare {
		kind = "bare"
	}
	return "base-" + system + "-" + kind + "-" + hex.EncodeToString(sum[:6])
}

// ensureBase returns the folder of the base of hosts in namespaces, building it when it is
// not there.
func ensureBase(ctx context.Context, system string, bare bool, report func(string)) (string, error) {
	return ensureMade(ctx, baseID(system, bare), "base system", report, func(tmp, cache string) error {
		return buildBase(ctx, tmp, cache, system, bare, report)
	})
}

// ensureMade returns a folder of the cache, which build fills when it is not there. It is
// filled under another name and renamed when complete, so a folder that exists is
// whole; a lock keeps two builds of the same one apart.
func ensureMade(ctx context.Context, id, what string, report func(string), build func(tmp, cache string) error) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "lab")
	dir := filepath.Join(cache, id)
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, dir+".lock", func() { report("waiting for another hactl to finish building the " + what) })
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) {
		return dir, nil
	}
	tmp := dir + ".partial"
	if err := removeTree(tmp); err != nil { // left by a build that was killed
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	start := time.Now()
	if err := build(tmp, cache); err != nil {
		return "", fmt.Errorf("build %s: %w", what, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	report(fmt.Sprintf("%s built in %s: %s", what, time.Since(start).Round(time.Second), dir))
	return dir, nil
}

func buildBase(ctx context.Context, tmp, cache, system string, bare bool, report func(string)) error {
	debs := filepath.Join(cache, "debs-"+suite(system))
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	report("building the base system with debootstrap (" + system + "; a few minutes, once)")
	if err := debootstrap(ctx, suite(system), root, debs, basePackages(system, bare), filepath.Join(tmp, "debootstrap.log"), report); err != nil {
		return err
	}
	if err := customize(ctx, root, maskedUnits); err != nil {
		return err
	}
	if system == Ubuntu {
		if err := dressAsUbuntu(ctx, root); err != nil {
			return err
		}
	}
	if !bare {
		return nil
	}
	repo := filepath.Join(tmp, "apt")
	if err := downloadPackages(ctx, system, tmp, repo, debs, report); err != nil {
		return err
	}
	if system == EL9 {
		return dressAsEL9(ctx, tmp, repo, report)
	}
	return indexRepository(ctx, repo)
}

// debootstrap runs in mount and PID namespaces of its own: when it is killed,
// nothing of it goes on and the /proc that it mounts in the root is gone too.
func debootstrap(ctx context.Context, suite, root, debs string, pkgs []string, logPath string, report func(string)) error {
	args := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"debootstrap", "--variant=minbase", "--merged-usr", "--cache-dir=" + debs, "--include=" + strings.Join(pkgs, ","), suite, root}
	if m := os.Getenv("HACTL_DEBIAN_MIRROR"); m != "" {
		args = append(args, m)
	}
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	done := make(chan string)
	go func() { done <- followDebootstrap(io.TeeReader(pr, log), report) }()
	err = cmd.Run()
	pw.Close()
	last := <-done
	if err != nil {
		return remote.Hint(fmt.Errorf("debootstrap: %w: %s", err, last),
			"the whole log is in %s; a mirror of your own goes into HACTL_DEBIAN_MIRROR", logPath)
	}
	return nil
}

// followDebootstrap turns debootstrap's chatter into a line every few seconds
// and returns the last line, which holds the reason when it stops early.
func followDebootstrap(r io.Reader, report func(string)) (last string) {
	counts := map[string]int{}
	shown := time.Now()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		last = sc.Text()
		f := strings.Fields(strings.TrimPrefix(last, "I: "))
		if len(f) < 2 {
			continue
		}
		counts[f[0]]++
		if time.Since(shown) > 5*time.Second {
			shown = time.Now()
			report(fmt.Sprintf("base system: %s %s (%d)", strings.ToLower(f[0]), strings.TrimRight(f[1], "."), counts[f[0]]))
		}
	}
	io.Copy(io.Discard, r) //nolint:errcheck // a line too long for the scanner must not block debootstrap
	return last
}

// maskedUnits make no sense on a host without hardware or without the internet.
var maskedUnits = []string{
	"getty.target", "console-getty.service", "systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udev-trigger.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
	"e2scrub_reap.service", "fstrim.timer", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
	"dev-hugepages.mount", "proc-sys-fs-binfmt_misc.automount", "systemd-remount-fs.service", "systemd-timesyncd.service",
}

// customize makes the root one that any number of hosts can be made from:
// nothing in it identifies a host, and the users that the inventories name exist.
func customize(ctx context.Context, root string, masked []string) error {
	script := `set -eu
rm -f /etc/ssh/ssh_host_*
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /etc/apt/sources.list
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
for u in ops opspw jump; do useradd -m -s /bin/bash "$u"; done
echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops
echo 'opspw ALL=(ALL) ALL' >/etc/sudoers.d/opspw
chmod 0440 /etc/sudoers.d/ops /etc/sudoers.d/opspw
systemctl set-default multi-user.target
systemctl mask "$@"
mkdir -p /etc/systemd/journald.conf.d
`
	// -- the journal of a host must not drink the machine's kernel log.
	script += `printf '[Journal]\nReadKMsg=no\n' >/etc/systemd/journald.conf.d/10-host.conf
printf 'PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\n' >/etc/ssh/sshd_config.d/10-host.conf
`
	cmd := exec.CommandContext(ctx, "chroot", append([]string{root, "/bin/sh", "-c", script, "sh"}, masked...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("customize base system: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			if isAt(f, path) {
				return func() { f.Close() }, nil
			}
			f.Close() // the holder removed the file: lock the one that is there now
			return lockFile(ctx, path, waiting)
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func isAt(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// removeTree removes a folder, and refuses while anything is mounted in it:
// deleting through a mount would reach the machine's own files.
func removeTree(dir string) error {
	at, err := mountIn(dir)
	if err != nil {
		return err
	}
	if at != "" {
		return remote.Hint(fmt.Errorf("remove %s: something is mounted at %s", dir, at), "umount %s", at)
	}
	return os.RemoveAll(dir)
}

// mountIn returns a mount point at or below dir, or "".
func mountIn(dir string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if f := strings.Fields(sc.Text()); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			return f[4], nil
		}
	}
	return "", sc.Err()
}
