package preflight

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hactl/internal/remote"
	"hactl/internal/testneeds"
)

func TestProbeMeasuresThisMachineAndLeavesNothing(t *testing.T) {
	t.Parallel()
	testneeds.Linux(t)
	testneeds.Tool(t, "dd", "ip")
	dir, tmp := t.TempDir(), t.TempDir()
	h := remote.NewFake("here", func(c remote.Call) (*remote.Result, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "sh", "-c", c.Cmd.Script)
		cmd.Stdout, cmd.Env = &out, append(os.Environ(), "TMPDIR="+tmp)
		if err := cmd.Run(); err != nil {
			return nil, err
		}
		return &remote.Result{Stdout: out.Bytes()}, nil
	})
	p, err := takeProbe(t.Context(), h, "DIR="+remote.Quote(dir+"/not/made yet")+" VIP= OWN= IFACE=\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Writes) == 0 || p.p99() <= 0 || p.p99() > time.Minute {
		t.Errorf("%d writes, p99 %s", len(p.Writes), p.p99())
	}
	if p.Clock.Offset.Abs() > p.Clock.Error+5*time.Millisecond {
		t.Errorf("this machine's clock is %s off itself, give or take %s", p.Clock.Offset, p.Clock.Error)
	}
	for _, d := range []string{dir, tmp} {
		if left, _ := os.ReadDir(d); len(left) > 0 {
			t.Errorf("left behind in %s: %v", d, left)
		}
	}
}

func TestProbeScriptIsPOSIXShell(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), testneeds.Path(t, "shellcheck"), "-s", "sh", "-e", "SC2153,SC2154,SC2015", "probe.sh").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

const goodProbe = `clock 1000
vrrp-from 1100
vrrp-wire 192.0.2.12
vrrp-wire 192.0.2.13
vrrp-probe 192.0.2.13
vrrp-advert 192.0.2.200 3 51 192.0.2.10 192.0.2.99
vrrp-advert fe80::1%eth0 2 7
vrrp-unsent 192.0.2.13 Operation not permitted
vrrp heard
vrrp-until 1900
vip asked
vip-neighbour 192.0.2.10 dev eth0 lladdr 02:aa:bb:cc:dd:ee REACHABLE
sync 0.004
sync 2.5e-05
version kubelet Kubernetes v1.36.3
version etcd etcd Version: 3.6.16
version keepalived Keepalived v2.2.7 (01/16,2022)
clock-after 2000
end
`

func TestProbeIsRead(t *testing.T) {
	p, err := parseProbe(goodProbe, time.Unix(0, 900), time.Unix(0, 2300))
	if err != nil {
		t.Fatal(err)
	}
	v := p.VRRP
	if fmt.Sprint(v.Adverts) != "[{192.0.2.200 3 51 [192.0.2.10 192.0.2.99]} {fe80::1 2 7 []}]" {
		t.Errorf("adverts: %v", v.Adverts)
	}
	if !v.Heard || v.From != 1100 || v.Until != 1900 || len(v.Wire) != 2 || len(v.LetIn) != 1 || v.Unsent[netip.MustParseAddr("192.0.2.13")] != "Operation not permitted" {
		t.Errorf("VRRP: %+v", v)
	}
	if !p.AskedVIP || p.Answers != "02:aa:bb:cc:dd:ee" {
		t.Errorf("VIP asked %v, answered by %q", p.AskedVIP, p.Answers)
	}
	if len(p.Writes) != 2 || p.Writes[0] != 25*time.Microsecond || p.Versions["kubelet"] != (version{1, 36, 3}) || p.Versions["etcd"] != (version{3, 6, 16}) {
		t.Errorf("writes %v, versions %v", p.Writes, p.Versions)
	}
	// 1000 there, 1400 here: 400 on the wire; ahead by (100 - 300) / 2.
	if p.Clock != (clock{Offset: -100, Error: 200}) {
		t.Errorf("clock: %+v", p.Clock)
	}
}

func TestFailedNeighbourIsNoAnswer(t *testing.T) {
	for _, s := range []string{"192.0.2.10 dev eth0 INCOMPLETE", "192.0.2.10 dev eth0 lladdr 02:aa:bb:cc:dd:ee FAILED", "192.0.2.10 dev eth0 lladdr"} {
		var p probe
		if p.neighbour(s); p.Answers != "" {
			t.Errorf("%q: %q answers", s, p.Answers)
		}
	}
}

func TestProbeThatMakesNoSenseIsRefused(t *testing.T) {
	for name, out := range map[string]string{
		"empty":                     "",
		"cut off":                   strings.TrimSuffix(goodProbe, "end\n"),
		"goes on":                   goodProbe + "sync 1\n",
		"no clock":                  "end\n",
		"clock runs back":           "clock 5\nclock-after 3\nend\n",
		"clock of words":            "clock noon\nclock-after 3\nend\n",
		"write takes NaN":           "clock 1\nsync NaN\nclock-after 3\nend\n",
		"write takes ages":          "clock 1\nsync 1e300\nclock-after 3\nend\n",
		"write takes words":         "clock 1\nsync long\nclock-after 3\nend\n",
		"too many writes":           "clock 1\n" + strings.Repeat("sync 0\n", 2000) + "clock-after 3\nend\n",
		"advert cut short":          "clock 1\nvrrp-advert 192.0.2.9 3\nclock-after 3\nend\n",
		"advert without an id":      "clock 1\nvrrp-advert 192.0.2.9 3 51 me\nclock-after 3\nend\n",
		"advert without a sender":   "clock 1\nvrrp-advert me 3 51\nclock-after 3\nend\n",
		"advert of no id":           "clock 1\nvrrp-advert 192.0.2.9 3 256\nclock-after 3\nend\n",
		"probe without a sender":    "clock 1\nvrrp-probe me\nclock-after 3\nend\n",
		"unsent without an address": "clock 1\nvrrp-unsent me\nclock-after 3\nend\n",
		"listened at noon":          "clock 1\nvrrp-from noon\nclock-after 3\nend\n",
		"too much":                  "clock 1\n" + strings.Repeat("x\n", maxProbe) + "clock-after 3\nend\n",
	} {
		if p, err := parseProbe(out, time.Now(), time.Now()); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestP99LeavesOutTheSlowestOfAHundred(t *testing.T) {
	p := probe{}
	for i := range 100 {
		p.Writes = append(p.Writes, time.Duration(i+1))
	}
	if p.p99() != 99 {
		t.Errorf("of 1 to 100: %d", p.p99())
	}
	if p.Writes = p.Writes[:10]; p.p99() != 10 {
		t.Errorf("of 1 to 10: %d", p.p99())
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add(goodProbe)
	f.Add("clock 1\nvrrp none \x1b[31mno program\nclock-after 3\nend\n")
	f.Add("clock 1\nversion \x1b[31m v1.2.3\nclock-after 3\nend\n")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseProbe(s, time.Unix(0, 0), time.Unix(1, 0))
		if err != nil {
			return
		}
		if p.VRRP.Heard && p.VRRP.Why != "" || len(p.VRRP.Wire)+len(p.VRRP.LetIn)+len(p.VRRP.Adverts)+len(p.VRRP.Unsent) > 4*maxHeard {
			t.Errorf("%+v", p.VRRP)
		}
		if text := fmt.Sprint(p.Answers, p.Versions, p.VRRP); remote.Clean(text) != text {
			t.Errorf("control characters came through: %q", text)
		}
	})
}
