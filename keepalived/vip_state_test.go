package keepalived

import (
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys/systest"
	"hactl/inventory/inventorytest"
)

var holds, standby = systest.VIP(true), systest.VIP(false)

func TestLookTellsUnknownFromNotHere(t *testing.T) {
	inv := inventorytest.Three(t)
	says := func(name, out string) remote.Host {
		return remote.NewFake(name, func(remote.Call) (*remote.Result, error) { return &remote.Result{Stdout: []byte(out)}, nil })
	}
	hosts := plan.Hosts{
		"master-1": says("master-1", holds),
		"master-2": says("master-2", standby),
		"master-3": says("master-3", holds[:60]), // cut off
	}
	got := Look(t.Context(), inv, hosts)
	if !got[0].Holds || got[0].Down != nil || got[1].Holds || got[1].Err != nil || got[2].Holds || got[2].Err == nil {
		t.Fatalf("%+v", got)
	}
	delete(hosts, "master-1")
	if got := Look(t.Context(), inv, hosts); got[0].Holds || got[0].Err == nil || got[0].Host != "master-1" {
		t.Fatalf("%+v", got)
	}
}

func TestMasterThatCouldNotTakeTheAddressIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		down []string
	}{
		"both run":                {standby, nil},
		"keepalived failed":       {strings.Replace(standby, "=active", "=failed", 1), []string{"keepalived.service is failed"}},
		"the prober starts":       {systest.And("no", systest.Services("keepalived.service", "active", "hactl-prober.service", "activating")), []string{"hactl-prober.service is activating"}},
		"the owner's prober died": {systest.And("yes", systest.Services("keepalived.service", "active", "hactl-prober.service", "failed")), []string{"hactl-prober.service is failed"}},
	} {
		h := remote.NewFake("m1", func(remote.Call) (*remote.Result, error) { return &remote.Result{Stdout: []byte(c.out)}, nil })
		if got := look(t.Context(), inventorytest.Three(t), h); !slices.Equal(got.Down, c.down) || got.Err != nil || got.Holds != strings.HasPrefix(c.out, "yes") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
