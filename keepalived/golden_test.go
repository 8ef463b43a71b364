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
	"hactl/internal/fakehost"
	"hactl/internal/goldentest"
	"hactl/internal/plan"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
)

func TestMain(m *testing.M) { os.Exit(fakehost.Main(m)) }

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
// every apiserver silent no host would be left to hold the address. What the script
// allows itself is counted, not the time that this machine takes for its processes.
func TestCheckScriptOfFiveMastersAnswersWithinASecond(t *testing.T) {
	inv := inventorytest.Five(t)
	script := goldentest.Puts(t, steps(t, vipOf(t, inv, false), 0))[checkScript].Content
	dir := t.TempDir()
	// A curl that notes how long it may wait for a host. A peer's ends when every
	// host has been asked, which only happens if the peers are asked side by side.
	curl := `#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --max-time) limit=$2;; https://*) host=${1#https://} host=${host%:*};; esac; shift; done
echo "$limit" >>"$ASKED/$host"
left=200
until set -- "$ASKED"/*; [ "$host" = "$OWN" ] || [ $# -eq 5 ] || [ -e "$ASKED/one-by-one" ]; do
	[ $((left -= 1)) -gt 0 ] && /bin/sleep 0.05 || : >"$ASKED/one-by-one"
done
[ "$host" = "$ANSWERS" ] || exit 28
`
	for name, text := range map[string][]byte{"curl": []byte(curl), "check": script} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	const own = "127.0.0.1" // a host asks its own apiserver on the loopback
	for name, c := range map[string]struct {
		answers     string
		exit, asked int
	}{
		"its own apiserver": {own, 0, 1}, "the last peer's alone": {inv.Masters()[4].PrivateAddress.String(), 1, 5}, "no apiserver": {"none", 0, 5},
	} {
		asked := t.TempDir()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "check"))
		// There is nothing but curl on the PATH: whatever else might take time is not found, and that is said.
		cmd.Env = []string{"PATH=" + dir, "ASKED=" + asked, "OWN=" + own, "ANSWERS=" + c.answers}
		out, err := cmd.CombinedOutput()
		if exit := cmd.ProcessState.ExitCode(); exit != c.exit || len(out) > 0 {
			t.Errorf("%s answers: exit %d (%v)\n%s", name, exit, err, out)
		}
		if self, peers := limits(t, asked, own, c.asked); self+peers > 900*time.Millisecond {
			t.Errorf("%s answers: %s for its own and %s for the peers", name, self, peers)
		}
	}
}

// limits returns how long the script waits for its own apiserver and for the slowest
// peer, when it asks as many hosts as it should, once each and all peers at once.
func limits(t *testing.T, asked, own string, hosts int) (self, peers time.Duration) {
	t.Helper()
	entries, err := os.ReadDir(asked)
	if err != nil || len(entries) != hosts {
		t.Errorf("asked %v (%v), want %d hosts", entries, err, hosts)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(asked, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		limit, err := time.ParseDuration(strings.TrimSuffix(string(b), "\n") + "s")
		switch {
		case err != nil || limit <= 0: // asked twice, or curl may wait for ever
			t.Errorf("%s was asked with the limits %q", e.Name(), b)
		case e.Name() == own:
			self = limit
		default:
			peers = max(peers, limit)
		}
	}
	return self, peers
}

// A change that keepalived takes over at a reload does not restart it: that would move the VIP.
func TestChangeRestartsOnlyTheProcessThatNeedsIt(t *testing.T) {
	names := func(change func(*VIP)) (vip, conf, prober string) {
		v := vipOf(t, inventorytest.Three(t), true)
		change(&v)
		r, err := v.render(v.Inv.Masters()[0])
		if err != nil {
			t.Fatal(err)
		}
		return r.sum, string(r.conf), r.proberSum
	}
	vip, conf, prober := names(func(*VIP) {})
	const none, reload, restart = 0, 1, 2
	for name, c := range map[string]struct {
		change      func(*VIP)
		vip, prober int
	}{
		"nothing":           {func(*VIP) {}, none, none},
		"a label":           {func(v *VIP) { v.Inv.Hosts[0].Labels = map[string]string{"a": "b"} }, none, none},
		"advert interval":   {func(v *VIP) { v.Inv.VIP.AdvertInterval *= 2 }, reload, none},
		"router id":         {func(v *VIP) { v.Inv.VIP.VirtualRouterID++ }, restart, none},
		"apiserver port":    {func(v *VIP) { v.Inv.VIP.Port++ }, none, restart},
		"the prober":        {func(v *VIP) { _ = os.WriteFile(v.Prober, []byte("newer"), 0o755) }, none, restart},
		"another interface": {func(v *VIP) { v.Inv.VIP.Interface = "eth1" }, restart, restart},
		"one master more":   {func(v *VIP) { *v = vipOf(t, inventorytest.Five(t), true) }, reload, restart},
		"no prober":         {func(v *VIP) { *v.Inv.VIP.Prober = false }, restart, restart},
	} {
		t.Run(name, func(t *testing.T) {
			gotVIP, gotConf, gotProber := names(c.change)
			keepalived, ofProber := none, none
			switch {
			case gotVIP != vip:
				keepalived = restart
			case gotConf != conf:
				keepalived = reload
			}
			if gotProber != prober {
				ofProber = restart
			}
			if keepalived != c.vip || ofProber != c.prober {
				t.Errorf("keepalived %d, prober %d, want %d, %d", keepalived, ofProber, c.vip, c.prober)
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

// keepalived goes by the prober's file until it asks the script: the prober is stopped after that.
func TestProberIsStoppedOnceTheScriptIsAsked(t *testing.T) {
	all := steps(t, vipOf(t, inventorytest.One(t), false), 0)
	last := all[len(all)-1]
	if last.ID != "keepalived/master-1/prober-off" || all[len(all)-2].ID != "keepalived/master-1/service" {
		t.Fatalf("the last steps are %s and %s", all[len(all)-2].ID, last.ID)
	}
	h := fakehost.New(t, "master-1", fakehost.File("etc/systemd/system/hactl-prober.service", "[Service]\n"), fakehost.File("state/units/hactl-prober.service.enabled", ""),
		fakehost.File("state/units/hactl-prober.service.pid", "7\n"), fakehost.File("proc/7/comm", "hactl-prober\n"), fakehost.File("proc/7/environ", "HACTL_CONFIG=abc\x00"))
	for _, due := range []bool{true, false} {
		p, err := plan.Make(t.Context(), []plan.Stage{{Name: "VIP", Steps: []plan.Step{last}}}, plan.Hosts{"master-1": h}, plan.Discard)
		if err != nil || p.Err() != nil || len(p.Pending()) == 1 != due {
			t.Fatalf("due %t: %v, %v", due, err, p.Err())
		}
		if _, err := p.Apply(t.Context(), plan.Hosts{"master-1": h}, plan.Discard, nil); err != nil {
			t.Fatal(err)
		}
	}
	if d := h.Disk(); d.Has("state/units/hactl-prober.service.pid") || d.Has("state/units/hactl-prober.service.enabled") {
		t.Error("it runs, or starts with the host")
	}
}

// A reload from multicast to unicast, or back, takes the VIP off its interface for a moment.
func TestOwnerKeepsTheVIPWhileKeepalivedChangesHowItSpeaks(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		inv := inventorytest.Load(t, inventorytest.Text(1, 0, ipv6))
		unit := string(goldentest.Puts(t, steps(t, vipOf(t, inv, true), 0))[dropIn].Content)
		_, line, _ := strings.Cut(unit, "\nExecReload=-/bin/sh -c 'multicast=")
		line, _, found := strings.Cut(line, "'\nExecReload=/bin/kill -HUP $MAINPID\n")
		if !found {
			t.Fatalf("it is not done right before the reload:\n%s", unit)
		}
		vip := netip.PrefixFrom(inv.VIP.Address, inv.VIP.Address.BitLen()).String()
		group := map[bool]string{false: "inet  224.0.0.18", true: "inet6 ff02::12"}[ipv6]
		for name, c := range map[string]struct {
			multicast, unicast, owner, kept bool
		}{
			"a lone owner gets peers":        {true, true, true, true},
			"an owner is left alone":         {false, false, true, true},
			"an owner gets other peers":      {false, true, true, false},
			"a lone owner stays alone":       {true, false, true, false},
			"a backup is left alone":         {false, false, false, false},
			"one without the VIP gets peers": {true, true, false, false},
		} {
			dir := t.TempDir()
			conf := map[bool]string{true: "unicast_peer {\n}\n"}[c.unicast]
			ip := "#!/bin/sh\necho \"$*\" >>" + dir + "/asked\ncase $* in\n'maddr show dev eth0') echo '	inet6 ff02::1'; " + map[bool]string{true: "echo '	" + group + "'"}[c.multicast] + " ;;\n'-o address show dev eth0 to " + vip + "') " + map[bool]string{true: "echo '2: eth0 inet " + vip + "'"}[c.owner] + " ;;\nesac\n"
			for file, text := range map[string]string{"keepalived.conf": conf, "ip": ip} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			script := strings.NewReplacer("$$", "$", confFile, dir+"/keepalived.conf").Replace("multicast=" + line)
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			asked, err := os.ReadFile(filepath.Join(dir, "asked"))
			if kept := strings.Contains(string(asked), "address add "+vip+" dev lo valid_lft 3 preferred_lft 3\n"); err != nil || kept != c.kept {
				t.Errorf("%s (IPv6 %t): asked %q, %v", name, ipv6, asked, err)
			}
		}
	}
}
