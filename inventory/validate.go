package inventory

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// validate reports what no single value shows: what does not fit together.
// What was refused while decoding is not complained of again.
func validate(inv *Inventory, d *decoder) {
	validateMasters(inv, d)
	validateHosts(inv, d)
	validateVIP(inv, d)
	validateNetwork(inv, d)
	validateVersions(inv, d)
	validatePKI(inv, d)
	validateEtcd(inv, d)
	validateShutdown(inv, d)
	validateFlagFiles(inv, d)
	validateAnonymous(inv, d)
	validateKubelet(inv, d)
	validateRegistries(inv, d)
	validateArtifacts(inv, d)
}

// validateMasters holds the number of masters to what etcd can make use of.
func validateMasters(inv *Inventory, d *decoder) {
	for i := range inv.Hosts {
		if d.known(indexed("hosts", i) + ".role") {
			return // the count is not known
		}
	}
	switch n := len(inv.Masters()); {
	case n == 0:
		d.report("hosts", "no host is a master", "give 1, 3, 5 or 7 hosts the role: control-plane")
	case n > 7:
		d.report("hosts", fmt.Sprintf("%d hosts are masters; every write waits for a majority of them", n), "give at most 7 hosts the role: control-plane, the others role: worker")
	case n%2 == 0:
		inv.note(d, "hosts", inv.EvenMasters(), fmt.Sprintf("give %d or %d hosts the role: control-plane", n-1, n+1))
	}
}

// EvenMasters says what an even number of masters is worth, or "" for an odd one.
func (inv *Inventory) EvenMasters() string {
	n := len(inv.Masters())
	switch {
	case n%2 == 1:
		return ""
	case n == 2:
		return "2 masters survive no more failures than 1 master does"
	}
	return fmt.Sprintf("%d masters survive no more failures than %d masters do", n, n-1)
}

// validateHosts looks for what two hosts cannot share, and for hosts that
// lack an address inside the cluster.
func validateHosts(inv *Inventory, d *decoder) {
	seenName, seenAddr, seenPrivate := firsts{}, firsts{}, firsts{}
	for i := range inv.Hosts {
		h, path := &inv.Hosts[i], indexed("hosts", i)
		seenName.once(d, h.Name, path+".name", i)
		fresh := seenAddr.once(d, sshTarget(h), path+".address", i)
		if where := privatePath(d, i); h.PrivateAddress.IsValid() && (fresh || where != path+".address") {
			seenPrivate.once(d, h.PrivateAddress.String(), where, i)
		}
		if !h.PrivateAddress.IsValid() && !d.known(path+".address") {
			d.report(path+".privateAddress", fmt.Sprintf("is missing: %s is not an address that other hosts can use", quote(h.Address)),
				"write privateAddress: with the IP address of this host in the network of the cluster")
		}
		validateTaints(h, path, d)
	}
}

// firsts remembers which host had a value first.
type firsts map[string]int

// once reports the value of a second host. It says whether the value is new.
func (seen firsts) once(d *decoder, value, path string, i int) bool {
	j, ok := seen[value]
	switch {
	case value == "":
	case ok:
		first := indexed("hosts", j)
		d.report(path, fmt.Sprintf("%s is also in %s, on line %d", value, first, d.at[first].line), "write one that no other host has")
	default:
		seen[value] = i
	}
	return !ok
}

// sshTarget is what tells one ssh destination from another: hosts behind a
// forwarded port share an address, hosts behind different bastions may, too.
func sshTarget(h *Host) string {
	if h.Address == "" {
		return ""
	}
	address := strings.ToLower(strings.TrimSuffix(h.Address, "."))
	if a, err := netip.ParseAddr(h.Address); err == nil {
		address = a.String()
	}
	if h.SSH.Port != 0 && h.SSH.Port != 22 {
		address += " port " + strconv.Itoa(h.SSH.Port)
	}
	if h.SSH.Bastion != nil {
		address += " behind " + h.SSH.Bastion.Address
	}
	return address
}

func hostName(inv *Inventory, i int) string {
	if n := inv.Hosts[i].Name; n != "" {
		return quote(n)
	}
	return indexed("hosts", i)
}

func validateTaints(h *Host, path string, d *decoder) {
	seen := map[[2]string]bool{}
	for j, t := range h.Taints {
		id := [2]string{t.Key, t.Effect}
		if t.Key != "" && seen[id] {
			d.report(indexed(path+".taints", j), fmt.Sprintf("the taint %s with effect %s is given twice", t.Key, t.Effect), "remove one of the two")
		}
		seen[id] = true
	}
}

func validatePKI(inv *Inventory, d *decoder) {
	if ca := inv.PKI.ExternalCA.Kubernetes; ca != nil && ca.Key == "" {
		d.report("pki.externalCA.kubernetes.key", "is missing", "name the key: the controller manager signs the certificates of kubelets with it; only etcd and frontProxy can be signed elsewhere")
	}
	if inv.PKI.CAExpiry < inv.PKI.Expiry && !d.known("pki.expiry") {
		path := "pki.caExpiry"
		if _, ok := d.at[path]; !ok {
			path = "pki.expiry"
		}
		d.report(path, fmt.Sprintf("certificates valid for %s would outlive their CA, valid for %s", short(inv.PKI.Expiry), short(inv.PKI.CAExpiry)),
			"write an expiry of at most caExpiry")
	}
}

func validateEtcd(inv *Inventory, d *decoder) {
	e := inv.Etcd
	if e.HeartbeatInterval%time.Millisecond != 0 {
		d.report("etcd.heartbeatInterval", short(e.HeartbeatInterval)+" is not a whole number of milliseconds", "write "+short(e.HeartbeatInterval.Round(time.Millisecond)))
	}
	if e.ElectionTimeout%time.Millisecond != 0 {
		d.report("etcd.electionTimeout", short(e.ElectionTimeout)+" is not a whole number of milliseconds", "write "+short(e.ElectionTimeout.Round(time.Millisecond)))
	}
	if e.ElectionTimeout < 5*e.HeartbeatInterval && !d.known("etcd.heartbeatInterval") {
		path := "etcd.electionTimeout"
		if _, ok := d.at[path]; !ok {
			path = "etcd.heartbeatInterval"
		}
		d.report(path, fmt.Sprintf("an election timeout of %s is less than five heartbeats of %s", short(e.ElectionTimeout), short(e.HeartbeatInterval)),
			"write an electionTimeout of at least "+short(5*e.HeartbeatInterval)+", or a shorter heartbeatInterval")
	}
}

// leastShutdownDelay is what an apiserver has to serve on for after the signal to
// stop: the VIP leaves a second after, and a busy host is late.
const leastShutdownDelay = 3 * time.Second

func validateShutdown(inv *Inventory, d *decoder) {
	const flag = "shutdown-delay-duration"
	given, ok := inv.Kubernetes.APIServerExtraArgs[flag]
	if !ok {
		return
	}
	path := "kubernetes.apiServerExtraArgs." + flag
	delay, err := time.ParseDuration(given)
	switch {
	case err != nil:
		d.report(path, "is "+quote(given), "write a duration, such as 5s")
	case delay < leastShutdownDelay && len(inv.Masters()) > 1:
		d.report(path, "an apiserver that ends after "+short(delay)+" ends before the VIP has left it", "write "+short(leastShutdownDelay)+" or more, or remove it: 5s are the default")
	}
}

// short is a duration without the zero units that time.Duration prints: 5h, not 5h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func validateArtifacts(inv *Inventory, d *decoder) {
	if inv.Artifacts.Source == "mirror" && inv.Artifacts.Mirror == "" {
		d.report("artifacts.mirror", "is missing, and source is mirror", "write mirror: https://... with the URL of the bundle's folder")
	}
	if a := inv.Artifacts; a.Source != "mirror" && a.Mirror != "" && !d.known("artifacts.source") {
		d.report("artifacts.mirror", "is set and source is "+a.Source, "write source: mirror, or remove the line")
	}
	if n := inv.Network; n.Manifest != "" && n.Preset != "none" {
		d.report("network.preset", fmt.Sprintf("%s and a manifest would be two pod networks", n.Preset), "remove the line preset, or the line manifest")
	}
}
