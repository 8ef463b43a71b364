package inventory

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// complete fills in every default, makes paths independent of where the file
// lies, and gives each host the whole of its SSH settings.
func complete(inv *Inventory, d *decoder) {
	resolvePaths(inv, d)
	or(&inv.APIVersion, APIVersion)
	or(&inv.Kind, Kind)
	inv.NamedVersions = inv.Versions
	completeVersions(&inv.Versions)

	or(&inv.VIP.VirtualRouterID, 51)
	or(&inv.VIP.AdvertInterval, 100*time.Millisecond)
	or(&inv.VIP.Port, 6443)
	orBool(&inv.VIP.Prober, true)

	or(&inv.PKI.Algorithm, "ecdsa-p256")
	or(&inv.PKI.CAExpiry, 87600*time.Hour)
	or(&inv.PKI.Expiry, 43800*time.Hour)
	or(&inv.PKI.Store, filepath.Join(filepath.Dir(inv.Path), "pki-"+inv.Cluster))

	or(&inv.Etcd.DataDir, "/var/lib/etcd")
	or(&inv.Etcd.ElectionTimeout, time.Second)
	or(&inv.Etcd.HeartbeatInterval, heartbeat(inv.Etcd.ElectionTimeout))
	or(&inv.Etcd.QuotaBackendBytes, 8<<30)

	or(&inv.Backup.Keep, 8)
	or(&inv.SlowHosts, 1)
	or(&inv.Kubernetes.KubeletMaxPods, 110)
	orBool(&inv.Kubernetes.SchedulableMasters, len(inv.Workers()) == 0)
	or(&inv.Artifacts.Source, "upload")
	or(&inv.Artifacts.OSPackages, "install")
	orBool(&inv.Artifacts.Demo, len(inv.Workers()) > 0)

	for i := range inv.Hosts {
		completeHost(&inv.Hosts[i], inv)
	}
	completeSSH(&inv.SSH)
	completeNetwork(inv)
}

// or sets *v to a default if it is zero.
func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func orBool(v **bool, def bool) {
	if *v == nil {
		*v = &def
	}
}

func completeNetwork(inv *Inventory) {
	pods, services := "10.244.0.0/16", "10.96.0.0/16"
	if inv.IPv6() {
		pods, services = "fd00:10:244::/56", "fd00:10:96::/112"
	}
	or(&inv.Network.PodSubnet, netip.MustParsePrefix(pods))
	or(&inv.Network.ServiceSubnet, netip.MustParsePrefix(services))
	or(&inv.Network.DNSDomain, "cluster.local")
	or(&inv.Network.ProxyMode, "nftables")
	if inv.Network.Manifest != "" {
		or(&inv.Network.Preset, "none")
	}
	or(&inv.Network.Preset, "routes")
}

// completeHost inherits the inventory's SSH settings field by field.
// heartbeat is the default one: a fifth of the election timeout, which is the most
// that etcd takes, but not more than 200 ms. A member waits one to two election
// timeouts, in whole heartbeats, before it stands for election; the longer a
// heartbeat, the sooner the last one does.
func heartbeat(election Duration) Duration {
	return min(max((election/5).Truncate(time.Millisecond), time.Millisecond), 200*time.Millisecond)
}

func completeHost(h *Host, inv *Inventory) {
	own, all := reflect.ValueOf(&h.SSH).Elem(), reflect.ValueOf(inv.SSH)
	for i := range own.NumField() {
		if own.Field(i).IsZero() {
			own.Field(i).Set(all.Field(i))
		}
	}
	completeSSH(&h.SSH)
	if !h.PrivateAddress.IsValid() {
		if a, err := netip.ParseAddr(h.Address); err == nil && !a.IsLoopback() {
			h.PrivateAddress = a
		}
	}
}

// completeSSH leaves user and port as they are written: where the inventory names
// none, the operator's ssh configuration may, and the defaults come after it.
func completeSSH(s *SSH) {
	orBool(&s.Agent, true)
	or(&s.ConnectTimeout, 10*time.Second)
	if home, err := os.UserHomeDir(); err == nil {
		or(&s.KnownHosts, filepath.Join(home, ".ssh", "known_hosts"))
	}
	if s.Bastion == nil {
		return
	}
	b := *s.Bastion // each host has its own: defaults differ from host to host
	or(&b.KnownHosts, s.KnownHosts)
	s.Bastion = &b
}

// resolvePaths expands ~ and takes relative paths from the file's folder,
// wherever a field has the format "path" or "file"; the latter must be there.
func resolvePaths(inv *Inventory, d *decoder) {
	eachPath(reflect.ValueOf(inv).Elem(), "", func(path, format string, p *string) {
		switch rest, home := strings.CutPrefix(*p, "~"); {
		case *p == "":
			return
		case filepath.IsAbs(*p):
		case home:
			dir, err := os.UserHomeDir()
			if err != nil {
				d.report(path, "~ cannot be expanded: HOME is not set", "write the absolute path")
				return
			}
			*p = filepath.Join(dir, rest)
		default:
			*p = filepath.Join(filepath.Dir(inv.Path), *p)
		}
		if format == "file" {
			d.wantFile(path, *p)
		}
	})
}

// wantFile reports a file of the operator's machine that is not there.
func (d *decoder) wantFile(path, name string) {
	switch info, err := os.Stat(name); {
	case err != nil:
		d.report(path, quote(name)+" cannot be looked at: "+cause(err), "write the path of a file, absolute or relative to the inventory")
	case !info.Mode().IsRegular():
		d.report(path, quote(name)+" is not a file", "write the path of one file")
	}
}

// eachPath visits every string of the format "path" or "file" below v.
func eachPath(v reflect.Value, at string, visit func(path, format string, p *string)) {
	for _, f := range fieldsOf(v.Type()) {
		fv := v.Field(f.index)
		if fv.Kind() == reflect.Pointer {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
		}
		switch {
		case fv.Kind() == reflect.Map && f.format == "file":
			for _, key := range fv.MapKeys() {
				value := fv.MapIndex(key).String()
				visit(join(join(at, f.name), key.String()), f.format, &value)
				fv.SetMapIndex(key, reflect.ValueOf(value))
			}
		case f.format == "path" || f.format == "file":
			visit(join(at, f.name), f.format, fv.Addr().Interface().(*string))
		case f.name == "hosts":
			for i := range fv.Len() {
				eachPath(fv.Index(i), indexed(f.name, i), visit)
			}
		case kindOf(fv.Type()) == "block" && fv.Kind() == reflect.Struct:
			eachPath(fv, join(at, f.name), visit)
		}
	}
}
