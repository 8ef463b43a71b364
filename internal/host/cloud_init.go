package host

import (
	"crypto/sha256"
	"encoding/hex"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// cloudFile has cloud-init leave a host its name and /etc/hosts: by default it writes
// both anew at a boot.
const (
	cloudDir     = "/etc/cloud/cloud.cfg.d"
	cloudFile    = cloudDir + "/99-hactl.cfg"
	cloudContent = "# Written by hactl; changes made here are seen as drift and undone.\npreserve_hostname: true\nmanage_etc_hosts: false\n"
)

// cloudInit keeps the file on hosts that have cloud-init.
func (h Host) cloudInit() plan.Step {
	sum := sha256.Sum256([]byte(cloudContent))
	return plan.Script{
		ID: h.id("cloud-init"), Host: h.Host.Name, Title: "cloud-init", Op: plan.Update, Acts: plan.EachOf,
		Look: `[ -d ` + cloudDir + ` ] || { echo ok; exit 0; }
[ "$(cat ` + cloudFile + ` 2>/dev/null)" = ` + remote.Quote(cloudContent[:len(cloudContent)-1]) + ` ] && echo ok || echo "has not been told"`,
		Summary: "tell cloud-init to leave the hostname and /etc/hosts alone",
		Made: func(string) []plan.Made {
			return []plan.Made{{Kind: "file", Name: cloudFile, SHA256: hex.EncodeToString(sum[:]), Former: plan.Former{Absent: true}}}
		},
		Run: `printf '%s' ` + remote.Quote(cloudContent) + ` >` + cloudDir + `/.99-hactl.new && sync ` + cloudDir + `/.99-hactl.new && mv ` + cloudDir + `/.99-hactl.new ` + cloudFile,
	}.Step()
}
