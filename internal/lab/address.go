package lab

import (
	"fmt"
	"hash/fnv"
)

const (
	maxMasters = 7
	maxWorkers = 50
	maxCPUs    = 1024
)

// plan is how a lab's network is laid out. All labs use the same addresses:
// each has a bridge in a network namespace of its own, and no bridge leads
// anywhere, so two labs cannot meet. The networks lie outside hactl's default
// service and pod subnets: kube-proxy drops what goes to unallocated service
// addresses, hosts' own traffic included.
type plan struct {
	vip     string // in the family of the inventories
	bits    int
	gateway string
	format  string
}

var (
	plan4 = plan{vip: "10.77.0.100", bits: 24, gateway: "10.77.0.1", format: "10.77.0.%d"}
	plan6 = plan{vip: "fd77::100", bits: 64, gateway: "fd77::1", format: "fd77::%d"}
)

func planFor(ipv6 bool) plan {
	if ipv6 {
		return plan6
	}
	return plan4
}

// planHosts gives masters .11 and up, workers .21 to .70 and the bastion .5.
func planHosts(c Config) []hostState {
	var out []hostState
	add := func(role, name string, last int) {
		out = append(out, hostState{
			Host: Host{Name: name, Role: role, Address: fmt.Sprintf(plan4.format, last), Address6: fmt.Sprintf(plan6.format, last)},
			MAC:  macOf(c.Name, last),
		})
	}
	for i := 1; i <= c.Masters; i++ {
		add(Master, fmt.Sprintf("master-%d", i), 10+i)
	}
	for i := 1; i <= c.Workers; i++ {
		add(Worker, fmt.Sprintf("worker-%d", i), 20+i)
	}
	if c.Bastion {
		add(Bastion, "bastion", 5)
	}
	return out
}

// macOf is a locally administered address that a host keeps over power-offs.
func macOf(lab string, last int) string {
	h := fnv.New32a()
	h.Write([]byte(lab))
	s := h.Sum32()
	return fmt.Sprintf("02:77:%02x:%02x:%02x:%02x", byte(s>>16), byte(s>>8), byte(s), last)
}

// inventoryAddress is the address by which inventories name the host.
func (s *state) inventoryAddress(h Host) string {
	if s.IPv6 {
		return h.Address6
	}
	return h.Address
}
