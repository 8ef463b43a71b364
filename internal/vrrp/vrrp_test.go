package vrrp

import (
	"net/netip"
	"strings"
	"testing"
)

func FuzzPacketOfTheWire(f *testing.F) {
	v4 := append([]byte{0x45, 11: 0, 12: 192, 0, 2, 9, 192, 0, 2, 1}, 0x31, 51, 100, 1, 0, 100, 0, 0, 192, 0, 2, 10)
	f.Add(v4, true)
	f.Add(append(v4[:20:20], probe...), false)
	f.Add(append([]byte{0x60, 39: 0}, 0x31, 255, 100, 2, 0, 100, 0, 0), true)
	f.Add([]byte{0x4f}, true)
	f.Fuzz(func(t *testing.T, packet []byte, ours bool) {
		var out strings.Builder
		a := &answers{out: &out, said: map[string]bool{}, heard: map[netip.Addr]bool{}, hearsUs: map[netip.Addr]bool{}}
		a.onWire(packet, ours)
		a.letIn(netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), packet)
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "vrrp-wire ") && !strings.HasPrefix(line, "vrrp-probe ") && !(ours && strings.HasPrefix(line, "vrrp-advert ")) {
				t.Errorf("it says %q", line)
			}
		}
	})
}
