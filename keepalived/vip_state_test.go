package keepalived

import (
	"slices"
	"strings"
	"testing"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory/inventorytest"
)

const (
	holds   = "2: eth0    inet 192.0.2.10/32 scope global eth0\\       valid_lft forever\n"
	keeps   = "\nId=keepalived.service\nActiveState=active\n"
	probes  = "\nActiveState=active\nId=hactl-prober.service\n"
	theEnd  = "\nend\n"
	standby = keeps + probes + theEnd
)

func TestLookTellsUnknownFromNotHere(t *testing.T) {
	inv := inventorytest.Three(t)
	says := func(name, out string) remote.Host {
		return remote.NewFake(name, func(remote.Call) (*remote.Result, error) { return &remote.Result{Stdout: []byte(out)}, nil })
	}
	hosts := plan.Hosts{
		"master-1": says("master-1", holds+standby),
		"master-2": says("master-2", standby),
		"master-3": says("master-3", holds[:30]), // cut off
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
	units := []string{"keepalived.service", "hactl-prober.service"}
	for name, c := range map[string]struct {
		out  string
		down []string
	}{
		"both run":                 {standby, nil},
		"keepalived failed":        {strings.Replace(standby, "active", "failed", 1), []string{"keepalived.service is failed"}},
		"the prober starts":        {keeps + strings.Replace(probes, "active", "activating", 1) + theEnd, []string{"hactl-prober.service is activating"}},
		"an answer without a unit": {keeps + theEnd, []string{"hactl-prober.service is unknown"}},
		"the owner's prober died":  {holds + keeps + strings.Replace(probes, "active", "failed", 1) + theEnd, []string{"hactl-prober.service is failed"}},
	} {
		if got := answer(c.out, "192.0.2.10", units); !slices.Equal(got.Down, c.down) || got.Err != nil || got.Holds != strings.HasPrefix(c.out, holds) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
