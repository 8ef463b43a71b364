# Prints what every run decides by, one section after another. The caller sets
# M, the marker that begins a section. Read-only. Only coreutils, sed, head and
# iproute2; what is missing leaves its section empty. Nothing here ends the
# script early.
LC_ALL=C; export LC_ALL
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
exec 2>/dev/null
s() { printf '\n%s %s\n' "$M" "$1"; }
first() { head -c 16384 "$1"; }
line() { # the first line of a file of the kernel (no integer), without a process for it
	l=
	IFS= read -r l <"$1"
	[ -z "$l" ] || printf '%s\n' "$l"
}

s machine; uname -m
s capbnd; sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status
s cgroup; line /sys/fs/cgroup/cgroup.controllers
s package-manager
for p in apt-get dnf; do command -v $p; done
s network-managers
[ ! -x /lib/systemd/systemd-networkd ] && [ ! -x /usr/lib/systemd/systemd-networkd ] || echo networkd
command -v NetworkManager >/dev/null && echo NetworkManager
s links; command -v ip >/dev/null || echo 'no ip'; ip -o link show | head -c 131072
s addresses; ip -o addr show | head -c 131072
s kubelet-ca; sed -n 's/^ *certificate-authority-data: *//p' /etc/kubernetes/kubelet.conf | head -c 16384
s host-record; [ ! -e /var/lib/hactl/host.json ] || first /var/lib/hactl/host.json || echo unreadable
s owned; [ ! -e /var/lib/hactl/owned.json ] || echo yes
s vip-priority; [ -e /var/lib/hactl/host.json ] || sed -n '1{/^# Written by hactl/!q;};s/^ *priority \([0-9]*\)$/\1/p' /etc/keepalived/keepalived.conf
s programs
for u in etcd containerd kubelet; do sed -n 's#^ExecStart=/opt/hactl/\([a-z]*\)/\(v[0-9.]*\)-[0-9a-f]*/.*#\1 \2#p' /etc/systemd/system/$u.service; done
for p in kube-apiserver kube-controller-manager kube-scheduler; do sed -n "s#^ *image: .*/\($p\):\(v[0-9.]*\)\$#\1 \2#p" /etc/kubernetes/manifests/$p.yaml; done
s node-versions; [ ! -e /etc/kubernetes/kubelet.conf ] || grep -q '"versions"' /var/lib/hactl/host.json || {
kubelet --version; containerd --version; [ ! -e /etc/etcd/established ] || etcd --version | head -n 1; }
