package ui

import "hactl/inventory"

// manyHosts is from how many hosts on a list of some says how many they are.
const manyHosts = 10

// HostList writes some of all hosts: "master-1..3", or "12 of 53 hosts:
// worker-1..12" in a large cluster.
func HostList(some []string, all int) string {
	if all < manyHosts || len(some) < 2 {
		return inventory.Ranges(some)
	}
	return inventory.CountOf(some, all)
}
