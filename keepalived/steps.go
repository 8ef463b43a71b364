// Package keepalived keeps the virtual IP: keepalived's configuration, the
// prober that tells it which host is fit, and who owns the address right now.
//
// All hosts start as BACKUP with nopreempt, so that a host that comes back
// moves nothing; a FAULT (track file or script of weight 0) is what moves the
// VIP. See internal/prober for when a host reports one.
package keepalived

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/templates"
)

// Lane is the lane of keepalived's steps.
const Lane = "vip"

// Paths on a master.
const (
	confFile    = "/etc/keepalived/keepalived.conf"
	dropIn      = "/etc/systemd/system/keepalived.service.d/hactl.conf"
	checkScript = "/usr/local/libexec/hactl/check-apiserver"
	proberUnit  = "/etc/systemd/system/hactl-prober.service"
	trackFile   = "/run/hactl/apiserver"
	minority    = "/run/hactl/minority"
	apiserverCA = "/etc/kubernetes/pki/ca.crt"
)

// ProberLink is the name by which people call the prober on a master.
const ProberLink = "/usr/local/bin/hactl-prober"

// VIP is the virtual IP of a cluster and what is known of its hosts.
type VIP struct {
	Inv    *inventory.Inventory
	Facts  map[string]*facts.Brief
	Prober string // path of the hactl-prober executable for the hosts' architecture
	// Etcd gives HOST:PORT of a master's etcd member; the prober ends the local
	// apiserver's connections to one whose host has fallen silent.
	Etcd func(*inventory.Host) string
}

// UsesProber reports whether the masters run the prober; without it the check
// script decides, once a second.
func (v VIP) UsesProber() bool { return v.Inv.VIP.Prober == nil || *v.Inv.VIP.Prober }

func id(h *inventory.Host, what string) plan.ID { return plan.ID("keepalived/" + h.Name + "/" + what) }

// Interface is where the host carries the VIP: the configured one, or the one
// with its private address. The error names what to configure.
func (v VIP) Interface(h *inventory.Host) (string, error) {
	switch {
	case h.Interface != "":
		return h.Interface, nil
	case v.Inv.VIP.Interface != "":
		return v.Inv.VIP.Interface, nil
	}
	if f := v.Facts[h.Name]; f != nil {
		if i := f.InterfaceOf(h.PrivateAddress); i != nil {
			return i.Name, nil
		}
	}
	return "", fmt.Errorf("%s: no interface holds %s; set hosts[].interface or correct privateAddress", h.Name, h.PrivateAddress)
}

func (v VIP) apiURL(a netip.Addr) string {
	return "https://" + net.JoinHostPort(a.String(), strconv.Itoa(v.Inv.VIP.Port))
}

// local asks by loopback: it is in the certificate and no firewall is between.
func (v VIP) local() string {
	if v.Inv.IPv6() {
		return v.apiURL(netip.IPv6Loopback())
	}
	return v.apiURL(netip.MustParseAddr("127.0.0.1"))
}

type rendered struct {
	conf, unit, prober, check []byte
	// What the running processes must have. That of keepalived leaves out what it
	// reads anew at a reload.
	sum, proberSum string
	binarySum      string // sha256 of the prober
	program        string // its path on a host
}

// Steps returns the steps that keep the VIP on one master, in order.
func (v VIP) Steps(h *inventory.Host) ([]plan.Step, error) {
	r, err := v.render(h)
	if err != nil {
		return nil, err
	}
	file := func(what, path string, content []byte, mode fs.FileMode) plan.Step {
		return plan.File{ID: id(h, what), Host: h.Name, Path: path, Content: content, Mode: mode, Lane: Lane}.Step()
	}
	var steps []plan.Step
	if v.UsesProber() {
		steps = append(steps,
			plan.Executable{ID: id(h, "prober"), Host: h.Name, Path: r.program, Local: v.Prober, SHA256: r.binarySum, Lane: Lane}.Step(),
			file("prober-unit", proberUnit, r.prober, 0o644),
			plan.Service{
				ID: id(h, "prober-service"), Host: h.Name, Unit: "hactl-prober.service", Config: r.proberSum, Lane: Lane, Wait: 2 * time.Minute,
				Reads: map[string][]byte{proberUnit: r.prober},
			}.Step())
	} else {
		steps = append(steps, file("check-script", checkScript, r.check, 0o755))
	}
	steps = append(steps,
		file("config", confFile, r.conf, 0o644),
		file("drop-in", dropIn, r.unit, 0o644),
		plan.Service{
			ID: id(h, "service"), Host: h.Name, Unit: "keepalived.service", Config: r.sum, Lane: Lane, Wait: 2 * time.Minute,
			Reads: map[string][]byte{confFile: r.conf, dropIn: r.unit}, Reloaded: []string{confFile},
		}.Step(),
	)
	if !v.UsesProber() {
		// Once keepalived asks the script: until then it goes by the prober's file.
		steps = append(steps, plan.Service{ID: id(h, "prober-off"), Host: h.Name, Unit: "hactl-prober.service", Absent: true, Lane: Lane}.Step())
	}
	return steps, nil
}

func (v VIP) render(h *inventory.Host) (r rendered, err error) {
	iface, err := v.Interface(h)
	if err != nil {
		return r, err
	}
	var peers, peerURLs, peerPorts, members []string
	for _, m := range v.Inv.Masters() {
		if m.Name != h.Name {
			peers = append(peers, m.PrivateAddress.String())
			peerURLs = append(peerURLs, v.apiURL(m.PrivateAddress))
			members = append(members, v.Etcd(m))
			peerPorts = append(peerPorts, net.JoinHostPort(m.PrivateAddress.String(), strconv.Itoa(v.Inv.VIP.Port)))
		}
	}
	vip := netip.PrefixFrom(v.Inv.VIP.Address, v.Inv.VIP.Address.BitLen()).String()
	data := map[string]any{
		"Name": h.Name, "Prober": v.UsesProber(), "TrackFile": trackFile, "MinorityFile": minority, "Minority": v.minorityPenalty(), "CheckScript": checkScript,
		"RouterID": v.Inv.VIP.VirtualRouterID, "Interface": iface, "Priority": v.Priority(h),
		"AdvertInterval": strconv.FormatFloat(v.Inv.VIP.AdvertInterval.Seconds(), 'f', -1, 64),
		"Address":        h.PrivateAddress.String(), "Peers": peers, "VIP": vip, "CA": apiserverCA, "Local": v.local(),
	}
	if r.conf, err = templates.Render("keepalived.conf.tmpl", data); err != nil {
		return r, err
	}
	data["Local"], data["Peers"] = v.local()[len("https://"):], peerPorts
	if r.check, err = templates.Render("check-apiserver.sh.tmpl", data); err != nil {
		return r, err
	}
	if v.UsesProber() {
		if err := v.renderProber(&r, h, iface, peerURLs, members); err != nil {
			return r, err
		}
	}
	data["Config"], data["Reads"], data["Conf"] = "", []string{confFile, dropIn}, confFile
	bare, err := templates.Render("keepalived-unit.conf.tmpl", data)
	if err != nil {
		return r, err
	}
	fixed, err := fixedConf(data)
	if err != nil {
		return r, err
	}
	r.sum = plan.Digest(fixed, bare)
	data["Config"] = r.sum
	r.unit, err = templates.Render("keepalived-unit.conf.tmpl", data)
	return r, err
}

// fixedConf is keepalived's configuration without what it takes over at a reload: who the
// peers are, and with which priority and interval it speaks to them. The VIP stays where it
// is meanwhile. A restart would move it, and with it the requests that are on their way.
func fixedConf(data map[string]any) ([]byte, error) {
	fixed := maps.Clone(data)
	for _, reloaded := range []string{"Name", "Address", "Priority", "Minority", "AdvertInterval"} {
		fixed[reloaded] = ""
	}
	fixed["Peers"] = []string{""}
	return templates.Render("keepalived.conf.tmpl", fixed)
}

// ProberProgram is where the prober lies on a master. It has the version of the hactl
// that it was built with, which the hosts need not know.
func (v VIP) ProberProgram() (string, error) {
	sum, err := v.proberSum()
	return proberPath(sum), err
}

func proberPath(sum string) string { return plan.ProgramPath("hactl-prober", "build", sum) }

// proberSum is the SHA-256 of the prober, in hex.
func (v VIP) proberSum() (string, error) {
	b, err := os.ReadFile(v.Prober)
	if err != nil {
		return "", fmt.Errorf("read the prober: %w", err)
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:]), nil
}

func (v VIP) renderProber(r *rendered, h *inventory.Host, iface string, peers, members []string) error {
	var err error
	if r.binarySum, err = v.proberSum(); err != nil {
		return err
	}
	r.program = proberPath(r.binarySum)
	data := map[string]any{"Program": r.program, "Config": "", "Local": v.local(), "Peers": peers, "Etcd": members, "Self": h.PrivateAddress.String(), "VIP": v.Inv.VIP.Address.String(), "Interface": iface, "CA": apiserverCA, "TrackFile": trackFile, "MinorityFile": minority, "Reads": []string{proberUnit}}
	bare, err := templates.Render("hactl-prober.service.tmpl", data)
	if err != nil {
		return err
	}
	r.proberSum = plan.Digest(bare)
	data["Config"] = r.proberSum
	r.prober, err = templates.Render("hactl-prober.service.tmpl", data)
	return err
}
