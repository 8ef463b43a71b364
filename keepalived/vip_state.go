package keepalived

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
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
	res, err := h.Run(ctx, remote.Cmd{
		Title: "look for the VIP", Timeout: 10 * time.Second,
		Script: "ip -o address show to " + remote.Quote(inv.VIP.Address.String()) + " && echo && systemctl show -p Id,ActiveState -- " + strings.Join(units, " ") + " && echo && echo end",
	})
	if err != nil {
		return Member{Err: err}
	}
	return answer(string(res.Stdout), inv.VIP.Address.String(), units)
}

// answer reads the host's: a block for the address, one for each unit, and the end.
func answer(out, vip string, units []string) Member {
	addresses, rest, _ := strings.Cut("\n"+out, "\n\n")
	if !strings.HasSuffix(strings.TrimSpace(out), "\nend") {
		return Member{Err: fmt.Errorf("the host's answer ends early")}
	}
	m := Member{Holds: strings.Contains(addresses, vip+"/")}
	for _, unit := range units {
		state := "unknown"
		for block := range strings.SplitSeq(rest, "\n\n") {
			lines := strings.Split(block, "\n")
			for _, line := range lines {
				if s, is := strings.CutPrefix(line, "ActiveState="); is && slices.Contains(lines, "Id="+unit) {
					state = s
				}
			}
		}
		if state != "active" {
			m.Down = append(m.Down, unit+" is "+remote.Clean(state))
		}
	}
	return m
}
