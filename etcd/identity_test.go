package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

// An empty cluster is never made where one has run: a master, the store and a
// worker can know that it has.
func TestValidateRefusesAnEmptyClusterOverOneThatHasRun(t *testing.T) {
	for name, c := range map[string]struct {
		disks  map[string]Disk
		lived  bool
		joined []string
		want   string // "" for no refusal
	}{
		"new hosts, new store":                      {map[string]Disk{"master-1": {}}, false, nil, ""},
		"the store says that it has run":            {map[string]Disk{"master-1": {}, "master-2": {}, "master-3": {}}, true, nil, "the store"},
		"a worker belongs to it":                    {map[string]Disk{"master-1": {}}, false, []string{"worker-1"}, "still joined to it: worker-1"},
		"one of three was replaced":                 {map[string]Disk{"master-1": {Data: true, Established: "T"}, "master-2": {Data: true, Established: "T"}, "master-3": {}}, true, []string{"worker-1"}, ""},
		"a bootstrap was cut before its quorum":     {map[string]Disk{"master-1": {Data: true, Initial: "W"}, "master-2": {}}, false, nil, ""},
		"cut between the store's note and a host's": {map[string]Disk{"master-1": {Data: true, Initial: "W"}, "master-2": {Data: true, Initial: "W"}}, true, nil, ""},
		"only data of a host that knows of none":    {map[string]Disk{"master-1": {Established: "T"}, "master-2": {Data: true, Initial: "W"}}, true, nil, "no master holds its etcd data"},
	} {
		p := planOf(t, inventorytest.Three(t))
		p.PKI.Identity.HadQuorum, p.Joined, p.Disks = c.lived, c.joined, map[string]Disk{}
		for host, d := range c.disks {
			d.Established = strings.ReplaceAll(d.Established, "T", p.Token())
			d.Initial = strings.ReplaceAll(d.Initial, "W", p.initialCluster(p.Inv.Masters()))
			p.Disks[host] = d
		}
		err := p.Validate()
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.ExitCode() != 7 || !strings.Contains(err.Error(), c.want) || !strings.Contains(remote.HintOf(err), p.Inv.PKI.Store) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateRefusesAnOldCopyOfTheStore(t *testing.T) {
	p := planOf(t, inventorytest.Three(t))
	later := p.PKI.Identity
	later.Generation = 2
	p.Disks = map[string]Disk{"master-1": {Data: true, Established: later.Token()}}
	var refused *RefusedError
	if err := p.Validate(); !errors.As(err, &refused) || !strings.Contains(err.Error(), "generation 2") || !strings.Contains(err.Error(), "old copy") {
		t.Errorf("got %v", err)
	}
}

// The store knows first: a host that is lost with its note must not be the only
// witness.
func TestQuorumIsRecordedInTheStoreBeforeTheHost(t *testing.T) {
	w := newJoinWorld(t)
	m3 := w.p.Inv.Masters()[2]
	var order []string
	host := remote.NewFake("m3", func(c remote.Call) (*remote.Result, error) {
		order = append(order, c.Kind)
		return &remote.Result{}, nil
	})
	full := errors.New("no space left on device")
	for _, fails := range []error{full, nil} {
		order = nil
		w.p.RecordQuorum = func(context.Context) error {
			order = append(order, "store")
			return fails
		}
		err := w.p.Quorum(m3, w.dial).Apply(t.Context(), plan.Env{Host: host, Say: t.Logf}, nil)
		if want := map[bool]string{true: "store", false: "store put"}[fails != nil]; !errors.Is(err, fails) || strings.Join(order, " ") != want {
			t.Errorf("%v: wrote %q: %v", fails, order, err)
		}
	}
}
