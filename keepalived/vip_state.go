package keepalived

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

// Member is what a master was seen to do for the VIP.
type Member struct {
	Host  string
	Holds bool     // carries the VIP
	Down  []string // what has to run and does not: "keepalived.service is failed"
	Err   error    // it could not be asked: nothing else is known
}

// Look asks every master whether it carries the VIP and could take it, all at
// once. The answer is in inventory order.
func Look(ctx context.Context, inv *inventory.Inventory, hosts plan.Hosts) []Member {
	masters := inv.Masters()
	out := make([]Member, len(masters))
	var wg sync.WaitGroup
	for i, m := range masters {
		wg.Go(func() {
			out[i] = look(ctx, inv, hosts[m.Name])
			out[i].Host = m.Name
		})
	}
	wg.Wait()
	return out
}

func look(ctx context.Context, inv *inventory.Inventory, h remote.Host) Member {
	if h == nil {
		return Member{Err: fmt.Errorf("not connected")}
	}
	units := []string{"keepalived.service"}
	if (VIP{Inv: inv}).UsesProber() {
		units = append(units, "hactl-prober.service")
	}
	q := sys.And("look for the VIP", sys.HasAddress(inv.VIP.Address), sys.Units(units...))
	seen, err := remote.Ask(ctx, h, q, 10*time.Second)
	if err != nil {
		return Member{Err: err}
	}
	m := Member{Holds: seen.First}
	for _, unit := range units {
		if state := seen.Second[unit].Active; state != "active" {
			m.Down = append(m.Down, unit+" is "+remote.Clean(state))
		}
	}
	return m
}
