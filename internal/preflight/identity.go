package preflight

import (
	"context"
	"slices"
	"strings"
	"time"

	"hactl/internal/remote"
	"hactl/internal/sys"
)

// shared finds values that more than one host has: a finding for each host but
// the first.
func (c *Cluster) shared(what string, value func(h host) string) []Finding {
	first := map[string]string{}
	return c.each(func(h host) []Finding {
		v := value(h)
		if v == "" {
			return nil
		}
		if other, ok := first[v]; ok {
			return one(says("has the same %s as %s: %s", what, other, v))
		}
		first[v] = h.Name
		return nil
	})
}

// hostname: hactl sets the name of each host, so only the name of another host
// of the inventory tells that addresses were mixed up.
func hostname(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		short, _, _ := strings.Cut(h.Facts.Hostname, ".")
		if other := c.Inv.Host(short); other != nil && other.Name != h.Name {
			return one(says("calls itself %s, which is another host of the inventory", short))
		}
		return nil
	})
}

// machineID: the kubelet reports it and DHCP servers give addresses by it; the
// same machine under two names shows here as well.
func machineID(_ context.Context, c *Cluster) []Finding {
	out := c.shared("machine id", func(h host) string { return h.Facts.MachineID })
	return append(out, c.each(func(h host) []Finding {
		if h.Facts.MachineID == "" {
			return one(says("has no machine id").as(Warning).do("systemd-machine-id-setup"))
		}
		return nil
	})...)
}

// productUUID: hosts that are containers of one machine share its UUID and its
// boot, which is as it should be.
func productUUID(_ context.Context, c *Cluster) []Finding {
	boots := map[string]int{}
	for _, h := range c.looked() {
		boots[h.Facts.BootID]++
	}
	return c.shared("product UUID", func(h host) string {
		if boots[h.Facts.BootID] > 1 {
			return ""
		}
		return h.Facts.ProductUUID
	})
}

func macAddress(_ context.Context, c *Cluster) []Finding {
	return c.shared("MAC address", func(h host) string {
		if i := h.Facts.InterfaceOf(h.PrivateAddress); i != nil {
			return i.MAC
		}
		return ""
	})
}

// Bounds of the difference between clocks. etcd warns from 1 s on; leases of
// leader election and tokens that are "not valid yet" come next.
const (
	skewWarning = 500 * time.Millisecond
	skewError   = 2 * time.Second
	// farFromHere is how far hosts may be from hactl's own clock: certificates
	// are made by it.
	farFromHere = time.Minute
	// beforeNow is how far certificates are dated back, less a margin (pki).
	beforeNow = 4 * time.Minute
)

// clock is the better of the two measurements of a host's clock.
func (h host) clock() clock {
	k := clock{Offset: time.Duration(h.Facts.ClockOffset * float64(time.Second)), Error: h.Facts.ClockError}
	if h.Probe != nil && h.Probe.Clock.Error < k.Error {
		k = h.Probe.Clock
	}
	return k
}

// askTime asks a host for its time, some times at most, while what is known of its
// clock is too rough: a host that was busy while it was measured took its time to
// answer. A line that is slow stays slow.
func askTime(ctx context.Context, h host, to remote.Host) {
	for range 4 {
		if h.clock().Error <= skewWarning/2 {
			return
		}
		sent := time.Now()
		at, err := remote.Ask(ctx, to, sys.Clock(), probeTimeout)
		if err != nil {
			return
		}
		if k := clockOf(at.UnixNano(), at.UnixNano(), sent, time.Now()); k.Error < h.Probe.Clock.Error {
			h.Probe.Clock = k
		}
	}
}

// clockSkew compares each clock with the one in the middle. What may be due to
// the time on the wire does not count.
func clockSkew(_ context.Context, c *Cluster) []Finding {
	all := c.looked()
	slices.SortStableFunc(all, func(a, b host) int { return int(a.clock().Offset - b.clock().Offset) })
	if len(all) == 0 {
		return c.each(nil)
	}
	middle := all[(len(all)-1)/2]
	return c.each(func(h host) []Finding {
		k, ref := h.clock(), middle.clock()
		margin := k.Error + ref.Error
		if h.Name == middle.Name {
			margin = k.Error
		}
		off := k.Offset - ref.Offset
		sure := off.Abs() - margin
		switch {
		case sure > skewError:
			return one(says("the clock is %s off that of %s", off.Round(time.Millisecond), middle.Name).as(Error))
		case sure > skewWarning:
			return one(says("the clock is %s off that of %s", off.Round(time.Millisecond), middle.Name))
		case margin > skewWarning:
			return unknown("the line is too slow to compare clocks: %s to and fro", (2 * margin).Round(time.Millisecond))
		case k.Offset.Abs()-k.Error > farFromHere:
			f := says("the clock is %s off that of this machine, which makes the certificates", k.Offset.Round(time.Second))
			if len(c.CAs) == 0 && k.Offset < -beforeNow { // a CA lasts for ten years, and would not be valid yet
				f = f.as(Error).do("correct the clock of this machine or that of the hosts, before hactl up makes the CAs: date; chronyc tracking")
			}
			return one(f)
		}
		return nil
	})
}

func timeSync(_ context.Context, c *Cluster) []Finding {
	return c.each(func(h host) []Finding {
		if h.Facts.TimeSync == "" {
			return one(says("neither chrony nor systemd-timesyncd nor another known service keeps the clock"))
		}
		return nil
	})
}
