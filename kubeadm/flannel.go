package kubeadm

import (
	"io/fs"
	"path"
	"time"

	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/templates"
)

const (
	flannelScript = "/usr/local/libexec/hactl/flannel-cni"
	flannelUnit   = "hactl-flannel-cni"
)

// flannel returns the steps of the flannel preset on one host. flannel's own
// CNI plugin is not needed: systemd watches for the subnet that flannel was
// given, and a script makes the configuration of the bridge plugin from it.
func (c Cluster) flannel(h *inventory.Host) ([]plan.Step, error) {
	data := map[string]any{"IPv6": c.Inv.IPv6(), "Default": defaultRoute(c.Inv), "Dir": path.Dir(conflist), "File": conflist}
	steps := []plan.Step{}
	for _, f := range []struct {
		what, template, path string
		mode                 fs.FileMode
	}{
		{"flannel-script", "flannel-cni.sh.tmpl", flannelScript, 0o755},
		{"flannel-service", "flannel-cni.service.tmpl", "/etc/systemd/system/" + flannelUnit + ".service", 0o644},
		{"flannel-path", "flannel-cni.path.tmpl", "/etc/systemd/system/" + flannelUnit + ".path", 0o644},
	} {
		content, err := templates.Render(f.template, data)
		if err != nil {
			return nil, err
		}
		steps = append(steps, plan.File{ID: id(h, f.what), Host: h.Name, Path: f.path, Content: content, Mode: f.mode, Lane: Lane}.Step())
	}
	return append(steps, plan.Script{
		ID: id(h, "flannel-watch"), Host: h.Name, Title: "watch for flannel's subnet", Lane: Lane, Op: plan.Start, Timeout: 2 * time.Minute,
		Look: `u=` + flannelUnit + `.path
is_enabled $u && is_running $u || { echo "$u is not active"; exit 0; }
[ ! -e /run/flannel/subnet.env ] || [ -s ` + conflist + ` ] && echo ok || echo "flannel has a subnet and there is no CNI configuration"`,
		Summary: "watch for the subnet that flannel is given", Made: func(string) []plan.Made { return ownUnit(flannelUnit + ".path") }, Owns: ownUnit(flannelUnit + ".path"),
		Run: `systemctl daemon-reload && systemctl enable --quiet --now ` + flannelUnit + `.path &&
if [ -e /run/flannel/subnet.env ]; then systemctl start ` + flannelUnit + `.service; fi`,
	}.Step()), nil
}
