package inventory

import (
	"fmt"
	"strings"
	"testing"
)

func TestHostsAreWrittenAsRanges(t *testing.T) {
	var workers []string
	for n := 50; n > 0; n-- {
		workers = append(workers, fmt.Sprintf("worker-%d", n))
	}
	for want, names := range map[string][]string{
		"":                                  nil,
		"master-1":                          {"master-1"},
		"master-1..2":                       {"master-1", "master-2"},
		"master-1..3, worker-1":             {"master-1", "worker-1", "master-3", "master-2"},
		"master-1..2, master-4":             {"master-4", "master-2", "master-1", "master-1"},
		"worker-1..50":                      workers,
		"node08, node9":                     {"node08", "node9"},
		"node01..02, node09..10, node3":     {"node01", "node02", "node10", "node09", "node3"},
		"n-0..1, n-9..10":                   {"n-0", "n-1", "n-10", "n-9"},
		"a, b.example.com":                  {"a", "b.example.com"},
		"10.0.0.1..3":                       {"10.0.0.1", "10.0.0.2", "10.0.0.3"},
		"100%d, 7..8":                       {"100%d", "7", "8"},
		"x99999999999999999999, x1":         {"x99999999999999999999", "x1"},
		"rack1-node1..2, rack2-node1, edge": {"rack1-node1", "rack1-node2", "rack2-node1", "edge"},
	} {
		if got := Ranges(names); got != want {
			t.Errorf("%s: got %q, want %q", strings.Join(names, " "), got, want)
		}
	}
}

func TestHostsOfManyAreCounted(t *testing.T) {
	if got, want := CountOf([]string{"w-1", "w-2", "w-4"}, 53), "3 of 53 hosts: w-1..2, w-4"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := CountOf([]string{"a", "b"}, 2); got != "all 2 hosts" {
		t.Errorf("got %q", got)
	}
}
