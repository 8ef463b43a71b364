//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"hactl/internal/lab"
)

// hostImage prints what a host is made of: files with their hashes, links, folders,
// packages, units and whether they run, interfaces and addresses, routes, mounts,
// users, tables, kernel parameters, its name, swap. Logs, caches, what the kernel makes,
// what a login makes until seconds after its end, and what hactl keeps for itself are left out.
const hostImage = `export LC_ALL=C
find /etc /opt /usr/local /usr/bin /usr/libexec /root /home /var/lib -xdev \( -path /var/lib/hactl -o -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/dnf -o -path /var/lib/rpm -o -path /opt/hactl/bundle-preload \
 -o -path '/var/lib/private/systemd' -o -name 'passwd-' -o -name 'shadow-' -o -name 'group-' -o -name 'gshadow-' -o -path '/var/lib/ucf/hashfile.[0-9]' \) -prune -o -type f -printf 'file %p %m %u ' -exec sh -c 'sha256sum <"$0" | cut -c1-16' {} \; -o -type l -printf 'link %p %l\n' -o -type d -printf 'folder %p %m %u\n'
if command -v dpkg-query >/dev/null; then dpkg-query -W -f 'package ${Package} ${db:Status-Status}\n'; else rpm -qa --qf 'package %{NAME}\n'; fi
systemctl list-unit-files --no-legend --no-pager --type=service,path,timer | awk '{ print "unit file", $1, $2 }'
systemctl list-units --no-legend --no-pager --plain --type=service --state=active | awk '$1 !~ /^user(-runtime-dir)?@/ { print "active", $1 }'
ip -o link show | awk '{ sub(/@.*/, "", $2); print "interface", $2 }'; ip -o addr show | awk '$2 != "lo" { print "address", $2, $4 }'
ip route show | sed 's/^/route /'; ip -6 route show | sed 's/ pref .*//; s/^/route /'
awk '$2 !~ "^/run/user/" { print "mount", $2, $3 }' /proc/self/mounts
sed 's/^/user /' /etc/passwd; sed 's/^/group /' /etc/group
nft list ruleset 2>/dev/null | sed 's/^/nft /'
echo "forwards $(cat /proc/sys/net/ipv4/ip_forward)" # others are the kernel's of this machine, which all labs share
sed 's/^/swap /' /proc/swaps; echo "name $(cat /proc/sys/kernel/hostname)"
ls -d /run/hactl* /run/containerd 2>/dev/null | grep -v '^/run/hactl.lock$' | sed 's/^/run /'
`

// image is the lines of hostImage.
func (r *rig) image(t *testing.T, host string) []string {
	t.Helper()
	lines := strings.Split(labOutput(t, r.Lab, host, hostImage), "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}

// imageDiffers is what two images do not have in common.
func imageDiffers(before, after []string) (out []string) {
	for _, l := range before {
		if !slices.Contains(after, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			out = append(out, "+ "+l)
		}
	}
	return out
}

// foreignThings puts things of others on a host: a table, a file in a folder that hactl uses,
// an own keepalived configuration, a mount, an interface, an etcd that is not ours.
const foreignThings = `set -e
nft -f - <<'X'
table inet theirs {
  chain input {
    type filter hook input priority 0;
    tcp dport 9 counter
  }
}
X
mkdir -p /etc/cni/net.d /srv/volume /var/lib/kubelet-of-another
echo theirs >/etc/cni/net.d/99-theirs.conflist.disabled
mount -t tmpfs -o size=1m theirs /srv/volume
echo data >/srv/volume/kept
ip link add theirs0 type veth peer name theirs1
printf '127.0.0.1 localhost\n127.0.1.1 oldname\n' >/etc/hosts
echo oldname >/etc/hostname; printf oldname >/proc/sys/kernel/hostname
`

// TestResetLeavesAHostAsItWas brings hosts up, resets them, and compares what they are
// made of with what they were; then they come up again.
func TestResetLeavesAHostAsItWas(t *testing.T) {
	inTurn(t)
	r := newRig(t, lab.Config{Name: nextName("reset"), Masters: 1, Workers: 1})
	hosts := []string{"master-1", "worker-1"}
	before := map[string][]string{}
	for _, h := range hosts {
		labOutput(t, r.Lab, h, foreignThings)
		before[h] = r.image(t, h)
	}
	r.must(t, 0, "up", "--yes")
	r.nodesReady(t, 2)
	then(t, "a host that the cluster counts on is refused", func(t *testing.T) {
		if res := r.must(t, 7, "reset", "--yes", "worker-1"); !strings.Contains(res.err, "still part of the running cluster") || !strings.Contains(res.err, "hactl remove worker-1") {
			t.Errorf("%s", res)
		}
		if res := r.hactl(t, "reset", "--yes", "--all"); res.code == 0 || !strings.Contains(res.err, "--cluster") {
			t.Errorf("--yes answered for the whole cluster: %s", res)
		}
		r.inSync(t)
	})
	then(t, "every host is as it was, but for logs and hactl's own folder", func(t *testing.T) {
		took(t, "reset of a master and a worker", r.must(t, 0, "reset", "--all", "--packages", "--cluster", r.Name()).took)
		for _, h := range hosts {
			if d := imageDiffers(before[h], r.image(t, h)); len(d) > 0 {
				t.Errorf("%s differs in %d lines:\n%s", h, len(d), strings.Join(d, "\n"))
			}
			if got := labOutput(t, r.Lab, h, "cat /srv/volume/kept; ls /var/lib/hactl 2>/dev/null || :"); got != "data" && !(h == "master-1" && strings.HasPrefix(got, "data\nremoved-")) {
				t.Errorf("%s: %q", h, got)
			}
		}
		labOutput(t, r.Lab, "master-1", "ls /var/lib/hactl/removed-*/etcd-member/wal")
	})
	then(t, "a second reset has nothing to do", func(t *testing.T) {
		if res := r.must(t, 0, "reset", "--all", "--yes", "--dry-run"); strings.Contains(res.out, "reset/") {
			t.Errorf("%s", res)
		}
	})
	then(t, "they come up again", func(t *testing.T) {
		r.must(t, 0, "up", "--yes")
		r.nodesReady(t, 2)
		r.inSync(t)
	})
}
