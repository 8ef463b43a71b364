# Goes on after brief.sh with what only preflight judges. The caller sets D too,
# the folders whose disks count. Needs awk, grep and gzip as well.

s uid; id -u
s hostname; line /proc/sys/kernel/hostname
s machine-id; first /etc/machine-id
s boot-id; line /proc/sys/kernel/random/boot_id
s product-uuid; line /sys/class/dmi/id/product_uuid
s os-release; first /etc/os-release
s kernel; K=$(uname -r); printf '%s\n' "$K"
s init; line /proc/1/comm
s cpus; nproc
s memory; sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo
s swap; sed 1d /proc/swaps | head -c 16384
s swap-units
[ -d /run/systemd/system ] && swap_units | head -c 4096 # see internal/sys/host.sh

s routes; { ip -o -4 route show; ip -o -6 route show; } | grep -v ' dev lo ' | head -c 131072

s resolv-conf; [ -r /etc/resolv.conf ] && { echo present; first /etc/resolv.conf; }
s proxies
{ env; grep -hsE '^(export )?[A-Za-z_]+=' /etc/environment
  [ -d /run/systemd/system ] && systemctl show-environment; } |
	sed 's/^export //; s#//[^/@]*@#//***@#' | grep -iE '^(http|https|all|no)_proxy=' | sort -u | head -c 16384

s disks
set -f; IFS='
' # one folder a line, none is a pattern
for d in $D; do
	p=$d
	until [ -e "$p" ] || [ -z "$p" ]; do case $p in */*) p=${p%/*} ;; *) p= ;; esac; done
	df -P -k "${p:-/}" | D="$d" awk '
		NR == 2 { size = $2; free = $4; m = $6; for (i = 7; i <= NF; i++) m = m " " $i }
		END {
			while ((getline line < "/proc/self/mounts") > 0) {
				split(line, f, " ")
				if (f[2] == m) { type = f[3]; opts = f[4] }
			}
			print size, free, type, opts, m " on " ENVIRON["D"]
		}'
done
set +f; unset IFS

s listening
{ awk '$4 == "0A" { print "L", $2, $10 }' /proc/net/tcp /proc/net/tcp6 | head -n 2000
  ls -l /proc/[0-9]*/fd; } | awk '
	$1 == "L" { n++; at[n] = $2; inode[n] = $3; want["socket:[" $3 "]"] = n; next }
	/^\/proc\/[0-9]+\/fd:$/ { split($0, f, "/"); pid = f[3]; next }
	$NF in want { holder[$NF] = pid }
	END {
		for (i = 1; i <= n; i++) {
			k = "socket:[" inode[i] "]"; name = "-"; p = (k in holder) ? holder[k] : 0
			if (p) { file = "/proc/" p "/comm"; if ((getline line < file) > 0) name = line; close(file) }
			print at[i], inode[i], p, name
		}
	}'
s processes; cat /proc/[0-9]*/comm | grep -v "^kworker/" | sort -u | head -c 65536

s modules
B=$(gzip -dc /proc/config.gz || cat "/boot/config-$K")
has() { # has MODULE CONFIG: loaded, builtin, loadable or absent; nothing when there is no telling
	if [ -d "/sys/module/$1" ] || grep -q "^$1 " /proc/modules; then echo "$1 loaded"
	elif grep -q "/$1\.ko" "/lib/modules/$K/modules.builtin"; then echo "$1 builtin"
	elif grep -q "/$1\.ko" "/lib/modules/$K/modules.dep"; then echo "$1 loadable"
	else case "
$B
" in
		*"
$2=y
"*) echo "$1 builtin" ;;
		*"
$2=m
"*) echo "$1 absent" ;;
		*"
# $2 is not set
"*) echo "$1 absent" ;;
		*) [ -r "/lib/modules/$K/modules.builtin" ] && echo "$1 absent" || echo "$1 unknown" ;;
	esac; fi
}
if grep -qw overlay /proc/filesystems; then echo overlay loaded; else has overlay CONFIG_OVERLAY_FS; fi
if [ -d /proc/sys/net/bridge ]; then echo br_netfilter loaded; else has br_netfilter CONFIG_BRIDGE_NETFILTER; fi
has nf_conntrack CONFIG_NF_CONNTRACK
has nf_tables CONFIG_NF_TABLES
has ip_tables CONFIG_IP_NF_IPTABLES
has bridge CONFIG_BRIDGE
has veth CONFIG_VETH
has vxlan CONFIG_VXLAN

s sysctls
# grep, not the shell's read: that reads by the byte, and an integer of the kernel
# gives one byte and then ends.
# shellcheck disable=SC2046 # names of interfaces
(cd /proc/sys && grep -Hs . net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables \
	net/ipv6/conf/all/forwarding net/ipv6/conf/all/disable_ipv6 net/ipv4/conf/all/rp_filter \
	kernel/pid_max kernel/threads-max vm/panic_on_oom vm/overcommit_memory vm/max_map_count \
	fs/inotify/max_user_instances fs/inotify/max_user_watches fs/file-max \
	$(ip -o -6 route show default | sed -n 's#.* dev \([a-zA-Z0-9_.-]*\) proto ra .*#net/ipv6/conf/\1/accept_ra#p' | sort -u) |
	while IFS=: read -r k v; do
		[ -w "$k" ] && w=rw || w=ro
		echo "$k $w $v"
	done)

s selinux; line /sys/fs/selinux/enforce
s apparmor; line /sys/module/apparmor/parameters/enabled
s apparmor-parser; command -v apparmor_parser
s automatic-reboot; command -v unattended-upgrade >/dev/null && apt-config dump Unattended-Upgrade::Automatic-Reboot Unattended-Upgrade::Automatic-Reboot-Time | grep '^Unattended-Upgrade::Automatic-Reboot' | head -n 4
s time-sync; [ -e /run/systemd/timesync/synchronized ] && echo systemd-timesyncd
s firewall
[ -d /run/systemd/system ] && systemctl is-active firewalld nftables | {
	read -r f; [ "$f" = active ] && {
		echo "service firewalld"
		firewall-cmd --zone=trusted --list-all </dev/null | sed -n 's/^  \(interfaces\|sources\): /trusts /p'
		sed -n 's/^DefaultZone=trusted/trusts all/p' /etc/firewalld/firewalld.conf
	}
	read -r n; [ "$n" = active ] && echo "service nftables"
}
grep -qis '^ENABLED=yes' /etc/ufw/ufw.conf && echo 'service ufw'
s nft; command -v nft >/dev/null || echo "no nft"
nft -s list ruleset |
	awk '/^table / { t = $0 } /^\tchain / { chain = $0; hook = 0 }
		/hook input/ { hook = 1; print t; print chain }
		hook { print }
		/^\t}/ { hook = 0 }' | head -c 65536
s iptables
if grep -qsx filter /proc/net/ip_tables_names; then
	{ command -v iptables-legacy >/dev/null && iptables-legacy -S INPUT || iptables -S INPUT; } | head -c 65536
elif ! command -v nft >/dev/null && iptables -V | grep -q nf_tables; then iptables -S INPUT | head -c 65536
fi

s leftovers
for f in /etc/kubernetes/admin.conf /etc/kubernetes/kubelet.conf /etc/kubernetes/manifests/kube-apiserver.yaml \
	/etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/pki/ca.crt /var/lib/kubelet/config.yaml \
	/etc/etcd/pki/ca.crt /etc/etcd/established /etc/rancher /var/lib/rancher /var/lib/k0s /var/snap/microk8s /var/snap/k8s; do
	[ -e "$f" ] && echo "$f"
done
set -f; IFS='
'
for d in $D; do [ -d "$d/member" ] && echo "$d/member"; done
set +f; unset IFS
s etcd-cluster; first /etc/etcd/established
s kubernetes-ca; first /etc/kubernetes/pki/ca.crt
s front-proxy-ca; first /etc/kubernetes/pki/front-proxy-ca.crt
s etcd-ca; first /etc/etcd/pki/ca.crt
s clock-after; date +%s%N
