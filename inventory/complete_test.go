package inventory

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"hactl/internal/versions"
)

func parse(t *testing.T, text string) *Inventory {
	t.Helper()
	inv, err := Parse("/etc/hactl/inventory.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	t.Setenv("HOME", "/home/op")
	inv := parse(t, "apiVersion: hactl/v1\nkind: Cluster\n"+minimalText)
	yes, no := true, false
	want := &Inventory{
		APIVersion: APIVersion, Kind: Kind,
		Path: "/etc/hactl/inventory.yaml", Cluster: "demo",
		Versions: Versions{Kubernetes: versions.Default, Etcd: versions.OfDefault().Etcd, Containerd: versions.OfDefault().Containerd},
		VIP:      VIP{Address: netip.MustParseAddr("192.0.2.10"), VirtualRouterID: 51, AdvertInterval: 100 * time.Millisecond, Port: 6443, Prober: &yes},
		Network: Network{
			PodSubnet: netip.MustParsePrefix("10.244.0.0/16"), ServiceSubnet: netip.MustParsePrefix("10.96.0.0/16"),
			DNSDomain: "cluster.local", Preset: "routes", ProxyMode: "nftables",
		},
		SSH:        SSH{Agent: &yes, KnownHosts: "/home/op/.ssh/known_hosts", ConnectTimeout: 10 * time.Second},
		PKI:        PKI{Algorithm: "ecdsa-p256", CAExpiry: 87600 * time.Hour, Expiry: 43800 * time.Hour, Store: "/etc/hactl/pki-demo"},
		Etcd:       Etcd{DataDir: "/var/lib/etcd", HeartbeatInterval: 200 * time.Millisecond, ElectionTimeout: time.Second, QuotaBackendBytes: 8 << 30},
		Kubernetes: Kubernetes{SchedulableMasters: &yes, KubeletMaxPods: 110},
		Backup:     Backup{Keep: 8},
		SlowHosts:  1,
		Artifacts:  Artifacts{Source: "upload", OSPackages: "install", Demo: &no},
	}
	want.Hosts = []Host{{Name: "master-1", Address: "192.0.2.11", PrivateAddress: netip.MustParseAddr("192.0.2.11"), Role: ControlPlane, SSH: want.SSH}}
	if !reflect.DeepEqual(inv, want) {
		t.Errorf("got  %+v\nwant %+v", inv, want)
	}
}

func TestHeartbeatFollowsTheElectionTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"etcd: {electionTimeout: 5s}":                             200 * time.Millisecond,
		"etcd: {electionTimeout: 999ms}":                          199 * time.Millisecond,
		"etcd: {electionTimeout: 5ms}":                            time.Millisecond,
		"etcd: {electionTimeout: 900ms, heartbeatInterval: 50ms}": 50 * time.Millisecond,
		"etcd: {heartbeatInterval: 100ms}":                        100 * time.Millisecond,
	} {
		if got := parse(t, minimalText+text+"\n").Etcd.HeartbeatInterval; got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestHostInheritsEachSSHSettingByItself(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	touch(t, dir, "keys/op", "jump")
	inv, err := Parse(filepath.Join(dir, "i.yaml"), []byte(`cluster: demo
vip: {address: 192.0.2.10}
ssh: {user: op, key: keys/op, agent: false, sudoPasswordEnv: PW, bastion: {address: jump.example.com, key: ~/jump}}
hosts:
- {name: a, address: 192.0.2.1, role: control-plane}
- {name: b, address: 192.0.2.2, role: worker, ssh: {user: root, port: 2222, knownHosts: /kh, agent: true, bastion: {address: other, user: u}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	a, b := inv.Host("a").SSH, inv.Host("b").SSH
	if a.User != "op" || a.Key != dir+"/keys/op" || *a.Agent || a.Sudo != nil || a.Port != 0 || a.SudoPasswordEnv != "PW" {
		t.Errorf("a: %+v", a)
	}
	if want := (Bastion{"jump.example.com", 0, "", dir + "/jump", "", dir + "/.ssh/known_hosts"}); *a.Bastion != want {
		t.Errorf("a's bastion: %+v, want %+v", *a.Bastion, want)
	}
	if b.User != "root" || b.Key != dir+"/keys/op" || !*b.Agent || b.Sudo != nil || b.Port != 2222 || b.KnownHosts != "/kh" {
		t.Errorf("b: %+v", b)
	}
	if want := (Bastion{"other", 0, "u", "", "", "/kh"}); *b.Bastion != want {
		t.Errorf("b's bastion: %+v, want %+v", *b.Bastion, want)
	}
}

func TestRelativePathsLieBesideTheFile(t *testing.T) {
	t.Setenv("HOME", "/home/op")
	dir := t.TempDir()
	t.Chdir(dir)
	touch(t, dir, "sub/ca.pem", "k/ca.key")
	key := filepath.Join(dir, "k", "ca.key")
	inv, err := Parse(filepath.Join("sub", "inventory.yaml"), []byte(doc(
		"pki: {store: ../secrets, externalCA: {etcd: {cert: ca.pem, key: "+key+"}}}", "artifacts: {bundle: ~/bundle}")))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{inv.PKI.Store, inv.PKI.ExternalCA.Etcd.Cert, inv.PKI.ExternalCA.Etcd.Key, inv.Artifacts.Bundle}
	want := []string{"secrets", filepath.Join("sub", "ca.pem"), key, "/home/op/bundle"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWorkersLeaveTheMastersTainted(t *testing.T) {
	inv := parse(t, doc(hosts("192.0.2.1", "{name: w, address: 192.0.2.2, role: worker}")))
	if *inv.Kubernetes.SchedulableMasters {
		t.Error("masters are schedulable beside a worker")
	}
}
