package host

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// told is a file by which another program of the host is told to leave alone what is
// hactl's. It is written only where the folder is there: where the program is installed.
type told struct {
	what    string // of the step's id, and its title
	file    string
	content string // ends with a newline
	summary string // "tell PROGRAM to ..."
}

// step keeps the file on hosts that have the program.
func (h Host) told(f told) plan.Step {
	dir, name := path.Split(f.file)
	fresh := dir + "." + name + ".new"
	sum := sha256.Sum256([]byte(f.content))
	note := ""
	if strings.Contains(f.content, "$") {
		note = "# shellcheck disable=SC2016 # it is the other program's\n"
	}
	return plan.Script{
		ID: h.id(f.what), Host: h.Host.Name, Title: f.what, Op: plan.Update, Acts: plan.EachOf,
		Look: note + `[ -d ` + path.Clean(dir) + ` ] || { echo ok; exit 0; }
[ "$(cat ` + f.file + ` 2>/dev/null)" = ` + remote.Quote(f.content[:len(f.content)-1]) + ` ] && echo ok || echo "has not been told"`,
		Summary: f.summary,
		Made: func(string) []plan.Made {
			return []plan.Made{{Kind: "file", Name: f.file, SHA256: hex.EncodeToString(sum[:]), Former: plan.Former{Absent: true}}}
		},
		Run: note + `printf '%s' ` + remote.Quote(f.content) + ` >` + fresh + ` && sync ` + fresh + ` && mv ` + fresh + ` ` + f.file,
	}.Step()
}

// cloudInit has cloud-init leave a host its name and /etc/hosts: by default it writes
// both anew at a boot.
func (h Host) cloudInit() plan.Step {
	return h.told(told{
		what: "cloud-init", file: cloudDir + "/99-hactl.cfg", summary: "tell cloud-init to leave the hostname and /etc/hosts alone",
		content: "# Written by hactl; changes made here are seen as drift and undone.\npreserve_hostname: true\nmanage_etc_hosts: false\n",
	})
}

// The folders of the two programs.
const (
	cloudDir       = "/etc/cloud/cloud.cfg.d"
	needrestartDir = "/etc/needrestart/conf.d"
)

// needrestart has needrestart, which runs after every apt, restart no unit of the cluster by
// itself. On Ubuntu it does so without a question, on all hosts in the same night: after
// an upgrade of a library keepalived would restart on every master, and containerd on every
// host. It still lists them, and an operator restarts one host after another (hactl
// reboot).
func (h Host) needrestart() plan.Step {
	return h.told(told{
		what: "needrestart", file: needrestartDir + "/90-hactl.conf", summary: "tell needrestart to leave the units of the cluster alone",
		content: "# Written by hactl; changes made here are seen as drift and undone.\n" +
			"$nrconf{override_rc}{qr(^(containerd|etcd|keepalived|kubelet|hactl-[a-z]+)(\\.service)?$)} = 0;\n1;\n",
	})
}
