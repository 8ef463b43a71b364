package etcd

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

// Folders on a master.
const (
	confDir       = "/etc/etcd"
	pkiDir        = confDir + "/pki"
	bootstrapFile = confDir + "/bootstrap.env"
	// establishedFile names the cluster that a member has seen a quorum of. It
	// tells a bootstrap that was cut off (nothing was ever acknowledged, start
	// the rest) from a cluster that lost members (never bootstrap again).
	establishedFile = confDir + "/established"
	unitFile        = "/etc/systemd/system/etcd.service"
)

// Disk is what a master's disk says about etcd.
type Disk struct {
	Data        bool   // the data directory holds a member's log
	Established string // token of the cluster that once had a quorum; "" when never
	Initial     string // ETCD_INITIAL_CLUSTER of bootstrap.env
	Elsewhere   string // another data directory, which the installed unit names and which holds a log
}

// Observe reads every connected master's disk, one round trip each, all at once.
func Observe(ctx context.Context, inv *inventory.Inventory, hosts plan.Hosts) (map[string]Disk, error) {
	masters := inv.Masters()
	found := make([]Disk, len(masters))
	g, ctx := errgroup.WithContext(ctx)
	for i, m := range masters {
		if hosts[m.Name] == nil {
			continue // skipped on request
		}
		g.Go(func() error {
			d, err := observe(ctx, inv, hosts[m.Name])
			if err != nil {
				return fmt.Errorf("%s: look for an etcd member: %w", m.Name, err)
			}
			found[i] = d
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := map[string]Disk{}
	for i, m := range masters {
		if hosts[m.Name] != nil {
			out[m.Name] = found[i]
		}
	}
	return out, nil
}

func observe(ctx context.Context, inv *inventory.Inventory, h remote.Host) (Disk, error) {
	return remote.Ask(ctx, h, sys.Question[Disk]{Title: "look for an etcd member", Script: observeScript(inv.Etcd.DataDir), Parse: parseDisk}, 0)
}

// observeScript prints what is there and fails on anything that it could not
// look at: a disk that cannot be read must not pass for one without a member,
// or hactl would bootstrap over it.
func observeScript(dataDir string) string {
	return `LC_ALL=C; export LC_ALL
d=` + remote.Quote(dataDir) + `
inode() { stat -Lc %d:%i -- "$1/member" 2>/dev/null; }
! has_log "$d" || echo data
o=; ! is_there ` + unitFile + ` || o=$(sed -n 's/^[[:space:]]*--data-dir=\([^[:space:]]*\).*/\1/p' ` + unitFile + `) || exit 1
[ -z "$o" ] || [ "$o" = "$d" ] || ! has_log "$o" || [ "$(inode "$o")" = "$(inode "$d")" ] || echo "elsewhere $o"
! is_there ` + bootstrapFile + ` || sed -n 's/^ETCD_INITIAL_CLUSTER=/initial /p' ` + bootstrapFile + ` || exit 1
! is_there ` + establishedFile + ` || sed -n 's/^/established /p' ` + establishedFile + ` || exit 1
echo end`
}

func parseDisk(out string) (Disk, error) {
	var d Disk
	lines, err := sys.Lines(out)
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "data":
			d.Data = true
		case "initial":
			d.Initial = remote.Clean(value)
		case "established":
			d.Established = remote.Clean(value)
		case "elsewhere":
			d.Elsewhere = remote.Clean(value)
		}
	}
	return d, err
}
