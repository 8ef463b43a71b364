package lab

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"hactl/inventory"
)

func testLab(t *testing.T, c Config) *Lab {
	t.Helper()
	c.Dir = t.TempDir()
	if err := c.withDefaults(); err != nil {
		t.Fatal(err)
	}
	st, err := newState(c, "/base")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Lab{Dir: c.Dir, state: *st, report: func(string) {}}
}

func TestAddressesAreDistinctAndOutsideClusterSubnets(t *testing.T) {
	l := testLab(t, Config{Masters: maxMasters, Workers: maxWorkers, Bastion: true})
	taken := map[string]string{plan4.gateway: "hub", plan6.gateway: "hub", plan4.vip: "vip", plan6.vip: "vip"}
	macs := map[string]string{}
	forbidden := []netip.Prefix{
		netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.0.0/16"),
		netip.MustParsePrefix("fd00:10:96::/112"), netip.MustParsePrefix("fd00:10:244::/56"),
	}
	for _, h := range l.state.Hosts {
		for _, a := range []string{h.Address, h.Address6} {
			if other := taken[a]; other != "" {
				t.Errorf("%s and %s share %s", h.Name, other, a)
			}
			taken[a] = h.Name
			for _, p := range forbidden {
				if p.Contains(netip.MustParseAddr(a)) {
					t.Errorf("%s: %s lies in %s", h.Name, a, p)
				}
			}
		}
		if other := macs[h.MAC]; other != "" {
			t.Errorf("%s and %s share %s", h.Name, other, h.MAC)
		}
		macs[h.MAC] = h.Name
		if len(h.Name) > 15 {
			t.Errorf("%s names its port on the bridge and is longer than 15 characters", h.Name)
		}
	}
}

func TestInventoriesLoadAndNameTheHosts(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		l := testLab(t, Config{Masters: 3, Workers: 2, Bastion: true, IPv6: v6})
		if err := clientKey(l.Path("ssh"), "id_ed25519"); err != nil {
			t.Fatal(err)
		}
		if err := clientKey(l.Path("ssh"), "bastion_ed25519"); err != nil {
			t.Fatal(err)
		}
		pair, err := newKeyPair("test")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.writeInventories(pair.public); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"inventory.yaml", "inventory-sudo.yaml", "inventory-sudo-password.yaml", "inventory-bastion.yaml"} {
			inv, err := inventory.Load(l.Path(file))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if len(inv.Masters()) != 3 || len(inv.Workers()) != 2 || inv.Host("bastion") != nil {
				t.Errorf("%s: %d masters, %d workers, bastion %v", file, len(inv.Masters()), len(inv.Workers()), inv.Host("bastion"))
			}
			if inv.IPv6() != v6 {
				t.Errorf("%s: IPv6 is %v", file, inv.IPv6())
			}
			info, err := os.Stat(l.Path(file))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
			}
		}
	}
}

func TestBastionIsOnlyOfferedWhenThereIsOne(t *testing.T) {
	l := testLab(t, Config{Masters: 1})
	if err := l.writeInventories(""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Path("inventory-bastion.yaml")); err == nil {
		t.Error("an inventory through a bastion that does not exist")
	}
}

func TestStateSurvivesWritingAndIsPrivate(t *testing.T) {
	c := Config{Masters: 3, Workers: 1}
	l := testLab(t, c)
	if err := l.state.write(l.Dir); err != nil {
		t.Fatal(err)
	}
	got, err := Open("", l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.state.sameShape(Config{Masters: 3, Workers: 1}) || got.SudoPassword() != l.SudoPassword() || got.SudoPassword() == "" {
		t.Errorf("read back %+v", got.state)
	}
	for name, other := range map[string]Config{
		"masters": {Masters: 5, Workers: 1}, "bastion": {Masters: 3, Workers: 1, Bastion: true}, "bare": {Masters: 3, Workers: 1, Bare: true},
		"IPv6": {Masters: 3, Workers: 1, IPv6: true}, "preload": {Masters: 3, Workers: 1, Preload: "/x"}, "cpus": {Masters: 3, Workers: 1, CPUs: 1}, "system": {Masters: 3, Workers: 1, OS: "trixie"},
	} {
		if got.state.sameShape(other) {
			t.Errorf("other %s pass for the same lab", name)
		}
	}
	if info, err := os.Stat(l.Path("lab.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("lab.json: %v, %v", info, err)
	}
}

func TestOpenSaysThatThereIsNoLab(t *testing.T) {
	if _, err := Open("nowhere", t.TempDir()); err == nil || !strings.Contains(err.Error(), ErrNoLab.Error()) {
		t.Errorf("got %v", err)
	}
	if _, err := Open("../etc", ""); err == nil {
		t.Error("a name that is a path was taken")
	}
}

func TestConfigRefusesWhatCannotBeMade(t *testing.T) {
	for _, c := range []Config{{}, {Masters: 8}, {Masters: 1, CPUs: -1}, {Masters: 1, CPUs: 0.05}, {Masters: 1, CPUs: math.NaN()}, {Masters: -1, Workers: 3}, {Workers: 51}, {Masters: 1, OS: "sarge"}, {Masters: 1, Name: "a/b"}, {Masters: 1, Name: "A"}, {Masters: 1, Name: strings.Repeat("a", 33)}} {
		if err := c.withDefaults(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestKnownHostsNamesBothAddresses(t *testing.T) {
	l := testLab(t, Config{Masters: 1})
	pair, err := newKeyPair("test")
	if err != nil {
		t.Fatal(err)
	}
	path := l.Path("ssh", "known_hosts")
	if err := writeKnownHosts(path, l.state.Hosts, map[string]string{"master-1": pair.public}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, names, key, _, _, err := ssh.ParseKnownHosts(b)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(names, " ") != "10.77.0.11 fd77::11 master-1" || strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) != pair.public {
		t.Errorf("got %q", b)
	}
	signer, err := ssh.ParsePrivateKey(pair.private)
	if err != nil || string(signer.PublicKey().Marshal()) != string(key.Marshal()) {
		t.Errorf("private and public key do not match: %v", err)
	}
}
