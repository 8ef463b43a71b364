# Prints what is on this host under names that hactl uses, or in the way of what it
# makes, and was made by others: kind, name and detail, with tabs between. It changes
# nothing. The caller sets MASTER (1 on masters, "" on workers), DIR (etcd's data folder),
# CNI (the name of hactl's CNI configuration; "" when the pod network brings its own),
# PACKAGES (what apt is to install) and R (the root of the host: "" but in tests).
LC_ALL=C; export LC_ALL
exec 2>/dev/null
say() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
ours() { grep -qE 'Written by hactl|HACTL_CONFIG=' "$R$1"; }
if command -v dpkg-query >/dev/null; then
	package_of() { p=$(dpkg-query -S "$1") && [ -n "$p" ] && printf '%s\n' "${p%%:*}"; }
	changed() { m=$(md5sum <"$R$1"); ! dpkg-query -W -f='${Conffiles}\n' "$2" | grep -qF " $1 ${m%% *}"; }
else
	package_of() { rpm -qf --qf '%{NAME}\n' "$1"; }
	changed() { rpm -V --nodeps "$2" | grep -qF " $1"; }
fi
by_hand() { p=$(package_of "$1") || return 0; changed "$1" "$p"; } # not as its package brought it
unit_of() { sed -n 's/.*\/\([^/]*\.service\).*/\1/p' "$1/cgroup" | head -n 1; }
same_as_init() { [ "$(readlink "$1/ns/pid")" = "$(readlink "$R/proc/1/ns/pid")" ]; } # not in a container

# Configuration files that hactl writes anew.
set -- /etc/containerd/config.toml /etc/systemd/system/containerd.service /etc/systemd/system/kubelet.service
[ -z "$MASTER" ] || set -- "$@" /etc/systemd/system/etcd.service /etc/keepalived/keepalived.conf
for f; do
	[ -e "$R$f" ] && ! ours "$f" && by_hand "$f" || continue
	d=
	[ "${f##*/}" != keepalived.conf ] || d=$(grep -oE 'virtual_router_id +[0-9]+|([0-9]{1,3}\.){3}[0-9]{1,3}(/[0-9]+)?|[0-9a-f]*:[0-9a-f:]*:[0-9a-f]*(/[0-9]+)?' "$R$f" | head -n 8 | tr '\n' ' ')
	say file "$f" "${d% }"
done

# Programs of packages that hactl replaces.
for f in /usr/bin/kubelet /usr/bin/kubeadm /usr/bin/kubectl /usr/local/bin/containerd /usr/local/bin/etcd; do
	[ -e "$R$f" ] && p=$(package_of "$f") && say file "$f" "of the package $p"
done

# Units of the same name, and what changes how they start.
units='containerd kubelet'
[ -z "$MASTER" ] || units="$units etcd"
for u in $units; do
	s=$(systemctl show -p FragmentPath -p ActiveState -p UnitFileState "$u.service")
	path=$(printf '%s\n' "$s" | sed -n 's/^FragmentPath=//p')
	case $path in '' | /etc/systemd/system/*) continue ;; esac
	ours "$path" && continue
	case $s in
	*ActiveState=active* | *UnitFileState=enabled*) say unit "$u.service" "$path, $(printf '%s\n' "$s" | sed -n 's/^ActiveState=//p')" ;;
	esac
done
[ -z "$MASTER" ] || units="$units keepalived"
for u in $units; do
	for f in "$R/etc/systemd/system/$u.service.d"/*.conf "$R/usr/lib/systemd/system/$u.service.d"/*.conf "$R/lib/systemd/system/$u.service.d"/*.conf; do
		f=${f#"$R"}
		[ -e "$R$f" ] && grep -q '^ExecStart=' "$R$f" && ! ours "$f" || continue
		[ "$seen" = "$u/${f##*/}" ] || say file "$f" "it changes how $u.service starts"
		seen=$u/${f##*/}
	done
done

# Processes. Those with HACTL_CONFIG in their environment were started by hactl's units,
# and those in pods by hactl's kubelet.
ours /etc/systemd/system/kubelet.service && node=1 || node=
for d in "$R"/proc/[0-9]*; do
	read -r c <"$d/comm" && same_as_init "$d" || continue
	pid=${d##*/}
	at="pid $pid, $(unit_of "$d")"
	case $c in
	dockerd) say engine docker "$at" ;;
	crio) say engine cri-o "$at" ;;
	kubelite) say engine microk8s "$at" ;; # a snap: containerd and Kubernetes in one
	keepalived | kubelet | etcd | kube-apiserver | kube-controller | kube-scheduler | kube-proxy)
		tr '\0' '\n' <"$d/environ" | grep -q '^HACTL_CONFIG=' && continue
		[ -n "$node" ] && grep -q kubepods "$d/cgroup" && continue
		say holder "$pid" "$(readlink "$d/exe"), $(unit_of "$d")"
		case $c in
		keepalived)
			read -r _ p <<-X
				$(grep '^PPid:' "$d/status")
			X
			[ -z "$MASTER" ] || [ "$(cat "$R/proc/$p/comm")" = keepalived ] || say process keepalived "$at"
			;;
		kubelet) say process kubelet "$at" ;;
		esac
		;;
	esac
done

[ -n "$MASTER" ] && [ -d "$R$DIR/member" ] && ! ours /etc/systemd/system/etcd.service && say data "$DIR" "a member of an etcd cluster"

# What another pod network or kube-proxy left.
if [ -n "$CNI" ]; then
	for f in "$R"/etc/cni/net.d/*; do
		b=${f##*/}
		case $b in "$CNI") continue ;; *.conf | *.conflist | *.json) ;; *) continue ;; esac
		[ "$(printf '%s\n' "$b" "$CNI" | sort | head -n 1)" = "$b" ] && say cni "$b" "$(tr -d ' \n' <"$f" | grep -o '"type":"[^"]*"' | head -n 1 | cut -d'"' -f4)"
	done
	if [ -z "$node" ]; then
		for i in cni0 flannel.1 vxlan.calico cilium_host cilium_net cilium_vxlan weave kube-bridge kube-ipvs0; do
			a=$(ip -o address show dev "$i") && say interface "$i" "$(printf '%s\n' "$a" | sed -n 's/.* inet6* \([^ ]*\) .*/\1/p' | head -n 1)"
		done
		t=" $(nft list chains | grep -oE 'KUBE-SERVICES|table ip6? kube-proxy|cali-[A-Z]+' | sort -u | tr '\n' ' ')"
		case $t in *KUBE-SERVICES* | *kube-proxy*) say rules kube-proxy "" ;; esac
		case $t in *cali-*) say rules calico "" ;; esac
	fi
fi

# What apt would remove.
if [ -n "$PACKAGES" ] && command -v apt-get >/dev/null; then
	# shellcheck disable=SC2086 # names
	apt-get -s -y --no-install-recommends install $PACKAGES | sed -n 's/^Remv \([^ ]*\).*/\1/p' | while read -r p; do
		say package "$p" ""
	done
fi
echo end
