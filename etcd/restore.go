package etcd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

// A restore leaves these on a master until it is over.
const (
	// restoringFile says which restore is under way: the token of the cluster that is
	// being made, and the SHA-256 of the snapshot. While it is there etcd does not start,
	// not even after a reboot: members of two generations must never run together.
	restoringFile = "/var/lib/hactl/restoring"
	fenceFile     = "/etc/systemd/system/etcd.service.d/restoring.conf"
	snapshotFile  = "/var/lib/hactl/restore.db"
)

// bumpStep is by how much the revision is raised for each generation. A client that
// watched the cluster of before must never see a revision again: a cluster makes fewer
// than this many in a generation.
const bumpStep = 1_000_000_000

// Restore makes the members of a new generation from a snapshot.
type Restore struct {
	*Plan                     // with the new generation in its identity
	Masters []*inventory.Host // the members of the new generation
	File    string            // the snapshot, on this machine
	SHA256  string            // of it
	Size    int64             // of it, in bytes
	Of      int               // generation of the snapshot; 0 when it is not known
	Etcdutl string            // path of etcdutl on a host
}

// bump is how far the revision of this generation begins above that of the snapshot.
func (r *Restore) bump() int { return bumpStep * (r.PKI.Identity.Generation - r.Of) }

// before is where the data of before goes, beside the new one.
func (r *Restore) before() string {
	return path.Join(r.Inv.Etcd.DataDir, "member.before-r"+strconv.Itoa(r.PKI.Identity.Generation))
}

// mark is the content of restoringFile.
func (r *Restore) mark() string { return r.Token() + " " + r.SHA256 }

// restoreBegun asks for the two words of restoringFile, which are empty where it is not there.
var restoreBegun = sys.Question[[2]string]{
	Title:  "look for a restore that is under way",
	Script: `if is_there ` + restoringFile + `; then echo "begun $(cat ` + restoringFile + `)"; else echo none; fi`,
	Parse: func(answer string) (begun [2]string, err error) {
		f := strings.Fields(remote.Clean(answer))
		switch {
		case len(f) == 3 && f[0] == "begun":
			return [2]string{f[1], f[2]}, nil
		case len(f) != 1 || f[0] != "none":
			return begun, remote.Hint(sys.Unreadable(answer), "hactl wrote no such %s: if no restore is under way, remove it", restoringFile)
		}
		return begun, nil
	},
}

// UnderWay reads from the masters which restore was begun and not completed, as
// token and SHA-256 of the snapshot, by host.
func UnderWay(ctx context.Context, masters []*inventory.Host, hosts plan.Hosts) (map[string][2]string, error) {
	out := map[string][2]string{}
	for _, m := range masters {
		if hosts[m.Name] == nil {
			continue
		}
		begun, err := remote.Ask(ctx, hosts[m.Name], restoreBegun, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		if begun != [2]string{} {
			out[m.Name] = begun
		}
	}
	return out, nil
}

// room refuses where the file system of the data has no room: for the snapshot, for what is
// made of it, and for the log of writes.
func (r *Restore) room(ctx context.Context, h remote.Host) error {
	free, err := remote.Ask(ctx, h, sys.FreeAt(r.Inv.Etcd.DataDir), 0)
	if err != nil {
		return err
	}
	if need := 3*r.Size + 1<<20; free[0].Bytes < need {
		return &RefusedError{fmt.Errorf("%d MB are free at %s, and the restore takes %d", free[0].Bytes>>20, remote.Clean(free[0].Mount), need>>20)}
	}
	return nil
}

// Room refuses where a master has no room for the restored data, before anything stops.
func (r *Restore) Room(ctx context.Context, hosts plan.Hosts) error {
	var errs []error
	for _, m := range r.Masters {
		if err := r.room(ctx, hosts[m.Name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	if errs == nil {
		return nil
	}
	return remote.Hint(errors.Join(errs...), "nothing was changed; make room on these masters, such as by removing what an earlier restore kept (%s/member.before-r*), then run the same command again", r.Inv.Etcd.DataDir)
}

// Fence returns the step that stops the member and keeps it from starting until the
// restore is over. It comes after the host's apiserver has ended, which takes long
// without etcd.
func (r *Restore) Fence(m *inventory.Host) plan.Step {
	unit := "[Unit]\n# A restore is under way; hactl restore removes this.\nConditionPathExists=!" + restoringFile + "\n"
	st := plan.Script{
		ID: id(m, "fence"), Host: m.Name, Title: "fence", Op: plan.Do, Timeout: 2 * time.Minute,
		// A host that has the new data needs no fence any more.
		Look: `[ "$(cat ` + restoringFile + ` 2>/dev/null)" = ` + remote.Quote(r.mark()) + ` ] || { echo "etcd may start"; exit 0; }
` + r.swapped() + ` && { echo ok; exit 0; }
[ -e ` + fenceFile + ` ] || { echo "etcd may start"; exit 0; }
is_stopped etcd.service && echo ok || echo "etcd runs"`,
		Summary: "stop etcd, and keep it from starting until the restore is over",
		Run: fmt.Sprintf(`set -e
mkdir -p /var/lib/hactl %s
printf '%%s' %s >%s
printf '%%s\n' %s >%s.new
sync %s.new
mv %s.new %s
sync %s %s /var/lib/hactl
systemctl daemon-reload
stop_unit etcd.service
`, path.Dir(fenceFile), remote.Quote(unit), fenceFile,
			remote.Quote(r.mark()), restoringFile, restoringFile, restoringFile, restoringFile, fenceFile, restoringFile),
		Acts: func(string) []string { return []string{"fence"} },
	}.Step()
	st.Guard = func(ctx context.Context, env plan.Env) error {
		return remote.Hint(r.room(ctx, env.Host), "make room on %s, then run the same command again", m.Name)
	}
	return st
}

// Swap returns the step that restores the snapshot beside the data of before and then
// moves both. Nothing is deleted but what a run that was cut has left of its own.
func (r *Restore) Swap(m *inventory.Host) plan.Step {
	d, before := r.Inv.Etcd.DataDir, r.before()
	fresh := path.Join(d, "restoring")
	st := plan.Script{
		ID: id(m, "swap"), Host: m.Name, Title: "restore", Lane: Lane, Op: plan.Do,
		Look:    r.swapped() + ` && echo ok || echo "not restored"`,
		Summary: fmt.Sprintf("restore the snapshot as generation %d, and keep the data of before in %s", r.PKI.Identity.Generation, before),
		Acts:    func(string) []string { return []string{"restore"} },
	}.Step()
	script := fmt.Sprintf(`set -e
d=%s; b=%s; n=%s
rm -rf -- "$n" "$d/member.new"
%s snapshot restore %s --name=%s --data-dir="$n" --initial-cluster=%s --initial-cluster-token=%s --initial-advertise-peer-urls=%s --bump-revision=%d --mark-compacted >/run/hactl-restore.log 2>&1 || { tail -n 5 /run/hactl-restore.log >&2; exit 1; }
chown -R etcd:etcd -- "$n"
mv -T -- "$n/member" "$d/member.new"
rm -rf -- "$n" %s /run/hactl-restore.log
sync
if [ ! -e "$b" ]; then if [ -e "$d/member" ]; then mv -T -- "$d/member" "$b"; else mkdir -- "$b"; fi; fi
mv -T -- "$d/member.new" "$d/member"
sync "$d"
`, remote.Quote(d), remote.Quote(before), remote.Quote(fresh), r.Etcdutl, snapshotFile, m.Name, r.initialCluster(r.Masters), r.Token(), PeerURL(m), r.bump(), snapshotFile)
	st.Apply = func(ctx context.Context, env plan.Env, _ *plan.Change) error {
		if _, err := env.Host.Send(ctx, remote.Upload{Local: r.File, Path: snapshotFile, SHA256: r.SHA256, Mode: 0o600}); err != nil {
			return err
		}
		_, err := env.Host.Run(ctx, remote.Cmd{Title: "restore the snapshot", Script: script, Timeout: 15 * time.Minute})
		return err
	}
	return st
}

// swapped is a condition of the shell: the new data is in place. The data of before is
// moved first, or an empty folder is made in its place, so that both are there only then.
func (r *Restore) swapped() string {
	return `[ -e ` + remote.Quote(r.before()) + ` ] && [ -e ` + remote.Quote(r.Inv.Etcd.DataDir+"/member") + ` ]`
}

// Unfence returns the step that lets the member start again and starts it, without
// waiting: members wait for one another. It comes once every master has the new data.
func (r *Restore) Unfence(m *inventory.Host) plan.Step {
	return plan.Script{
		ID: id(m, "unfence"), Host: m.Name, Title: "start etcd", Lane: Lane, Op: plan.Start, Timeout: 2 * time.Minute,
		Look: `[ ! -e ` + fenceFile + ` ] || { echo "it is fenced"; exit 0; }
case $(property_of ActiveState etcd.service) in active|activating) echo ok;; *) echo "etcd is stopped";; esac`,
		Summary: "start etcd",
		Run: `set -e
rm -f ` + fenceFile + `
rmdir ` + path.Dir(fenceFile) + ` 2>/dev/null || :
enable_unit etcd.service
systemctl daemon-reload; systemctl reset-failed etcd.service 2>/dev/null || :
systemctl start --no-block etcd.service
wait_until 30 "etcd did not start" has_process etcd.service`,
		Acts: func(string) []string { return []string{"start"} },
	}.Step()
}

// Over returns the step that notes on a master that the restore is complete.
func (r *Restore) Over(m *inventory.Host) plan.Step {
	return plan.Script{
		ID: id(m, "restored"), Host: m.Name, Title: "restored", Lane: Lane, Op: plan.Delete, Summary: "note that the restore is over",
		Look: `[ ! -e ` + restoringFile + ` ] && echo ok || echo "it is under way"`, Run: "rm -f " + restoringFile + " && sync /var/lib/hactl",
	}.Step()
}

// leases are the keys that say which process leads or serves: those of before.
var leases = []string{"/registry/masterleases/", "/registry/leases/kube-system/kube-controller-manager", "/registry/leases/kube-system/kube-scheduler"}

// DropLeases removes from the restored cluster which processes of before led or served:
// none of them runs, and their leases would be waited for.
func (c *Cluster) DropLeases(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	for _, key := range leases {
		if _, err := call(ctx, func(ctx context.Context) (*clientv3.DeleteResponse, error) {
			return client.Delete(ctx, key, clientv3.WithPrefix())
		}); err != nil {
			return fmt.Errorf("remove %s from etcd: %w", key, err)
		}
	}
	return nil
}
