package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

const (
	// apiserverTimeout bounds how long a restarted apiserver may take to be ready.
	apiserverTimeout = 3 * time.Minute
	// askEvery is the pause between two questions to an apiserver that starts.
	askEvery = 200 * time.Millisecond
)

// record writes, when the master serves, which configuration kubeadm ran with and
// what it made of the static pods' manifests.
func record(madeFrom string) string {
	return `{ echo "` + madeFrom + `  ` + initFile + `"; sha256sum ` + kubeDir + `/manifests/kube-apiserver.yaml ` + kubeDir + `/manifests/kube-controller-manager.yaml ` +
		kubeDir + `/manifests/kube-scheduler.yaml; } >` + markerFile + `.new && sync ` + markerFile + `.new && mv ` + markerFile + `.new ` + markerFile + ` && rm -rf ` + keptDir
}

// rewrite has kubeadm write the apiserver's certificate anew (kubeadm keeps an
// old one whatever names it has) and then its manifest. A run that is cut off
// in between finds the certificate missing and makes it.
const rewrite = `set -e
` + keepManifests + `cd ` + pkiDir + `
for f in apiserver.crt apiserver.key; do [ ! -e $f ] || mv -f $f $f.old; done
kubeadm init phase certs apiserver --config ` + initFile + ` || { for f in apiserver.crt apiserver.key; do [ ! -e $f.old ] || mv -f $f.old $f; done; exit 1; }
` + fsyncKubeadmFiles + `rm -f apiserver.crt.old apiserver.key.old
` + endBeforeNew + `before=$(cat $m 2>/dev/null | sha256sum)
kubeadm init phase control-plane apiserver --config ` + initFile + `
if [ "$before" != "$(sha256sum <$m)" ] && [ -n "$old" ]; then
  # One that ends at once is seen by the wait for it to be ready.
  wait_until 120 "the kubelet did not stop the apiserver" stopped
fi
`

// rewriteOthers has kubeadm write the other manifests, once the apiserver of the host is
// the wanted one: a controller manager or scheduler must not be newer than the apiserver
// that it works with.
const rewriteOthers = `set -e
kubeadm init phase control-plane controller-manager --config ` + initFile + `
kubeadm init phase control-plane scheduler --config ` + initFile + "\n"

// upload stores the configuration where a joining node reads it. Only the first
// master does.
const upload = `kubeadm init phase upload-config kubeadm --config ` + initFile + "\n"

// Manifests returns the step that notices static pods whose manifests are not
// what kubeadm made of the wanted configuration, and has kubeadm write them
// again. It restarts the apiserver, so it wants a stage that is serial. Where the new
// apiserver does not come up, the manifests of before are put back; see [Cluster.PutBack].
func (c Cluster) Manifests(h *inventory.Host) (plan.Step, error) {
	from, err := c.madeFrom(h)
	if err != nil {
		return plan.Step{}, err
	}
	run := c.SearchPath + rewrite
	if c.First == h.Name && !c.SettingsLater {
		run += upload
	}
	st := plan.Script{
		ID: id(h, "manifests"), Host: h.Name, Title: "static pod manifests", Op: plan.Update, Timeout: 5 * time.Minute,
		// Asked about the wanted configuration, not the one on the disk: what
		// rewrites that file must not be followed by a second run.
		Look: fmt.Sprintf(`[ -e %[1]s ] || { echo "not initialised"; exit 0; }
grep -q '^%[2]s  ' %[1]s || { echo "made from another configuration"; exit 0; }
o=$(grep manifests/ %[1]s | sha256sum --check --quiet 2>/dev/null) && echo ok || echo "changed: $(printf '%%s' "$o" | sed 's/:.*//' | tr '\n' ' ')"`,
			markerFile, from),
		Summary: "write static pod manifests", Run: run, Acts: plan.EachOf,
	}.Step()
	st.Guard = func(ctx context.Context, env plan.Env) error { return c.Spare(ctx, env, h) }
	write := st.Apply
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		if err := write(ctx, env, change); err != nil {
			return c.PutBack(ctx, env, h, err)
		}
		return nil
	}
	st.Ready = func(ctx context.Context, env plan.Env) error {
		if err := c.awaitNewAPI(ctx, env, h); err != nil {
			return c.PutBack(ctx, env, h, err)
		}
		_, err := env.Host.Run(ctx, remote.Cmd{Title: "write the other manifests", Script: c.SearchPath + rewriteOthers, Timeout: time.Minute})
		if err == nil && c.SettingsLater {
			err = c.awaitManagers(ctx, env, h)
		}
		if err != nil {
			return c.putOthersBack(ctx, env, err)
		}
		// Only now: were manifests with which no apiserver comes up in sync, the next
		// run would go on to the next master.
		_, err = env.Host.Run(ctx, remote.Cmd{Title: "record the manifests", Script: record(from)})
		return err
	}
	return st, nil
}

// Spare refuses to restart the apiserver of h when it serves and no other one
// does. The only master's is restarted: there is no other way.
func (c Cluster) Spare(ctx context.Context, env plan.Env, h *inventory.Host) error {
	masters := c.Inv.Masters()
	if len(masters) == 1 || c.ready(ctx, env, h) != nil {
		return nil
	}
	var errs []error
	for _, m := range masters {
		if m.Name == h.Name {
			continue
		}
		err := c.ready(ctx, env, m)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
	}
	return remote.Hint(fmt.Errorf("refused to restart the only apiserver that is ready: %w", errors.Join(errs...)),
		"mend another one first: hactl status; its log is on its host, /var/log/pods/kube-system_kube-apiserver-*")
}

// ready asks the apiserver of m, from the step's host.
func (c Cluster) ready(ctx context.Context, env plan.Env, m *inventory.Host) error {
	api, err := NewAPI(env.Host, c.Inv, c.PKI, m.PrivateAddress)
	if err != nil {
		return err
	}
	defer api.Close()
	return bounded(ctx, api, readyOf)
}

func readyOf(ctx context.Context, api *API) error { return api.Ready(ctx) }

// isReady and answers are what awaitAPI can wait for, told from the error of a
// question for readiness.
func isReady(err error) bool { return err == nil }

func answers(err error) bool {
	var s *kubeapi.StatusError
	return err == nil || errors.As(err, &s)
}

// lost reports whether the connection to the host that asks has ended, rather
// than the time for the answer.
func lost(err error) bool {
	var u *remote.UnreachableError
	return errors.As(err, &u) && !errors.Is(err, context.DeadlineExceeded)
}

// there looks, after a question that did not get through, whether the host that
// asks is still there: a dial only ends with its time when the host has no power.
func there(ctx context.Context, env plan.Env, err error) error {
	if !remote.Unreachable(err) {
		return nil
	}
	_, err = env.Host.Run(ctx, remote.Cmd{Script: ":", Title: "see whether the host is there", Timeout: time.Minute})
	return err
}

// awaitAPI asks the apiserver of m, from the step's host over one connection,
// whether it is ready, until the answer is good enough or the host is lost.
func (c Cluster) awaitAPI(ctx context.Context, env plan.Env, m *inventory.Host, bound time.Duration, enough func(error) bool) error {
	return c.awaitAPIUnless(ctx, env, m, bound, enough, func(context.Context) error { return nil })
}

// awaitAPIUnless is awaitAPI that ends with the error of unless, which is asked after
// each answer that is not good enough.
func (c Cluster) awaitAPIUnless(ctx context.Context, env plan.Env, m *inventory.Host, bound time.Duration, enough func(error) bool, unless func(context.Context) error) error {
	env.Say("waiting up to %s for the apiserver of %s", wait.Bound(ctx, bound), m.Name)
	api, err := NewAPI(env.Host, c.Inv, c.PKI, m.PrivateAddress)
	if err != nil {
		return err
	}
	defer api.Close()
	within, cancel := wait.Within(ctx, "the apiserver of "+m.Name, bound)
	defer cancel()
	for {
		err := bounded(within, api, readyOf)
		if enough(err) {
			return nil
		}
		if err := there(ctx, env, err); err != nil {
			return err
		}
		if err := unless(within); err != nil {
			return fmt.Errorf("wait for the apiserver of %s: %w", m.Name, err)
		}
		if pause(within, askEvery); within.Err() != nil {
			return wait.Over(within, err)
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
