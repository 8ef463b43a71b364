package reset

import (
	"fmt"
	"path"
	"strings"

	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
)

// former is the folder with the contents that were replaced.
const former = plan.OwnedDir + "/former/"

// fileFunctions look at a path and take back what hactl made there.
const fileFunctions = `gone() { [ ! -e "$1" ] && [ ! -L "$1" ]; }
is() { [ -f "$1" ] && [ ! -L "$1" ] && s=$(sha256sum <"$1") && [ "${s%% *}" = "$2" ]; }
drop() { gone "$1" || rm -f -- "$1"; }
back() { # PATH SHA256 MODE OWNER
is "$1" "$2" && return
t=$(dirname -- "$1")/.hactl-back
cp -- "` + former + `$2" "$t" && chown "$4" "$t" && chmod "$3" "$t" && sync "$t" && mv -fT -- "$t" "$1"
}
`

// files are those of the record, links included: removed where there was none before,
// else as they were before.
func (h Host) files() plan.Step {
	look, run := fileFunctions+"n=0\nnot() { n=$((n+1)); }\n", fileFunctions
	for _, m := range h.Made {
		l, r := h.takeBack(m)
		look, run = look+l, run+r
	}
	return h.script("files", "take files back", look+`[ "$n" = 0 ] && echo ok || echo "$n files"`, run+"systemctl daemon-reload")
}

// takeBack gives what looks whether a thing is as before, and what makes it so.
func (h Host) takeBack(m plan.Made) (look, run string) {
	p := remote.Quote(m.Name)
	switch {
	case m.Kind != "file" && m.Kind != "link", h.keptFile(m):
	case m.Former.Absent:
		return "gone " + p + " || not\n", "drop " + p + " || exit\n"
	case m.Kind == "file" && m.Former.SHA256 != "":
		mode, owner := orElse(m.Former.Mode, "755"), orElse(m.Former.Owner, "root:root")
		return fmt.Sprintf("is %s %s || not\n", p, m.Former.SHA256), fmt.Sprintf("back %s %s %s %s || exit\n", p, m.Former.SHA256, mode, remote.Quote(owner))
	case m.Kind == "link" && m.Former.File:
		kept := remote.Quote(former + host.KeptLink(m.Name))
		return fmt.Sprintf("[ ! -e %s ] || not\n", kept), fmt.Sprintf("[ ! -e %[1]s ] || mv -fT %[1]s %[2]s || exit\n", kept, p)
	case m.Kind == "link" && m.Former.Value != "":
		return fmt.Sprintf("[ \"$(readlink %s)\" = %s ] || not\n", p, remote.Quote(m.Former.Value)),
			fmt.Sprintf("ln -sfn %s %s.hactl && mv -fT %[2]s.hactl %[2]s || exit\n", remote.Quote(m.Former.Value), p)
	}
	return "", ""
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// keptFile is a file that is removed at the end, with the record, or that stays since
// containers of others need it.
func (h Host) keptFile(m plan.Made) bool {
	if path.Dir(m.Name) == plan.OwnedDir {
		return true
	}
	name := m.Name + " " + m.Target
	return h.Others && (strings.Contains(name, "containerd") || strings.HasSuffix(m.Name, "/ctr") || strings.HasPrefix(m.Name, "/opt/cni/"))
}

// shared are folders in which others may have put something: they go only when empty.
var shared = map[string]bool{
	"/etc/cni": true, "/etc/cni/net.d": true, "/etc/keepalived": true, "/etc/systemd/system/keepalived.service.d": true, "/opt/cni": true, "/opt/cni/bin": true,
	"/opt/containerd": true, "/opt/containerd/bin": true, "/opt/containerd/lib": true, "/etc/systemd/networkd.conf.d": true,
	"/usr/libexec/kubernetes": true, "/usr/libexec/kubernetes/kubelet-plugins": true, "/usr/libexec/kubernetes/kubelet-plugins/volume": true, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec": true,
	"/usr/local/libexec": true, "/usr/local/libexec/hactl": true,
}

// folders are those that the host did not have before. kubeadm, the kubelet and
// containerd fill theirs by themselves. A folder that is a mount point of the operator's
// is emptied and stays.
func (h Host) folders() plan.Step {
	noted := "before() { grep -sF \"$1 \" " + plan.OwnedDir + "/" + host.FormerFolders + " | grep \"^$1 \"; }\n"
	if !h.Noted {
		noted = "before() { :; }\n"
	}
	list := ""
	for _, d := range h.folderList() {
		list = " " + remote.Quote(d) + list // the deepest first: a folder follows its parent in the list
	}
	sharedList := ""
	for _, d := range h.folderList() {
		if shared[d] {
			sharedList += " " + d + " "
		}
	}
	fun := noted + "shared=" + remote.Quote(sharedList) + "\n" + `empty() { [ -z "$(ls -A "$1")" ]; }
point() { awk -v d="$1" '$2 == d { found = 1 } END { exit !found }' /proc/self/mounts; }
due() { # FOLDER; sets was to "full", "empty MODE OWNER" or nothing
[ -d "$1" ] || return 1
was=$(before "$1"); was=${was#"$1 "}
case $was in
full*) return 1 ;;
empty*) case $shared in *" $1 "*) false ;; *) ! empty "$1" ;; esac || [ "empty $(stat -c '%a %U:%G' "$1")" != "$was" ]; return ;;
esac
case $shared in *" $1 "*) empty "$1" ;; *) ! point "$1" || ! empty "$1" ;; esac
}
give() { # FOLDER
case $shared in *" $1 "*) case $was in empty*) ;; *) rmdir "$1"; return ;; esac ;; *) find "$1" -mindepth 1 -xdev -delete || return ;; esac
if [ -n "$was" ]; then m=${was#empty }; chmod "${m% *}" "$1" && chown "${m#* }" "$1"; else point "$1" || rmdir "$1"; fi
}
`
	return h.script("folders", "remove folders", fun+`m=; for d in`+list+`; do ! due "$d" || m="$m $d"; done
[ -z "$m" ] && echo ok || echo "$m"`, fun+`for d in`+list+`; do
! due "$d" || give "$d" || exit
done`)
}
