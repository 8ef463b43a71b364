package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// ubuntuPackages are what an Ubuntu server has and a Debian one has not, from Debian's
// archive. Left out are netplan, which needs udev and a machine of its own, and the daemon of
// snap, which does nothing without its store.
var ubuntuPackages = []string{"needrestart", "unattended-upgrades", "apparmor", "libpam-systemd", "gawk", "netbase"}

// ubuntuScript gives the root the marks of an Ubuntu server, and the settings by which its
// parts differ from Debian's: needrestart restarts services by itself, and the sources of
// apt are in the format deb822.
const ubuntuScript = `set -eu
rm -f /etc/os-release
cat >/etc/os-release <<'END'
PRETTY_NAME="Ubuntu 24.04.2 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.2 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
END
mkdir -p /etc/needrestart/conf.d /etc/apt/sources.list.d
printf '%s\n' "\$nrconf{restart} = 'a';" '1;' >/etc/needrestart/conf.d/10-ubuntu.conf
printf 'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n' >/etc/apt/apt.conf.d/20auto-upgrades
`

// dressAsUbuntu turns the Debian base in root into the imitation.
func dressAsUbuntu(ctx context.Context, root string) error {
	cmd := exec.CommandContext(ctx, "chroot", root, "/bin/sh", "-c", ubuntuScript)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the base an imitation of Ubuntu: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// aptSource is the file by which a bare host finds its packages.
func aptSource(system string) (path, content string) {
	if system == Ubuntu {
		return "etc/apt/sources.list.d/ubuntu.sources", "Types: deb\nURIs: file:" + repoPath + "\nSuites: ./\nTrusted: yes\n"
	}
	return "etc/apt/sources.list", "deb [trusted=yes] file:" + repoPath + " ./\n"
}
