# The second look at a host: what takes time to find out. The caller sets DIR
# (etcd's data folder or "", made or not), VIP, OWN (this host's address for VRRP, ""
# when it has no part in that), IFACE (the interface of the VIP, "" for the one with
# that address), PEERS (the addresses of the other masters), LISTEN and MOST (Go durations), OTHERS (the
# script of internal/others, or "") and PODS (the pod network). HELPER is hactl-network where hactl up
# puts it, SENT where preflight sends it, which is removed again, MACHINE what uname -m says on hosts
# that can run it, WITHOUT why it is not to be used, or "".
LC_ALL=C; export LC_ALL
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
exec 2>/dev/null
T=$(mktemp -d /run/hactl-preflight.XXXXXX || mktemp -d) || exit 1
scratch=
trap 'rm -rf "$T"; [ "$HELPER" != "$SENT" ] || rm -f "$SENT"; [ -z "$scratch" ] || rm -f "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

echo "clock $(date +%s%N)"

# The program that listens for VRRP on masters. It is sent when this says that it is missing.
if [ -n "$VIP" ] && [ -z "$WITHOUT" ]; then
	if [ "$(uname -m)" != "$MACHINE" ]; then
		WITHOUT="the hactl-network that is here runs on $MACHINE, the host is $(uname -m)"
	elif [ ! -x "$HELPER" ]; then
		HELPER=$SENT
		[ -e "$SENT" ] || { echo "helper missing"; echo "clock-after $(date +%s%N)"; echo end; exit 0; }
	fi
fi
# /run may be mounted noexec: then the program runs where it alone sees the mount without that option.
# shellcheck disable=SC2016
helper() {
	"$HELPER" "$@"
	[ $? = 126 ] && unshare -m sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,exec "$0" && exec "$0" "$@"' "$HELPER" "$@"
}

# Who sends VRRP adverts on the wire, and whether VRRP passes between the masters.
if [ -n "$OWN" ]; then
	[ -n "$IFACE" ] || IFACE=$(ip -o address show to "$OWN" | { read -r _ i _ && echo "${i%%@*}"; })
	if [ -n "$WITHOUT" ]; then
		echo "vrrp none $WITHOUT"
	elif [ -z "$IFACE" ]; then
		echo "vrrp none no interface has $OWN"
	else
		{
			helper vrrp "$IFACE" "$OWN" "$LISTEN" "$MOST" "$PEERS" >"$T/vrrp"
			grep -q '^vrrp [hn]' "$T/vrrp" || echo "vrrp none hactl-network does not run on the host" >>"$T/vrrp"
		} &
	fi
fi

# Whether a machine answers for the VIP, unless it is here: asking for its hardware address needs no
# open port. Only the neighbour table tells, whatever became of the connection; what
# it remembers of a former owner says nothing, so it is made to ask anew.
if [ -n "$VIP" ] && [ -z "$(ip -o address show to "$VIP")" ]; then
	if [ -z "$WITHOUT" ]; then
		knock() { helper knock "$VIP"; }
	elif command -v bash >/dev/null; then # over a slow line the program may not be there
		knock() { timeout 1 bash -c ": </dev/tcp/$VIP/9"; }
	else
		knock() { :; }
		echo "vip none"
		VIP=
	fi
	[ -z "$VIP" ] || { ip neigh flush to "$VIP"; knock; ip neigh show to "$VIP" >"$T/vip"; } &
fi

# What belongs to others (internal/others).
[ -z "$OTHERS" ] || sh -c "$OTHERS" | sed 's/^/other /' >"$T/others" &

# Chains that drop what is forwarded, unless a rule of theirs accepts the pods.
{
	nft -s list chains | awk '/^table / { t = $2 " " $3 } /^\tchain / { c = $2 } /hook forward .*policy drop/ { print t, c }' | grep -v ' hactl_drill ' |
		while read -r f t c; do nft list chain "$f" "$t" "$c" | grep -F "$PODS" | grep -q accept || echo "forward $f $t $c"; done
	grep -qsx filter /proc/net/ip_tables_names && iptables-legacy -S FORWARD | grep -qx -e '-P FORWARD DROP' &&
		! iptables-legacy -S FORWARD | grep -F -e "$PODS" | grep -q ACCEPT && echo 'forward iptables FORWARD'
} >"$T/forward" &

# Versions of what is at work, or has data. A program that merely lies there
# does not matter, and takes time to print its version.
version() { command -v "$1" >/dev/null && echo "version $1 $("$1" --version 2>&1 | head -n 1 | head -c 200)"; }
{
	grep -qsx kubelet /proc/[0-9]*/comm && version kubelet
	[ -n "$DIR" ] && [ -d "$DIR/member" ] && version etcd
} >"$T/versions" &

# Latency of one synchronous write of a page, as etcd's log makes them: in place,
# in a file that has its size. dd's own clock counts, not the start of dd.
if [ -n "$DIR" ]; then
	p=$DIR
	until [ -d "$p" ] || [ -z "$p" ]; do case $p in */*) p=${p%/*} ;; *) p= ;; esac; done
	scratch=$(mktemp "${p:-/}/.hactl-preflight.XXXXXX") && dd if=/dev/zero of="$scratch" bs=4096 count=100 conv=fsync || echo "sync none"
	i=0 end=$(($(date +%s%N) + 1200000000))
	while [ -s "$scratch" ] && [ $i -lt 100 ] && { [ $((i % 10)) != 0 ] || [ "$(date +%s%N)" -lt $end ]; }; do
		dd if=/dev/zero of="$scratch" bs=4096 count=1 seek=$i conv=notrunc oflag=dsync 2>>"$T/sync"
		i=$((i + 1))
	done
	sed -n 's/.* copied, \([0-9.e+-]*\) s.*/sync \1/p' "$T/sync"
fi

wait
cat "$T/versions" "$T/others" "$T/forward"
[ -e "$T/vrrp" ] && cat "$T/vrrp"
[ -e "$T/vip" ] && { echo "vip asked"; sed 's/^/vip-neighbour /' "$T/vip" | head -n 20; }
echo "clock-after $(date +%s%N)"
echo end
