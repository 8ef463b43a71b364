package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hactl/internal/remote"
)

// rehearsalFile is where the snapshot lies on the host meanwhile.
const rehearsalFile = "/var/lib/hactl/rehearse.db"

// Rehearsal is what a throw-away etcd said of a snapshot.
type Rehearsal struct {
	Etcd     string  // version
	Keys     int     // read with their values
	Revision int64   // after the restore, raised as a real one raises it
	Seconds  float64 // in all, without sending the file
}

// rehearse restores the snapshot and starts an etcd on it. It runs where there is a
// loopback of its own and nothing else, and in a /tmp that is gone afterwards.
const rehearse = `set -e
d=$(mktemp -d /tmp/rehearse.XXXXXX); cd "$d"
etcdutl snapshot restore ` + rehearsalFile + ` --name=r --data-dir="$d/data" --initial-cluster=r=http://127.0.0.1:2380 --initial-cluster-token="rehearsal-$$" --initial-advertise-peer-urls=http://127.0.0.1:2380 --bump-revision=` + "1000000000" + ` --mark-compacted >restore.log 2>&1 || { tail -n 5 restore.log >&2; exit 1; }
etcd --name=r --data-dir="$d/data" --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=r=http://127.0.0.1:2380 >etcd.log 2>&1 &
etcd=$!
trap 'kill $etcd 2>/dev/null; wait $etcd 2>/dev/null || :' EXIT
ctl() { etcdctl --endpoints=http://127.0.0.1:2379 --command-timeout=60s "$@"; }
n=0; until ctl endpoint health >/dev/null 2>&1; do
  n=$((n+1)); [ $n -lt 300 ] && kill -0 $etcd 2>/dev/null || { echo "etcd did not come up on the snapshot" >&2; tail -n 5 etcd.log >&2; exit 1; }
  sleep 0.1
done
echo "version $(etcd --version | sed -n 's/^etcd Version: //p')"
a=$(ctl alarm list); [ -z "$a" ] || { echo "etcd raised an alarm: $a" >&2; exit 1; }
ctl get '' --from-key --write-out=fields >keys
echo "keys $(grep -c '^"Key" : ' keys || :)"
ctl put /hactl/rehearsal x >/dev/null
echo "revision $(ctl get /hactl/rehearsal --write-out=fields | sed -n 's/^"ModRevision" : //p')"
`

// cage runs what it reads from stdin without a way to the cluster: no network but a
// loopback of its own, no access to the data and the keys of the host's etcd and
// Kubernetes, bounded memory and time.
const cage = `set -e
systemctl --version >/dev/null
exec systemd-run --quiet --wait --pipe --collect --unit="hactl-rehearsal-$$" -p PrivateNetwork=yes -p PrivateTmp=yes -p ProtectSystem=strict -p ProtectHome=yes \
 -p InaccessiblePaths=-/var/lib/etcd -p InaccessiblePaths=-/etc/kubernetes -p InaccessiblePaths=-/etc/etcd -p MemoryMax=2G -p CPUWeight=20 -p IOWeight=20 -p RuntimeMaxSec=600 \
 /bin/sh -s`

// Rehearse sends a snapshot to a host and starts a throw-away etcd on it, which reads
// every key and takes a write. Nothing of it stays.
func Rehearse(ctx context.Context, h remote.Host, file, sha256 string) (*Rehearsal, error) {
	if _, err := h.Send(ctx, remote.Upload{Local: file, Path: rehearsalFile, SHA256: sha256, Mode: 0o600}); err != nil {
		return nil, err
	}
	start := time.Now()
	res, err := h.Run(ctx, remote.Cmd{Title: "rehearse the snapshot", Script: cage, Stdin: []byte(rehearse), Timeout: 11 * time.Minute})
	took := time.Since(start)
	_, gone := h.Run(context.WithoutCancel(ctx), remote.Cmd{Title: "remove the snapshot", Script: "rm -f " + rehearsalFile})
	if err = errors.Join(err, gone); err != nil {
		return nil, err
	}
	out, err := parseRehearsal(string(res.Stdout))
	if err != nil {
		return nil, err
	}
	out.Seconds = took.Seconds()
	return out, nil
}

func parseRehearsal(text string) (*Rehearsal, error) {
	out := &Rehearsal{Keys: -1}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch key {
		case "version":
			out.Etcd = remote.Clean(value)
		case "keys":
			out.Keys, err = strconv.Atoi(value)
		case "revision":
			out.Revision, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("rehearse the snapshot: unreadable answer: %w", err)
		}
	}
	if out.Etcd == "" || out.Keys < 0 || out.Revision == 0 {
		return nil, errors.New("rehearse the snapshot: the answer ends early")
	}
	return out, nil
}
