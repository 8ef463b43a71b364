package kubeadm

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// settingsPath is the last thing that is written of what a cluster has once (phase
// upload-config of kubeadm init). kubeadm join and upgrade need it, so it
// stays.
const settingsPath = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"

// onceWait bounds how long [Cluster.Once] waits for an apiserver that answers.
const onceWait = time.Minute

// Once returns the step that makes what a cluster has once: kubeadm's settings,
// what workers find it by, kube-proxy and CoreDNS. The first master's [Cluster.Init]
// does; where that host was lost on the way and up goes on without it, the next one
// has initialised already, and this step finds them missing. It is left alone in
// a cluster that has kubeadm's settings. on is a master.
//
// Without an apiserver that answers the step is pending, as [Cluster.Labels] is.
func (c Cluster) Once(on *inventory.Host, control *Control) plan.Step {
	made := func(ctx context.Context) (bool, error) {
		var settings struct{}
		err := control.Ask(ctx, func(ctx context.Context, api *API) error { return api.Get(ctx, settingsPath, &settings) })
		if kubeapi.HasStatus(err, http.StatusNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	const what = "kubeadm's settings, kube-proxy and CoreDNS"
	acts := []string{"make " + what} // the summary holds the reason for which no apiserver answered
	return plan.Step{
		ID: id(on, "once"), Host: on.Name, Title: "what the cluster has once",
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			there, err := made(ctx)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				cause, _, _ := strings.Cut(err.Error(), "\n")
				return &plan.Change{Op: plan.Create, Summary: "make " + what + " where they are missing, " + onceUp, Cause: remote.Clean(cause), Acts: acts}, nil
			case there:
				return nil, nil
			}
			return &plan.Change{Op: plan.Create, Summary: "make " + what, Acts: acts}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			there, err := made(ctx)
			end := time.Now().Add(wait.Bound(ctx, cmp.Or(c.patience, onceWait)))
			for ; err != nil && (!kubeapi.Final(err) || kubeapi.Young(err)) && ctx.Err() == nil && time.Now().Before(end); there, err = made(ctx) {
				time.Sleep(200 * time.Millisecond)
			}
			if err != nil || there {
				return err
			}
			return c.run(ctx, env, "set -e\n"+initPhases(toCluster, addons)+"\n"+initPhases(toSettings))
		},
	}
}
