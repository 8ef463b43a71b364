package keepalived

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hactl/internal/facts"
	"hactl/internal/goldentest"
	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func vipOf(t *testing.T, inv *inventory.Inventory, prober bool) VIP {
	t.Helper()
	v := VIP{Inv: inv, Facts: map[string]*facts.Brief{}, Prober: filepath.Join(t.TempDir(), "hactl-prober"),
		Etcd: func(h *inventory.Host) string { return netip.AddrPortFrom(h.PrivateAddress, 2379).String() }}
	if err := os.WriteFile(v.Prober, []byte("prober"), 0o755); err != nil {
		t.Fatal(err)
	}
	inv.VIP.Prober = &prober
	for _, h := range inv.Masters() {
		v.Facts[h.Name] = &facts.Brief{Interfaces: []facts.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.PrefixFrom(h.PrivateAddress, 24)}}}}
	}
	return v
}

func steps(t *testing.T, v VIP, i int) []plan.Step {
	t.Helper()
	s, err := v.Steps(v.Inv.Masters()[i])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesOfAMaster(t *testing.T) {
	for _, prober := range []bool{true, false} {
		for name, inv := range map[string]*inventory.Inventory{
			"one": inventorytest.One(t), "three": inventorytest.Three(t), "five": inventorytest.Five(t),
			"one-ipv6": inventorytest.Load(t, inventorytest.Text(1, 0, true)), "three-ipv6": inventorytest.ThreeIPv6(t), "five-ipv6": inventorytest.Load(t, inventorytest.Text(5, 0, true)),
		} {
			if !prober {
				name += "-script"
			}
			t.Run(name, func(t *testing.T) {
				v := vipOf(t, inv, prober)
				files := goldentest.Puts(t, steps(t, v, len(inv.Masters())-1))
				goldentest.Check(t, name, files)
				goldentest.Keepalived(t, files[confFile].Content)
				goldentest.Units(t, map[string][]byte{"keepalived.service": []byte("[Service]\nExecStart=/usr/sbin/keepalived\n"), "keepalived.service.d/hactl.conf": files[dropIn].Content})
				if prober {
					goldentest.Units(t, map[string][]byte{"hactl-prober.service": files[proberUnit].Content})
					return
				}
				goldentest.Shell(t, map[string]string{"check": string(files[checkScript].Content)})
			})
		}
	}
}

// keepalived ends a check script after a second and takes that for a failure: with
// every apiserver silent no host would be left to hold the address.
func TestCheckScriptOfFiveMastersAnswersWithinASecond(t *testing.T) {
	inv := inventorytest.Five(t)
	script := goldentest.Puts(t, steps(t, vipOf(t, inv, false), 0))[checkScript].Content
	dir := t.TempDir()
	// A curl that waits for as long as it is allowed to, unless the host answers.
	curl := `#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --max-time) limit=$2;; https://*) url=$1;; esac; shift; done
case $url in https://$ANSWERS:*) exit 0;; esac
sleep "$limit"; exit 28
`
	for name, text := range map[string][]byte{"curl": []byte(curl), "check": script} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	address := func(i int) string { return inv.Masters()[i].PrivateAddress.String() }
	for name, c := range map[string]struct {
		answers string
		exit    int
	}{
		"its own apiserver": {address(0), 0}, "the last peer's alone": {address(4), 1}, "nobody's": {"nobody", 0},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "check"))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "ANSWERS="+c.answers)
		start := time.Now()
		err := cmd.Run()
		took := time.Since(start)
		if exit := cmd.ProcessState.ExitCode(); exit != c.exit || took > 900*time.Millisecond {
			t.Errorf("%s answers: exit %d (%v) after %s", name, exit, err, took)
		}
	}
}

func TestConfigIsNamedByWhatARunningProcessReads(t *testing.T) {
	names := func(change func(*VIP)) (vip, prober string) {
		v := vipOf(t, inventorytest.Three(t), true)
		change(&v)
		r, err := v.render(v.Inv.Masters()[0])
		if err != nil {
			t.Fatal(err)
		}
		return r.sum, r.proberSum
	}
	vip, prober := names(func(*VIP) {})
	for name, c := range map[string]struct {
		change      func(*VIP)
		vip, prober bool // whether the process must restart
	}{
		"nothing":           {func(*VIP) {}, false, false},
		"a label":           {func(v *VIP) { v.Inv.Hosts[0].Labels = map[string]string{"a": "b"} }, false, false},
		"advert interval":   {func(v *VIP) { v.Inv.VIP.AdvertInterval *= 2 }, true, false},
		"router id":         {func(v *VIP) { v.Inv.VIP.VirtualRouterID++ }, true, false},
		"apiserver port":    {func(v *VIP) { v.Inv.VIP.Port++ }, true, true},
		"the prober":        {func(v *VIP) { _ = os.WriteFile(v.Prober, []byte("newer"), 0o755) }, false, true},
		"another interface": {func(v *VIP) { v.Inv.VIP.Interface = "eth1" }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			if a, b := names(c.change); (a != vip) != c.vip || (b != prober) != c.prober {
				t.Errorf("vip %t, prober %t", a != vip, b != prober)
			}
		})
	}
}

func TestInterfaceIsConfiguredOrFound(t *testing.T) {
	v := vipOf(t, inventorytest.Three(t), true)
	h := v.Inv.Masters()[0]
	for _, want := range []string{"eth0", "bond0", "ens3"} {
		switch want {
		case "bond0":
			v.Inv.VIP.Interface = want
		case "ens3":
			h.Interface = want
		}
		if got, err := v.Interface(h); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	h.Interface, v.Inv.VIP.Interface, v.Facts = "", "", nil
	if _, err := v.Interface(h); err == nil || !strings.Contains(err.Error(), "hosts[].interface") {
		t.Errorf("%v", err)
	}
}
