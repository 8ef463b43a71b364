package keepalived

import "hactl/inventory"

// A distance of 30 is 12 ms of skew at 100 ms adverts in VRRP version 3, which
// keeps two candidates from claiming the address at once.
const (
	highestPriority = 250
	priorityStep    = 30
)

// Priority is the VRRP priority of a master. A master keeps the one that its
// host has recorded, whatever comes and goes before it in the inventory; the
// others take the highest free ones in the inventory's order. Under nopreempt the
// priority decides nothing but who wins when the address is free.
func (v VIP) Priority(h *inventory.Host) int { return v.priorities()[h.Name] }

func (v VIP) priorities() map[string]int {
	out, taken := map[string]int{}, map[int]bool{}
	give := func(h *inventory.Host, p int) {
		out[h.Name] = p
		taken[p] = true
	}
	masters := v.Inv.Masters()
	for _, m := range masters {
		if f := v.Facts[m.Name]; f != nil && f.Record.VIPPriority > 0 && !taken[f.Record.VIPPriority] {
			give(m, f.Record.VIPPriority)
		}
	}
	// Masters that were not asked come first: a newcomer must not take the place
	// that one of them may have.
	for _, asked := range []bool{false, true} {
		for _, m := range masters {
			if out[m.Name] != 0 || (v.Facts[m.Name] != nil) != asked {
				continue
			}
			p := highestPriority
			for taken[p] {
				p -= priorityStep
			}
			give(m, p)
		}
	}
	return out
}

// minorityPenalty is what a host that sees a minority loses of its priority. It
// exceeds the widest distance between two masters, so that a host in a minority
// ranks below every host in the majority; hosts in a minority keep their order.
// It is as large as it can be: a backup waits the longer the lower it is, by up
// to 100 ms at 100 ms adverts, and busy hosts are late by tens of milliseconds. A
// host that has just come back must not be the one that wins.
func (v VIP) minorityPenalty() int {
	lowest, highest := highestPriority, 1
	for _, p := range v.priorities() {
		lowest, highest = min(lowest, p), max(highest, p)
	}
	return max(highest-lowest+priorityStep, lowest-1)
}
