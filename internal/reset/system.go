package reset

import (
	"fmt"
	"slices"
	"strings"

	"hactl/internal/host"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
)

// formerUnits are units that the host had before, as they were then.
func (h Host) formerUnits() []plan.Step {
	look, run := "m=\n", ":\n"
	for _, m := range h.Made {
		if m.Kind != "unit" || m.Former.Absent || m.Name == "containerd.service" && h.Others {
			continue
		}
		u := remote.Quote(m.Name)
		var l, r string
		if strings.Contains(" "+m.Former.Value+" ", " enabled ") {
			l += fmt.Sprintf("is_enabled %s || m=\"$m enable %s\"\n", u, m.Name)
			r += "systemctl enable --quiet " + u + " || exit\n" // with the links of its init script
		}
		if strings.HasSuffix(m.Former.Value, " active") {
			l += fmt.Sprintf("is_running %s || m=\"$m start %s\"\n", u, m.Name)
			r += "systemctl start " + u + " || exit\n"
		}
		if l != "" { // its file may have been hactl's alone
			there := "if is_loaded " + u + "; then\n"
			look, run = look+there+l+"fi\n", run+there+r+"fi\n"
		}
	}
	if run == ":\n" {
		return nil
	}
	// They are as before until the steps before this one stop them: a mark says whether
	// they were given back since.
	const mark = plan.OwnedDir + "/former/units-are-back"
	return []plan.Step{h.script("former-units", "give back", look+"[ -e "+mark+` ] || m="$m units that were there before"
[ -z "$m" ] && echo ok || echo "$m"`, "systemctl daemon-reload\n"+run+": >"+mark)}
}

// kernel is parameters, swap, the user of etcd, and modules, which go only where
// nothing else uses them.
func (h Host) kernel() plan.Step {
	look, run := "m=\n", ":\n"
	for _, m := range h.Made {
		switch {
		case m.Kind == "sysctl" && !m.Former.Absent && m.Former.Value != "":
			p := remote.Quote("/proc/sys/" + strings.ReplaceAll(m.Name, ".", "/"))
			v := remote.Quote(m.Former.Value)
			look += fmt.Sprintf("[ ! -e %[1]s ] || [ \"$(cat %[1]s)\" = %[2]s ] || m=\"$m %[3]s\"\n", p, v, m.Name)
			run += fmt.Sprintf("[ ! -e %[1]s ] || printf '%%s\\n' %[2]s >%[1]s || exit\n", p, v)
		case m.Kind == "user" && m.Former.Absent:
			u := remote.Quote(m.Name)
			look += fmt.Sprintf("! getent passwd %s >/dev/null || m=\"$m user %s\"\n", u, m.Name)
			run += fmt.Sprintf("! getent passwd %[1]s >/dev/null || userdel %[1]s || exit\n! getent group %[1]s >/dev/null || groupdel %[1]s || exit\n", u)
		case m.Kind == "swap":
			look += "[ ! -e /etc/fstab.hactl ] || m=\"$m swap\"\n"
			run += swapBack
			if m.Former.Value == "on" {
				run += "swapon -a || exit\n"
			}
			run += "rm -f /etc/fstab.hactl\n"
		case m.Kind == "mask":
			l, r := unmask(m.Name, h.hadSwap())
			look, run = look+l, run+r
		case m.Kind == "module" && m.Former.Absent:
			run += "modprobe -r " + remote.Quote(m.Name) + " 2>/dev/null || :\n"
		}
	}
	if h.Noted {
		noted := plan.OwnedDir + "/" + host.FormerParameters
		each := "while read -r p v; do [ \"$(cat \"$p\" 2>/dev/null)\" = \"$v\" ] || %s; done <" + noted
		look += "[ ! -e " + noted + " ] || m=\"$m$(" + fmt.Sprintf(each, `echo " ${p##*/}"`) + ")\"\n"
		run += "[ ! -e " + noted + " ] || " + fmt.Sprintf(each, `{ [ ! -e "$p" ] || printf '%s\n' "$v" >"$p"; }`) + " || exit\n"
	}
	return h.script("kernel", "give back kernel parameters, swap and users", look+`[ -z "$m" ] && echo ok || echo "$m"`, run)
}

// hadSwap reports whether the host swapped before hactl.
func (h Host) hadSwap() bool {
	return slices.ContainsFunc(h.Made, func(m plan.Made) bool { return m.Kind == "swap" && m.Former.Value == "on" })
}

// unmask gives back a unit that makes swap. One that systemd could not mask, because its
// file is in /etc, was disabled in place of that.
func unmask(unit string, start bool) (look, run string) {
	u := remote.Quote(unit)
	look = fmt.Sprintf("case $(enablement_of %s) in masked|disabled) m=\"$m %s\" ;; esac\n", u, unit)
	run = fmt.Sprintf("case $(enablement_of %[1]s) in masked) systemctl unmask --quiet -- %[1]s || exit ;; disabled) systemctl enable --quiet -- %[1]s || exit ;; esac\n", u)
	if start {
		run += fmt.Sprintf("systemctl daemon-reload && systemctl start -- %s || exit\n", u)
	}
	return look, run
}

// swapBack takes the comment off those lines of fstab that hactl put it on.
const swapBack = `if [ -e /etc/fstab.hactl ] && [ -e /etc/fstab ]; then
awk 'former { was["#" $0] = 1; next } ($0 in was) { $0 = substr($0, 2) } { print }' former=1 /etc/fstab.hactl former= /etc/fstab >/etc/.fstab.hactl &&
chmod 0644 /etc/.fstab.hactl && sync /etc/.fstab.hactl && mv /etc/.fstab.hactl /etc/fstab || exit
fi
`

// packages removes those that hactl installed, and those that came with them. Where
// the package manager would remove more than that, something else uses them: they stay.
func (h Host) packages() plan.Step {
	var own []string
	for _, m := range h.Made {
		if m.Kind == "package" && m.Former.Absent {
			own = append(own, m.Name)
		}
	}
	noted := plan.OwnedDir + "/" + host.FormerPackages
	find := "there() { " + sys.PackagesOf(h.PkgManager) + "_have " + remote.Quote(own...) + "; }\n"
	run := `export DEBIAN_FRONTEND=noninteractive LC_ALL=C
would() { apt-get -s "$@" | awk '$1 == "Remv" || $1 == "Purg" { print $2 }' | sort -u; }
list=$(there)
[ -n "$list" ] || exit 0
# What came with them is what is not needed without them and was not there before.
new=$(would --auto-remove purge $list | grep -vxF -f ` + noted + `)
all=$(printf '%s\n%s\n' "$list" "$new" | sort -u)
more=$(would purge $all | grep -vxF -e "$all")
[ -z "$more" ] || { echo "they stay, since others need them: $(echo $more)"; exit 0; }
apt-get -y -q purge $all >/dev/null`
	if h.PkgManager == "dnf" {
		run = dnfRemove(noted)
	}
	st := h.script("packages", "remove packages", find+`m=$(there | tr '\n' ' ')
[ -z "$m" ] && echo ok || echo "$m"`, find+run)
	return st
}

// dnfRemove removes the packages that the shell function there prints, and what dnf
// installed for them and nothing else needs, but nothing that was there before, according
// to the file noted.
func dnfRemove(noted string) string {
	return `export LC_ALL=C
list=$(there)
[ -n "$list" ] || exit 0
# dnf would remove those that need them, too.
if ! more=$(rpm -e --test $list 2>&1); then
case $more in *"is needed by"*) echo "they stay, since others need them: $(echo $more)"; exit 0 ;; esac
echo "$more" >&2; exit 1
fi
# A row of dnf's table begins with one space, the rest of a long row with more.
new=$(dnf remove --assumeno $list 2>/dev/null | awk '/^Removing/ { on = 1 } /^Transaction Summary/ { on = 0 } on && /^ [^ ]/ { print $1 }' | grep -vxF -f ` + noted + `)
dnf remove -y --noautoremove $(printf '%s\n%s\n' "$list" "$new" | sort -u)`
}
