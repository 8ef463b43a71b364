//go:build linux

package network

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/testneeds"
)

// inNetwork runs the rest of the test, in a process of its own, in a network of its
// own with these commands run first. It returns false in the first process.
func inNetwork(t *testing.T, setup string) bool {
	t.Helper()
	if os.Getenv("NETWORK_TEST") == t.Name() {
		return true
	}
	args := testneeds.NetworkNamespace(t)
	testneeds.Tool(t, "ip", "nft")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append(args, "--", "sh", "-ec", setup+"\nexec \"$0\" \"$@\"", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")...)
	cmd.Env = append(os.Environ(), "NETWORK_TEST="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func says(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const link = `ip link add eth0 type veth peer name peer0; ip link set peer0 up; ip link set eth0 up; ip link set lo up
ip address add 192.0.2.1/24 dev eth0; ip -6 address add 2001:db8::1/64 dev eth0 nodad
ip route add 203.0.113.0/24 via 192.0.2.9`

func TestRoutesAreThoseOfHactlAlone(t *testing.T) {
	if !inNetwork(t, link) {
		return
	}
	want := []Route{
		{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("192.0.2.2")},
		{netip.MustParsePrefix("fd00:10:244:1::/64"), netip.MustParseAddr("2001:db8::2")},
	}
	k := Linux{}
	for range 2 { // setting again changes nothing
		for _, r := range want {
			if err := k.SetRoute(r); err != nil {
				t.Fatalf("%s: %v", r, err)
			}
		}
	}
	if got, err := k.Routes(); err != nil || !slices.Equal(got, want) {
		t.Errorf("routes %v, %v", got, err)
	}
	if got := says(t, "ip", "route", "show", "proto", "104"); !strings.Contains("\n"+got, "\n10.244.1.0/24 via 192.0.2.2 dev eth0") {
		t.Errorf("ip says %q", got)
	}
	if err := k.RemoveRoute(want[0]); err != nil {
		t.Error(err)
	}
	if err := k.SetRoute(Route{want[0].To, netip.MustParseAddr("198.51.100.1")}); err == nil || !strings.Contains(err.Error(), "no interface reaches 198.51.100.1") {
		t.Errorf("a host that no interface reaches: %v", err)
	}
	if got, err := k.Routes(); err != nil || !slices.Equal(got, want[1:]) {
		t.Errorf("routes %v, %v", got, err)
	}
}

func TestMasqueradingIsSeenWholeAndWrittenAnew(t *testing.T) {
	if !inNetwork(t, link) {
		return
	}
	k := Linux{}
	for _, pods := range []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")} {
		family := map[bool]string{true: "ip", false: "ip6"}[pods.Addr().Is4()]
		for _, spoil := range [][]string{
			nil, {"flush", "ruleset"}, {"flush", "table", family, "hactl_pods"},
			{"delete", "table", family, "hactl_pods"}, {"add", "rule", family, "hactl_pods", "postrouting", "accept"},
		} {
			what := strings.Join(spoil, " ")
			if spoil != nil {
				says(t, "nft", spoil...)
			}
			if there, err := k.Masquerades(pods); err != nil || there {
				t.Errorf("%s, %s: there: %v, %v", pods, what, there, err)
			}
			if err := k.SetMasquerade(pods); err != nil {
				t.Fatalf("%s, %s: %v", pods, what, err)
			}
			if there, err := k.Masquerades(pods); err != nil || !there {
				t.Errorf("%s, %s: not there: %v", pods, what, err)
			}
		}
		want := family + " saddr " + pods.String() + " " + family + " daddr != " + pods.String() + " masquerade"
		if got := says(t, "nft", "list", "table", family, "hactl_pods"); !strings.Contains(got, want) || !strings.Contains(got, "type nat hook postrouting priority srcnat") {
			t.Errorf("nft says %s", got)
		}
		if there, err := k.Masquerades(netip.PrefixFrom(pods.Addr(), pods.Bits()-1)); err != nil || there {
			t.Errorf("another network: %v, %v", there, err)
		}
	}
}

// What an older hactl wrote has no comment, and is written anew.
func TestMasqueradingOfAnOlderHactlIsReplaced(t *testing.T) {
	if !inNetwork(t, link+`
nft add table ip hactl_pods
nft 'add chain ip hactl_pods postrouting { type nat hook postrouting priority 100; }'
nft add rule ip hactl_pods postrouting ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade`) {
		return
	}
	k, pods := Linux{}, netip.MustParsePrefix("10.244.0.0/16")
	if there, err := k.Masquerades(pods); err != nil || there {
		t.Errorf("%v, %v", there, err)
	}
	if err := k.SetMasquerade(pods); err != nil {
		t.Fatal(err)
	}
	if got := says(t, "nft", "list", "ruleset"); strings.Count(got, "masquerade") != 1 {
		t.Errorf("%s", got)
	}
}

func TestChainsOfKubeProxyInBothModes(t *testing.T) {
	if !inNetwork(t, link+`
nft add table ip kube-proxy
nft 'add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }'
nft add chain ip kube-proxy services
nft add chain ip kube-proxy nat-output
nft add rule ip kube-proxy nat-prerouting jump services
nft add rule ip kube-proxy services accept
nft add table ip nat
nft 'add chain ip nat PREROUTING { type nat hook prerouting priority -100; }'
nft add chain ip nat OUTPUT
nft add chain ip nat KUBE-SERVICES
nft add rule ip nat PREROUTING jump KUBE-SERVICES
nft add rule ip nat OUTPUT accept`) {
		return
	}
	for mode, want := range map[string][]string{
		"nftables": {"ip kube-proxy nat-prerouting", "ip kube-proxy services"},
		"iptables": {"ip nat PREROUTING"},
	} {
		chains, err := Linux{}.ProxyChains(mode)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name, full := range chains {
			if full {
				got = append(got, name)
			}
		}
		if slices.Sort(got); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: chains with rules %q, want %q", mode, got, want)
		}
	}
	for _, c := range []struct{ mode, left string }{{"iptables", "table ip kube-proxy\ntable ip nat\n"}, {"nftables", "table ip nat\n"}, {"nftables", "table ip nat\n"}} {
		if err := (Linux{}).ClearProxy(c.mode); err != nil {
			t.Error(err)
		}
		if got := says(t, "nft", "list", "tables"); got != c.left {
			t.Errorf("%s: tables %q are left, want %q", c.mode, got, c.left)
		}
	}
}

func TestKernelTellsOfEveryLoss(t *testing.T) {
	if !inNetwork(t, link) {
		return
	}
	k, events := Linux{}, make(chan struct{}, 1)
	if err := k.Watch(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	for _, lose := range []string{
		"ip link set eth0 down", "ip link set eth0 up", "ip address flush dev eth0", "ip address add 192.0.2.1/24 dev eth0",
		"ip route add 198.51.100.0/24 via 192.0.2.9", "ip route del 198.51.100.0/24", "nft add table ip t", "nft flush ruleset",
	} {
		says(t, "sh", "-c", lose)
		select {
		case <-events:
		case <-time.After(30 * time.Second):
			t.Errorf("no event: %s", lose)
		}
		for quiet := false; !quiet; { // others of the same change
			select {
			case <-events:
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
	}
}

// proc is a /proc with one kube-proxy.
func proc(t *testing.T, change func(dir string)) Proc {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for dir, netns := range map[string]string{"self": "net:[1]", "77": "net:[1]", "50": "net:[1]"} {
		if err := os.MkdirAll(filepath.Join(root, dir, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(netns, filepath.Join(root, dir, "ns", "net")); err != nil {
			t.Fatal(err)
		}
	}
	write("uptime", "1234.50 9.99\n")
	write("50/comm", "kube-apiserver\n")
	write("77/comm", "kube-proxy\n")
	write("77/cmdline", "/usr/local/bin/kube-proxy\x00--config=/var/lib/kube-proxy/config.conf\x00--hostname-override=w\x00")
	write("77/cgroup", "0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-0123.scope\n")
	write("77/stat", "77 (kube proxy) S) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 9 0 12345 1 1\n")
	if change != nil {
		change(filepath.Join(root, "77"))
	}
	return Proc{root}
}

func TestKubeProxyOfThisNodeIsFound(t *testing.T) {
	p := proc(t, nil)
	got, err := p.KubeProxy()
	if err != nil || got == nil || *got != (Process{77, 123450 * time.Millisecond}) {
		t.Errorf("%v, %v", got, err)
	}
	if up, err := p.Uptime(); err != nil || up != 1234500*time.Millisecond {
		t.Errorf("%v, %v", up, err)
	}
}

func TestKubeProxyOfAnotherClusterIsNotTouched(t *testing.T) {
	for what, change := range map[string]func(dir string) error{
		"in another network": func(dir string) error {
			return os.Remove(filepath.Join(dir, "ns", "net"))
		},
		"in no pod": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/system.slice/kube-proxy.service\n"), 0o644)
		},
		"not kubeadm's": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "cmdline"), []byte("kube-proxy\x00--config=/etc/proxy.yaml\x00"), 0o644)
		},
		"ended meanwhile": func(dir string) error { return os.Remove(filepath.Join(dir, "cmdline")) },
	} {
		p := proc(t, func(dir string) {
			err := change(dir)
			if what == "in another network" && err == nil {
				err = os.Symlink("net:[2]", filepath.Join(dir, "ns", "net"))
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		if got, err := p.KubeProxy(); err != nil || got != nil {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

func TestProcessIsEndedByItsStartTime(t *testing.T) {
	testneeds.Linux(t)
	p := Proc{"/proc"}
	for _, c := range []struct {
		older time.Duration
		by    syscall.Signal
	}{{0, syscall.SIGKILL}, {time.Second, syscall.SIGTERM}} { // the latter is another process that had the number
		sleep := exec.CommandContext(t.Context(), "sleep", "1000")
		if err := sleep.Start(); err != nil {
			t.Fatal(err)
		}
		me, err := p.process(filepath.Join("/proc", strconv.Itoa(sleep.Process.Pid)))
		if err != nil || me == nil {
			t.Fatal(me, err)
		}
		if err := p.End(Process{me.PID, me.Started - c.older}); err != nil {
			t.Error(err)
		}
		_ = sleep.Process.Signal(syscall.SIGTERM) // comes second, if End did anything
		err = sleep.Wait()
		if got := sleep.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != c.by {
			t.Errorf("started %s before: ended by %v, want %v (%v)", c.older, got, c.by, err)
		}
	}
}
