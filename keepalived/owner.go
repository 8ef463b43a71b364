package keepalived

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// Owners asks every master whether it carries the VIP, all at once, and returns
// the names of those that do, in inventory order. Hosts that could not be asked
// are in unknown; an owner among them is not excluded.
func Owners(ctx context.Context, inv *inventory.Inventory, hosts plan.Hosts) (owners []string, unknown map[string]error) {
	masters := inv.Masters()
	has, errs := make([]bool, len(masters)), make([]error, len(masters))
	var g errgroup.Group
	for i, m := range masters {
		g.Go(func() error {
			has[i], errs[i] = owns(ctx, inv, hosts[m.Name])
			return nil
		})
	}
	_ = g.Wait()
	unknown = map[string]error{}
	for i, m := range masters {
		switch {
		case errs[i] != nil:
			unknown[m.Name] = errs[i]
		case has[i]:
			owners = append(owners, m.Name)
		}
	}
	return owners, unknown
}

func owns(ctx context.Context, inv *inventory.Inventory, h remote.Host) (bool, error) {
	if h == nil {
		return false, fmt.Errorf("not connected")
	}
	res, err := h.Run(ctx, remote.Cmd{
		Title: "look for the VIP", Timeout: 10 * time.Second,
		Script: "ip -o address show to " + remote.Quote(inv.VIP.Address.String()) + " && echo end",
	})
	if err != nil {
		return false, err
	}
	out := strings.TrimSpace(string(res.Stdout))
	if !strings.HasSuffix(out, "end") {
		return false, fmt.Errorf("the host's answer ends early")
	}
	return strings.Contains(out, inv.VIP.Address.String()+"/"), nil
}
