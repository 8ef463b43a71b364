package kubeadm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/inventory"
)

const (
	// keptDir holds, while the manifests of a master change, those of before: a copy is
	// made where the marker says that the apiserver served with them.
	keptDir = kubeDir + "/hactl-manifests-before"
	// putBackWait bounds how long the apiserver of before may take to serve again.
	putBackWait = 2 * time.Minute
	// exitsEvery is the pause between two looks at how often the apiserver has ended.
	exitsEvery = 5 * time.Second
	// exitsEnough is how often a new apiserver may end before it is given up. The
	// kubelet starts it again after a second, and then every ten seconds.
	exitsEnough = 3
)

// keepManifests is a shell script that copies the manifests with which the apiserver
// served. A run that was cut off has left a copy, and its new manifests.
const keepManifests = `if [ ! -d ` + keptDir + ` ] || grep manifests/ ` + markerFile + ` 2>/dev/null | sha256sum --check --status 2>/dev/null; then
rm -rf ` + keptDir + `.new && mkdir -m 0700 ` + keptDir + `.new
for p in kube-apiserver kube-controller-manager kube-scheduler; do
[ ! -e ` + kubeDir + `/manifests/$p.yaml ] || cp -p ` + kubeDir + `/manifests/$p.yaml ` + keptDir + `.new/
done
rm -rf ` + keptDir + ` && mv ` + keptDir + `.new ` + keptDir + ` && sync ` + keptDir + ` ` + kubeDir + `
fi
`

// putManifestsBack is a shell script that puts the copies in place.
const putManifestsBack = `set -e
[ -e ` + keptDir + `/kube-apiserver.yaml ] || { echo "there is none" >&2; exit 1; }
for p in kube-apiserver kube-controller-manager kube-scheduler; do
f=` + kubeDir + `/manifests/$p.yaml
[ -e ` + keptDir + `/$p.yaml ] && ! cmp -s ` + keptDir + `/$p.yaml $f || continue
cp -p ` + keptDir + `/$p.yaml ` + keptDir + `/$p.new
sync ` + keptDir + `/$p.new
mv ` + keptDir + `/$p.new $f
done
sync ` + kubeDir + `/manifests
`

// apiserverLog is a shell script that prints what the newest apiserver said last, or
// what the kubelet said of it where no container has run.
const apiserverLog = `d=$(ls -dt /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver 2>/dev/null | head -n 1)
for f in $([ -z "$d" ] || ls -rv "$d"); do
[ -s "$d/$f" ] || continue
tail -n 8 "$d/$f" | sed 's/^[^ ]* std[a-z]* [FP] //' | cut -c 1-600
exit 0
done
journalctl --no-pager -n 200 -o cat -u kubelet.service | grep kube-apiserver | tail -n 3 | cut -c 1-600
`

// exits is how often the newest apiserver has ended.
type exits struct {
	folder string // of its logs; "" when there are none
	count  int
}

var apiserverExits = sys.Question[exits]{
	Title: "see how often the apiserver ended",
	Script: `d=$(ls -dt /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver 2>/dev/null | head -n 1)
f=$([ -z "$d" ] || ls -v "$d" | grep '^[0-9]*\.log$' | tail -n 1)
[ -z "$f" ] && echo none || echo "$d ${f%.log}"`,
	Parse: func(answer string) (e exits, err error) {
		answer = strings.TrimSpace(answer)
		folder, n, _ := strings.Cut(answer, " ")
		count, err := strconv.ParseUint(n, 10, 31)
		switch {
		case answer == "none":
			return e, nil
		case err != nil || !strings.HasPrefix(folder, "/"):
			return e, sys.Unreadable(answer)
		}
		return exits{folder, int(count)}, nil
	},
}

// errEnds is why an apiserver is not waited for any longer.
var errEnds = errors.New("it ends again and again")

// awaitNewAPI waits for the apiserver of h, which has another manifest. One that ends
// again and again is given up early.
func (c Cluster) awaitNewAPI(ctx context.Context, env plan.Env, h *inventory.Host) error {
	first, looked := exits{}, time.Now()
	return c.awaitAPIUnless(ctx, env, h, apiserverTimeout, isReady, func(ctx context.Context) error {
		if time.Since(looked) < cmp.Or(c.patience, exitsEvery) {
			return nil
		}
		looked = time.Now()
		e, err := remote.Ask(ctx, env.Host, apiserverExits, 0)
		switch {
		case err != nil: // awaitAPI looks whether the host is there
		case e.folder != first.folder:
			first = e
		case e.count >= first.count+exitsEnough:
			return errEnds
		}
		return nil
	})
}

// PutBack puts the manifests of before in place on h, where an apiserver did not come up
// with new ones, and waits until the one of before serves. The error that it returns
// says what became of it, with cause and the last lines of the apiserver's log.
func (c Cluster) PutBack(ctx context.Context, env plan.Env, h *inventory.Host, cause error) error {
	if ctx.Err() != nil || lost(cause) {
		return cause
	}
	says := lastLines(ctx, env, "read the apiserver's log", apiserverLog)
	cause = fmt.Errorf("the apiserver of %s does not come up with its new manifest: %w%s", h.Name, cause, says)
	env.Say("the apiserver does not come up: its old manifest is put back")
	if _, err := env.Host.Run(ctx, remote.Cmd{Title: "put the old manifests back", Script: putManifestsBack}); err != nil {
		return fmt.Errorf("%w; put its old manifest back: %w", cause, err)
	}
	if err := c.awaitAPI(ctx, env, h, putBackWait, isReady); err != nil {
		return fmt.Errorf("%w; its old manifest is back, and does not serve either: %w", cause, err)
	}
	return remote.Hint(fmt.Errorf("%w; its old manifest is back, and serves", cause), "no other master was touched; mend what the inventory says of the apiservers, then run the same command again")
}

// lastLines is what the script prints of a log, as a part of an error: empty where there is
// nothing to say.
func lastLines(ctx context.Context, env plan.Env, title, script string) string {
	log, err := env.Host.Run(ctx, remote.Cmd{Title: title, Script: script})
	if err != nil || len(bytes.TrimSpace(log.Stdout)) == 0 {
		return ""
	}
	return "; its last lines:\n" + remote.Clean(string(bytes.TrimSpace(log.Stdout))) + "\n"
}
