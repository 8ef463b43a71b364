package preflight

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hactl/internal/testneeds"
)

// onLoopback are shell lines that run in a network of their own. There, two
// hosts are two addresses of the loopback; PROGRAM is what hosts run.
const onLoopback = `set -e
ip link set lo up
for a in 192.0.2.1/32 192.0.2.2/32; do ip addr add $a dev lo; done
for a in 2001:db8::1/128 2001:db8::2/128; do ip addr add $a dev lo nodad; done # else they cannot be used at once
run() { perl -e "$(cat "$PROGRAM")" lo "$@"; }
# A host's adverts and rubbish, from when so many programs listen: PROGRAMS SOURCE HEX-OF-A-PACKET...
# The last socket that each of them opens to listen is the one for IPv6.
send() {
	perl -e 'use Socket qw(:DEFAULT inet_pton); my ($listeners, $own) = splice @ARGV, 0, 2; my $six = $own =~ /:/; my $f = $six ? AF_INET6 : AF_INET;
		sub a { my $ip = inet_pton($f, shift); $six ? pack_sockaddr_in6(0, $ip) : pack_sockaddr_in(0, $ip) }
		my $s; socket($s, $f, SOCK_RAW, 112) && bind($s, a($own)) or die $!;
		sub listening { open my $f, "<", "/proc/net/packet" or die $!; scalar grep / 86dd /, <$f> }
		my $tries = 500; while (listening() < $listeners) { $tries-- or die "no process listens"; select(undef, undef, undef, 0.02) }
		for (1 .. 4) { select(undef, undef, undef, 0.1); defined send($s, pack("H*", tr/_//dr), 0, a($six ? "2001:db8::1" : "192.0.2.1")) or die $! for @ARGV }' "$@" &
}
`

// hears runs shell lines and returns the lines that they print.
func hears(t *testing.T, script string) []string {
	t.Helper()
	testneeds.Tool(t, "perl", "ip")
	own := testneeds.NetworkNamespace(t)
	program, err := filepath.Abs("vrrp.pl")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // only a hang takes so long
	defer cancel()
	cmd := exec.CommandContext(ctx, testneeds.Path(t, "unshare"), append(own, "sh", "-c", onLoopback+script)...)
	cmd.Env = append(os.Environ(), "PROGRAM="+program)
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

func TestVRRPProgramHearsAdvertsOfEveryKindAndNothingElse(t *testing.T) {
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

func TestVRRPProgramsHearOneAnother(t *testing.T) {
	t.Parallel()
	for _, a := range []struct{ own, other string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		lines := hears(t, "run "+a.other+" 0.3 9 "+a.own+" >/dev/null & run "+a.own+" 0.3 9 "+a.other)
		wants(t, lines, []string{"vrrp-wire " + a.other, "vrrp-probe " + a.other, "vrrp heard"}, []string{"vrrp-advert", "vrrp-unsent", "vrrp-probe " + a.own})
	}
}

// Hosts begin seconds apart when they are busy, and some are done early.
func TestVRRPProgramWaitsForALatePeerNoLongerThanItMust(t *testing.T) {
	t.Parallel()
	// Without an answer it would go on for 3600 s.
	const late = "run 192.0.2.1 0.1 3600 192.0.2.2 >early & sleep 1.5; run 192.0.2.2 0.1 3600 192.0.2.1 >late; wait; cat "
	dir := "cd " + t.TempDir() + "\n"
	wants(t, hears(t, dir+late+"early"), []string{"vrrp-probe 192.0.2.2", "vrrp heard"}, nil)
	wants(t, hears(t, dir+late+"late"), []string{"vrrp-probe 192.0.2.1", "vrrp heard"}, nil)
	lines := hears(t, "run 192.0.2.1 0.1 1 192.0.2.2")
	var v heard
	for _, l := range lines {
		key, rest, _ := strings.Cut(l, " ")
		if err := v.line(key, rest); err != nil {
			t.Error(err)
		}
	}
	if took := time.Duration(v.Until - v.From); !v.Heard || took < 900*time.Millisecond {
		t.Errorf("without an answer it took %s: %+v", took, v)
	}
}

// The VIP may be on another interface than the address of the host: routers
// there are not in its way, and the masters hear one another all the same.
func TestVRRPProgramHearsPeersOnAnotherInterface(t *testing.T) {
	t.Parallel()
	lines := hears(t, `ip link add d0 type veth peer name d1
send 2 192.0.2.2 3133640100640000
run 192.0.2.2 2 9 192.0.2.1 >/dev/null &
perl -e "$(cat "$PROGRAM")" d0 192.0.2.1 2 9 192.0.2.2`)
	wants(t, lines, []string{"vrrp-wire 192.0.2.2", "vrrp-probe 192.0.2.2", "vrrp heard"}, []string{"vrrp-advert"})
}

func TestVRRPProgramTellsAFirewallFromAWireThatIsCut(t *testing.T) {
	t.Parallel()
	testneeds.Tool(t, "nft")
	const pair = "run 192.0.2.2 0.1 2 192.0.2.1 >/dev/null & run 192.0.2.1 0.1 2 192.0.2.2"
	lines := hears(t, "nft 'add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i ip protocol vrrp drop'\n"+pair)
	wants(t, lines, []string{"vrrp-wire 192.0.2.2", "vrrp heard"}, []string{"vrrp-probe", "vrrp-unsent"})
	lines = hears(t, "nft 'add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o ip protocol vrrp drop'\n"+pair)
	wants(t, lines, []string{"vrrp-unsent 192.0.2.2 Operation not permitted", "vrrp heard"}, []string{"vrrp-probe", "vrrp-wire"})
}

func TestVRRPProgramSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	wants(t, hears(t, "run 192.0.2.99 0.1 0.1 ''"), []string{"vrrp none bind to 192.0.2.99: Cannot assign requested address"}, []string{"vrrp heard"})
	wants(t, hears(t, `perl -e "$(cat "$PROGRAM")" eth7 192.0.2.1 0.1 0.1 ""`), []string{"vrrp none eth7: No such device"}, []string{"vrrp heard"})
}
