package vrrp

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hactl/internal/testneeds"
)

// program is the variable that makes this test binary one of the programs below.
const program = "VRRP_TEST_PROGRAM"

func TestMain(m *testing.M) {
	args := os.Args[1:]
	switch os.Getenv(program) {
	case "":
		os.Exit(m.Run())
	case "listen": // INTERFACE OWN LEAST MOST "PEER..."
		q := Question{Interface: args[0], Own: netip.MustParseAddr(args[1]), Least: seconds(args[2]), Most: seconds(args[3])}
		for p := range strings.FieldsSeq(args[4]) {
			q.Peers = append(q.Peers, netip.MustParseAddr(p))
		}
		if err := Listen(q, os.Stdout); err != nil {
			fmt.Println("vrrp none", err)
		}
	case "send":
		send(args)
	}
}

func seconds(s string) time.Duration {
	d, err := time.ParseDuration(s + "s")
	if err != nil {
		panic(err)
	}
	return d
}

// send sends packets of another program as soon as so many programs listen: PROGRAMS
// SOURCE HEX-OF-A-PACKET... The last socket that each of them opens is the one for IPv6.
func send(args []string) {
	listeners, _ := strconv.Atoi(args[0])
	own, to, family := netip.MustParseAddr(args[1]), "192.0.2.1", "ip4:112"
	if own.Is6() {
		to, family = "2001:db8::1", "ip6:112"
	}
	c, err := net.ListenIP(family, &net.IPAddr{IP: own.AsSlice()})
	if err != nil {
		panic(err)
	}
	for tries := 0; listening() < listeners; tries++ {
		if tries > 500 {
			panic("no process listens")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		for _, p := range args[2:] {
			packet, err := hex.DecodeString(strings.ReplaceAll(p, "_", ""))
			if err != nil {
				panic(err)
			}
			if _, err := c.WriteToIP(packet, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
				panic(err)
			}
		}
	}
}

func listening() (n int) {
	f, err := os.Open("/proc/net/packet")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.Contains(s.Text(), " 86dd ") {
			n++
		}
	}
	return n
}

// onLoopback are shell lines that run in a network of their own. There, two
// hosts are two addresses of the loopback; PROGRAM is what hosts run.
const onLoopback = `set -e
ip link set lo up
for a in 192.0.2.1/32 192.0.2.2/32; do ip addr add $a dev lo; done
for a in 2001:db8::1/128 2001:db8::2/128; do ip addr add $a dev lo nodad; done # else they cannot be used at once
on() { VRRP_TEST_PROGRAM=listen "$PROGRAM" "$@"; }
run() { on lo "$@"; }
send() { VRRP_TEST_PROGRAM=send "$PROGRAM" "$@" & }
`

// hears runs shell lines and returns the lines that they print.
func hears(t *testing.T, script string) []string {
	t.Helper()
	testneeds.Tool(t, "ip")
	own := testneeds.NetworkNamespace(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // only a hang takes so long
	defer cancel()
	cmd := exec.CommandContext(ctx, testneeds.Path(t, "unshare"), append(own, "sh", "-c", onLoopback+script)...)
	cmd.Env = append(os.Environ(), "PROGRAM="+os.Args[0])
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Errorf("it complains: %s", stderr.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func wants(t *testing.T, lines, want, not []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(lines, w) {
			t.Errorf("no line %q in:\n%s", w, strings.Join(lines, "\n"))
		}
	}
	for _, n := range not {
		for _, l := range lines {
			if strings.HasPrefix(l, n) {
				t.Errorf("line %q", l)
			}
		}
	}
}

func TestListenHearsAdvertsOfEveryKindAndNothingElse(t *testing.T) {
	t.Parallel()
	lines := hears(t, `
send 1 192.0.2.2 3133640100640000 2107640200010000c000020ac0000263000000 # version 3; 2 with addresses and more
send 1 192.0.2.2 00 3200000000000000 4133640100640000 0000 # too short, no advert, no known version
send 1 2001:db8::2 31ff6402006400002001_0db8_0000_0000_0000_0000_0000_0010_2001 # cut short
run 192.0.2.1 2 2 ""`)
	wants(t, lines, []string{"vrrp-advert 192.0.2.2 3 51", "vrrp-advert 192.0.2.2 2 7 192.0.2.10 192.0.2.99", "vrrp-advert 2001:db8::2 3 255 2001:db8::10", "vrrp heard"}, []string{"vrrp-wire", "vrrp-probe", "vrrp-unsent"})
	if len(lines) != 6 { // and two times
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

func TestMastersHearOneAnother(t *testing.T) {
	t.Parallel()
	for _, a := range []struct{ own, other string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		lines := hears(t, "run "+a.other+" 0.3 9 "+a.own+" >/dev/null & run "+a.own+" 0.3 9 "+a.other)
		wants(t, lines, []string{"vrrp-wire " + a.other, "vrrp-probe " + a.other, "vrrp heard"}, []string{"vrrp-advert", "vrrp-unsent", "vrrp-probe " + a.own})
	}
}

// Hosts begin seconds apart when they are busy, and some are done early.
func TestListenWaitsForALatePeerNoLongerThanItMust(t *testing.T) {
	t.Parallel()
	// Without an answer it would go on for 3600 s.
	const late = "run 192.0.2.1 0.1 3600 192.0.2.2 >early & sleep 1.5; run 192.0.2.2 0.1 3600 192.0.2.1 >late; wait; cat "
	dir := "cd " + t.TempDir() + "\n"
	wants(t, hears(t, dir+late+"early"), []string{"vrrp-probe 192.0.2.2", "vrrp heard"}, nil)
	wants(t, hears(t, dir+late+"late"), []string{"vrrp-probe 192.0.2.1", "vrrp heard"}, nil)
	lines := hears(t, "run 192.0.2.1 0.1 1 192.0.2.2")
	wants(t, lines, []string{"vrrp heard"}, []string{"vrrp-probe"})
	if took := moment(t, lines, "vrrp-until") - moment(t, lines, "vrrp-from"); took < 900*time.Millisecond {
		t.Errorf("without an answer it took %s: %v", took, lines)
	}
}

// moment is the time in a line, since 1970.
func moment(t *testing.T, lines []string, key string) time.Duration {
	t.Helper()
	for _, l := range lines {
		if at, ok := strings.CutPrefix(l, key+" "); ok {
			ns, err := strconv.ParseInt(at, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return time.Duration(ns)
		}
	}
	t.Fatalf("no %s in %v", key, lines)
	return 0
}

// The VIP may be on another interface than the address of the host: routers
// there are not in its way, and the masters hear one another all the same.
func TestListenHearsPeersOnAnotherInterface(t *testing.T) {
	t.Parallel()
	lines := hears(t, `ip link add d0 type veth peer name d1
send 2 192.0.2.2 3133640100640000
run 192.0.2.2 2 9 192.0.2.1 >/dev/null &
on d0 192.0.2.1 2 9 192.0.2.2`)
	wants(t, lines, []string{"vrrp-wire 192.0.2.2", "vrrp-probe 192.0.2.2", "vrrp heard"}, []string{"vrrp-advert"})
}

func TestListenTellsAFirewallFromAWireThatIsCut(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "nft")
	const pair = "run 192.0.2.2 0.1 2 192.0.2.1 >/dev/null & run 192.0.2.1 0.1 2 192.0.2.2"
	lines := hears(t, "nft 'add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i ip protocol vrrp drop'\n"+pair)
	wants(t, lines, []string{"vrrp-wire 192.0.2.2", "vrrp heard"}, []string{"vrrp-probe", "vrrp-unsent"})
	lines = hears(t, "nft 'add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o ip protocol vrrp drop'\n"+pair)
	wants(t, lines, []string{"vrrp-unsent 192.0.2.2 operation not permitted", "vrrp heard"}, []string{"vrrp-probe", "vrrp-wire"})
}

func TestListenSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	wants(t, hears(t, "run 192.0.2.99 0.1 0.1 ''"), []string{"vrrp none open a raw socket: listen ip4:112 192.0.2.99: bind: cannot assign requested address"}, []string{"vrrp heard"})
	wants(t, hears(t, `on eth7 192.0.2.1 0.1 0.1 ""`), []string{"vrrp none look for interface eth7: route ip+net: no such network interface"}, []string{"vrrp heard"})
}
