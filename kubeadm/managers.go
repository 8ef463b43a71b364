package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// managers are the static pods beside the apiserver, and where each says on its host
// whether it works.
var managers = map[string]string{"kube-controller-manager": "127.0.0.1:10257", "kube-scheduler": "127.0.0.1:10259"}

// managersTimeout bounds how long they may take to run with another version.
const managersTimeout = 2 * time.Minute

// awaitManagers waits until the controller manager and the scheduler of h run with the
// wanted version, as the kubelet says, and say themselves that they work. The kubelet's own
// probes take half a minute to say so.
func (c Cluster) awaitManagers(ctx context.Context, env plan.Env, h *inventory.Host) error {
	env.Say("waiting up to %s for the controller manager and the scheduler of %s", wait.Bound(ctx, managersTimeout), h.Name)
	api, err := NewAPI(env.Host, c.Inv, c.PKI, h.PrivateAddress)
	if err != nil {
		return err
	}
	defer api.Close()
	within, cancel := wait.Within(ctx, "the controller manager and the scheduler of "+h.Name, managersTimeout)
	defer cancel()
	for {
		missing := ""
		err := bounded(within, api, func(ctx context.Context, api *API) error {
			pods, err := controlPlanePods(ctx, api)
			for name, at := range managers {
				if p := pods[h.Name][name]; err == nil && (p.version != c.Inv.Versions.Kubernetes || !p.runs) {
					missing = fmt.Sprintf("%s is %q, runs: %v", name, p.version, p.runs)
				} else if err == nil {
					err = c.works(ctx, env, h, at)
				}
			}
			return err
		})
		if err == nil && missing == "" {
			return nil
		}
		if err != nil {
			missing = err.Error()
		}
		if pause(within, askEvery); within.Err() != nil {
			return wait.Over(within, errors.New(missing))
		}
	}
}

// works asks a component on h, at this address there, whether it works.
func (c Cluster) works(ctx context.Context, env plan.Env, h *inventory.Host, at string) error {
	conf, err := AdminTLS(c.PKI)
	if err != nil {
		return err
	}
	conf.ServerName = h.PrivateAddress.String()
	api := &API{kubeapi.Client{Base: "https://" + at, HTTP: &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, network, _ string) (net.Conn, error) { return env.Host.Dial(ctx, network, at) },
		TLSClientConfig: conf, TLSHandshakeTimeout: wait.Bound(ctx, askTimeout),
	}}}}
	defer api.Close()
	var text string
	return api.Get(ctx, "/healthz", &text)
}

// controlPlanePod is what a kubelet says of a static pod.
type controlPlanePod struct {
	version string // tag of its image
	runs    bool
}

// controlPlanePods are the static pods of the masters, by host and name.
func controlPlanePods(ctx context.Context, api *API) (map[string]map[string]controlPlanePod, error) {
	var pods struct {
		Items []struct {
			Spec   struct{ NodeName string }
			Status struct {
				ContainerStatuses []struct {
					Name, Image string
					State       struct{ Running *struct{} }
				}
			}
		}
	}
	if err := api.Get(ctx, systemPath+"pods?labelSelector=tier%3Dcontrol-plane", &pods); err != nil {
		return nil, fmt.Errorf("list the pods of the control plane: %w", err)
	}
	out := map[string]map[string]controlPlanePod{}
	for _, p := range pods.Items {
		for _, s := range p.Status.ContainerStatuses {
			if out[p.Spec.NodeName] == nil {
				out[p.Spec.NodeName] = map[string]controlPlanePod{}
			}
			out[p.Spec.NodeName][s.Name] = controlPlanePod{remote.Clean(s.Image[strings.LastIndexByte(s.Image, ':')+1:]), s.State.Running != nil}
		}
	}
	return out, nil
}

// managersLog is a shell script that prints what the newest of each said last.
const managersLog = `for n in kube-controller-manager kube-scheduler; do
d=$(ls -dt /var/log/pods/kube-system_$n-*/$n 2>/dev/null | head -n 1)
f=$([ -z "$d" ] || ls -v "$d" | tail -n 1)
[ -z "$f" ] || tail -n 4 "$d/$f" | sed 's/^[^ ]* std[a-z]* [FP] //' | cut -c 1-400 | sed "s/^/$n: /"
done`

// putOthersBack puts the manifests of before in place where the controller manager or the
// scheduler did not come up beside an apiserver that did. The apiserver's goes back with
// them: all three are of one version again.
func (c Cluster) putOthersBack(ctx context.Context, env plan.Env, cause error) error {
	if ctx.Err() != nil || lost(cause) {
		return cause
	}
	cause = fmt.Errorf("%w%s", cause, lastLines(ctx, env, "read the logs of the controller manager and the scheduler", managersLog))
	env.Say("the manifests of before are put back")
	if _, err := env.Host.Run(ctx, remote.Cmd{Title: "put the old manifests back", Script: putManifestsBack}); err != nil {
		return fmt.Errorf("%w; put the manifests of before back: %w", cause, err)
	}
	return remote.Hint(fmt.Errorf("%w; the manifests of before are back", cause), "no other master was touched; mend what the inventory says of them, then run the same command again")
}
