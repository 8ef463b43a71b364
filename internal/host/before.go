package host

import (
	"strings"

	"hactl/internal/sys"
)

// Folders are those that hactl, and what it starts, make on a host. A removed host
// loses those that it did not have before.
var Folders = []string{
	"/etc/cni", "/etc/cni/net.d", "/etc/containerd", "/etc/etcd", "/etc/etcd/pki", "/etc/hactl", "/etc/keepalived", "/etc/kubernetes", "/etc/systemd/networkd.conf.d", "/etc/systemd/system/keepalived.service.d",
	"/opt/cni", "/opt/cni/bin", "/opt/containerd", "/opt/containerd/bin", "/opt/containerd/lib", "/opt/hactl", "/run/containerd", "/run/hactl", "/run/hactl/probe", "/run/hactl-started", "/usr/libexec/kubernetes", "/usr/libexec/kubernetes/kubelet-plugins", "/usr/libexec/kubernetes/kubelet-plugins/volume", "/usr/libexec/kubernetes/kubelet-plugins/volume/exec", "/usr/local/libexec/hactl",
	"/usr/local/libexec", "/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet",
}

// Files in the record's folder: those of [Folders] that were there before, with
// "empty" or "full", mode and owner; the names of all packages; kernel parameters, "FILE
// VALUE" a line; and the tables of nftables.
const (
	FormerFolders    = "former/folders"
	FormerPackages   = "former/packages"
	FormerParameters = "former/parameters"
	FormerTables     = "former/tables"
)

// parameters are those that the kubelet and kube-proxy set by themselves.
const parameters = "vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes " +
	"net/netfilter/nf_conntrack_max net/netfilter/nf_conntrack_tcp_timeout_established net/netfilter/nf_conntrack_tcp_timeout_close_wait " +
	"net/ipv4/conf/all/route_localnet"

// NoteBefore is a script, run in the record's folder before hactl changes anything: it
// notes what only the host itself knows of its state before.
func NoteBefore(manager string) string {
	return "for d in " + strings.Join(Folders, " ") + `; do [ ! -d "$d" ] || echo "$d $([ -n "$(ls -A "$d")" ] && echo full || echo empty) $(stat -c '%a %U:%G' "$d")"; done >` + FormerFolders + `
` + sys.PackagesOf(manager) + `_list | sort -u >` + FormerPackages + `
for p in ` + parameters + `; do p=/proc/sys/$p; { read -r v <"$p" && echo "$p $v"; } 2>/dev/null || :; done >` + FormerParameters + `
nft list tables 2>/dev/null >` + FormerTables + ` || :
sync ` + FormerFolders + " " + FormerPackages + " " + FormerParameters + " " + FormerTables
}
