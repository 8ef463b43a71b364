package reset

import (
	"hactl/internal/host"
	"hactl/internal/plan"
)

// cniLinks are the interfaces of the pod network; ipvs is kube-proxy's.
const cniLinks = "cni0 flannel.1 flannel-v6.1 kube-ipvs0"

// network is what the pod network and kube-proxy leave in the kernel: their links,
// routes, tables and chains, and no other's.
func (h Host) network() plan.Step {
	const find = `links() { for l in ` + cniLinks + `; do [ ! -e "/sys/class/net/$l" ] || echo "$l"; done; }
routes() { for f in -4 -6; do ip $f route show proto 104 2>/dev/null; done; }
tables() { command -v nft >/dev/null || return 0; nft list tables | awk '$3 == "kube-proxy" || $3 ~ /^hactl_/ { print $2, $3 }'; }
bare() { # tables without a rule that iptables made since hactl came
f=` + plan.OwnedDir + `/` + host.FormerTables + `; [ -e "$f" ] && command -v nft >/dev/null && command -v iptables-save >/dev/null || return 0
nft list tables | grep -vxF -f "$f" | while read -r _ family name; do
case $family/$name in ip/filter|ip/nat|ip/mangle|ip/raw) c=iptables-save ;; ip6/filter|ip6/nat|ip6/mangle|ip6/raw) c=ip6tables-save ;; *) continue ;; esac
$c -t "$name" 2>/dev/null | grep -q -e '^-A' -e '^:[^ ]* [^A]' || echo "$family $name"
done
}
chains() { # COMMAND
command -v "$1-save" >/dev/null || return 0
"$1-save" 2>/dev/null | awk '/^\*/ { table = substr($1, 2) } /^:(KUBE|CNI|FLANNEL)-/ { print table, substr($1, 2) }'
}
`
	return h.script("network", "remove the pod network and kube-proxy's rules", find+`
m=$(links; routes; tables; chains iptables; chains ip6tables; bare)
[ -z "$m" ] && echo ok || echo "$(echo "$m" | wc -l) links, routes and tables"`, find+`
for l in $(links); do ip link delete "$l" || exit; done
for f in -4 -6; do [ -z "$(ip $f route show proto 104 2>/dev/null)" ] || ip $f route flush proto 104 || exit; done
tables | while read -r family name; do nft delete table "$family" "$name" || exit; done || exit
# First the rules that jump to a chain, then what is in it, then the chain.
for c in iptables ip6tables; do
all=$(chains $c); [ -n "$all" ] || continue
"$c-save" | awk '
/^\*/ { print; table = substr($1, 2); n = 0; next }
/^:(KUBE|CNI|FLANNEL)-/ { own[n++] = substr($1, 2); next }
/^-A (KUBE|CNI|FLANNEL)-/ { next }
/^-A / && / -j (KUBE|CNI|FLANNEL)-/ { sub(/^-A/, "-D"); print; next }
/^COMMIT/ { for (i = 0; i < n; i++) print "-F " own[i]; for (i = 0; i < n; i++) print "-X " own[i]; print }' | "$c-restore" --noflush || exit
done
bare | while read -r family name; do nft delete table "$family" "$name" || exit; done`)
}
