package state

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hactl/etcd"
	"hactl/inventory"
	"hactl/inventory/inventorytest"
	"hactl/kubeadm"
)

func gateOf(ready ...string) *Gate {
	first := &Report{Seen: Seen{Nodes: map[string]kubeadm.Node{"worker-1": {}}}}
	for _, name := range ready {
		first.Seen.Nodes[name] = kubeadm.Node{Ready: true}
	}
	return NewGate(Cluster{}, first)
}

func statusOf(leader string, applied ...uint64) *etcd.Status {
	s := &etcd.Status{Leader: leader}
	for i, a := range applied {
		s.Members = append(s.Members, etcd.MemberStatus{Name: []string{"master-1", "master-2", "master-3"}[i], Applied: a, RaftIndex: 5000})
	}
	return s
}

// The gate holds for what the operation has to leave as it was, and for nothing else.
func TestGateNamesWhatKeepsItClosed(t *testing.T) {
	t.Parallel()
	behind := statusOf("master-1", 5000, 5000, 3999)
	silent := statusOf("master-1", 5000, 5000, 0)
	silent.Members[2].Err = errors.New("no answer")
	for name, c := range map[string]struct {
		checks []Check
		etcd   *etcd.Status
		out    []string
		want   string // "": open
	}{
		"all is well":                        {nil, statusOf("master-1", 5000, 5000, 4000), nil, ""},
		"an apiserver is not ready":          {[]Check{{Area: "apiserver", What: "master-2", State: Bad, Detail: "503"}}, nil, nil, "apiserver master-2: 503"},
		"could not look":                     {[]Check{{Area: "vip", What: "master-2", State: Unknown, Detail: "silent"}}, nil, nil, "vip master-2: silent"},
		"a node that was Ready is not":       {[]Check{{Area: "node", What: "master-1", State: Bad, Detail: "not Ready"}}, nil, nil, "node master-1"},
		"a node was not Ready before":        {[]Check{{Area: "node", What: "worker-1", State: Bad, Detail: "not Ready"}}, nil, nil, ""},
		"a workload is on its way":           {[]Check{{Area: "workload", What: "coredns", State: Bad}}, nil, nil, ""},
		"what was left out":                  {[]Check{{Area: "apiserver", What: "master-3", State: Skipped}}, nil, nil, ""},
		"a member is behind":                 {nil, behind, nil, "etcd master-3: 1001 entries behind"},
		"a member that is out is behind":     {nil, behind, []string{"master-3"}, ""},
		"a silent member, which a check has": {nil, silent, nil, ""},
		"no leader":                          {nil, statusOf("", 1, 1, 1), nil, "no leader"},
	} {
		err := errors.Join(gateOf("master-1").judge(&Report{Checks: c.checks, Seen: Seen{Etcd: c.etcd}}, c.out)...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Owner and leader come last, so that each of them moves once.
func TestOwnerAndLeaderAreTakenOutLast(t *testing.T) {
	t.Parallel()
	inv := inventorytest.ThreeWithWorkers(t, 1)
	var hosts []*inventory.Host
	for i := range inv.Hosts {
		hosts = append(hosts, &inv.Hosts[i])
	}
	slices.Reverse(hosts)
	for name, c := range map[string]struct {
		owner, leader string
		want          string
	}{
		"two masters":           {"master-3", "master-2", "master-1 master-3 master-2 worker-1"},
		"one master":            {"master-3", "master-3", "master-2 master-1 master-3 worker-1"},
		"neither could be seen": {"", "", "master-3 master-2 master-1 worker-1"},
	} {
		r := &Report{Seen: Seen{Etcd: &etcd.Status{Leader: c.leader}, Owners: []string{c.owner}}}
		if got := strings.Join(r.Order(hosts), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
