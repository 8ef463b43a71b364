package lab

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// el9Packages make a Debian root that can pass for Enterprise Linux 9, and build its
// rpms. createrepo-c and rpm's build program are taken out again.
var el9Packages = []string{"dnf", "rpm", "createrepo-c", "firewalld", "libpam-systemd", "gawk", "netbase"}

//go:embed el9.sh
var el9Script string

// dressAsEL9 turns the Debian base in tmp/root into the imitation, and the packages in
// debs into the dnf repository tmp/rpms, which hosts see at /srv/rpms.
func dressAsEL9(ctx context.Context, tmp, debs string, report func(string)) error {
	report("converting the packages to rpms")
	root := filepath.Join(tmp, "root")
	const debsThere, rpmsThere = "/var/tmp/debs", "/var/tmp/repo"
	if err := os.Rename(debs, filepath.Join(root, debsThere)); err != nil {
		return err
	}
	// In a PID namespace of its own: what a killed build leaves running ends with it.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--",
		"chroot", root, "/bin/bash", "-c", "mount -t proc proc /proc\n"+el9Script, "el9", debsThere, rpmsThere)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	log := filepath.Join(tmp, "el9.log")
	if err := os.WriteFile(log, out, 0o644); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("make the base an imitation of EL 9: %w: %s (log: %s)", err, strings.TrimSpace(lastLine(out)), log)
	}
	if err := os.Rename(filepath.Join(root, rpmsThere), filepath.Join(tmp, "rpms")); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(root, debsThere))
}
