package kubeadm

import (
	"context"
	"net/http"
	"path"
	"strings"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/traffic"
	"hactl/internal/wait"
	"hactl/inventory"
	"hactl/templates"
)

// Where the probe's pods are. See internal/traffic.
const (
	ProbeNamespace = "hactl-system"
	probeName      = "hactl-probe"
	namespacePath  = "/api/v1/namespaces/" + ProbeNamespace
	daemonSetPath  = "/apis/apps/v1/namespaces/" + ProbeNamespace + "/daemonsets/" + probeName
	madeFromMark   = "hactl.io/made-from"
)

// probeObjects are the namespace and the DaemonSet, and what they are made from.
func (c Cluster) probeObjects() (namespace, set []byte, from string, err error) {
	data := map[string]any{
		"Namespace": ProbeNamespace, "Name": probeName, "Image": c.Inv.Versions.Set().PauseImage(),
		"Program": c.NetworkProgram.On(), "SocketDir": path.Dir(traffic.Socket), "MadeFrom": "",
	}
	bare, err := templates.Render("probe.yaml.tmpl", data)
	if err != nil {
		return nil, nil, "", err
	}
	from = plan.Digest(bare)
	data["MadeFrom"] = from
	both, err := templates.Render("probe.yaml.tmpl", data)
	ns, ds, _ := strings.Cut(string(both), "---\n")
	return []byte(ns), []byte(ds), from, err
}

// Probe returns the step that keeps a pod of ours on every node, which status and the
// end of up have try the pod network, the API's service address and DNS. on is the host
// that the step is listed under. The program has to be on all hosts before.
//
// Without an apiserver that answers the step is pending, as [Cluster.Labels] is.
func (c Cluster) Probe(on *inventory.Host, control *Control) (plan.Step, error) {
	namespace, set, from, err := c.probeObjects()
	acts := []string{"make the probe of traffic"}
	change := func(op plan.Op, summary string) *plan.Change {
		return &plan.Change{Op: op, Summary: summary, Acts: acts}
	}
	return plan.Step{
		ID: id(on, "probe"), Host: on.Name, Title: "probe of traffic", Lane: "probe",
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			var have struct {
				Metadata struct{ Annotations map[string]string }
			}
			err := control.Ask(ctx, func(ctx context.Context, api *API) error { return api.Get(ctx, daemonSetPath, &have) })
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case kubeapi.HasStatus(err, http.StatusNotFound):
				return change(plan.Create, "run a pod on every node that tries the pod network, the API's service and DNS"), nil
			case err != nil:
				c := change(plan.Create, "run a pod on every node that tries the pod network, "+onceUp)
				cause, _, _ := strings.Cut(err.Error(), "\n")
				c.Cause = remote.Clean(cause)
				return c, nil
			case have.Metadata.Annotations[madeFromMark] == from:
				return nil, nil
			}
			return change(plan.Update, "update the pod on every node that tries the pod network"), nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			return c.asked(ctx, env, control, "make the probe", func(ctx context.Context, api *API) error {
				if err := api.Apply(ctx, namespacePath, namespace); err != nil {
					return err
				}
				return api.Apply(ctx, daemonSetPath, set)
			})
		},
	}, err
}

// asked asks an apiserver that may just have started until it takes the request.
func (c Cluster) asked(ctx context.Context, env plan.Env, control *Control, what string, f func(context.Context, *API) error) error {
	within, cancel := wait.Within(ctx, "an apiserver to "+what, onceWait)
	defer cancel()
	for said := false; ; said = true {
		err := control.Ask(within, f)
		if err == nil || kubeapi.Final(err) && !kubeapi.Young(err) {
			return err
		}
		if !said {
			env.Say("waiting up to %s for an apiserver", wait.Bound(ctx, onceWait))
		}
		if pause(within, askEvery); within.Err() != nil {
			return wait.Over(within, err)
		}
	}
}

// ProbePod is the probe of one node.
type ProbePod struct {
	Node, Address string
	Running       bool
	Reason        string // why it does not run
}

// ProbePods lists the probes by node; none when the cluster has no probe.
func (a *API) ProbePods(ctx context.Context) (map[string]ProbePod, error) {
	var list struct {
		Items []struct {
			Metadata struct{ DeletionTimestamp string }
			Spec     struct{ NodeName string }
			Status   struct {
				Phase, PodIP, Reason, Message string
				ContainerStatuses             []struct {
					State struct {
						Running    *struct{}
						Waiting    struct{ Reason, Message string }
						Terminated struct{ Reason, Message string }
					}
				}
			}
		}
	}
	if err := a.Get(ctx, "/api/v1/namespaces/"+ProbeNamespace+"/pods?labelSelector=app%3D"+probeName, &list); err != nil {
		return nil, err
	}
	out := map[string]ProbePod{}
	for _, i := range list.Items {
		p := ProbePod{Node: i.Spec.NodeName, Address: i.Status.PodIP}
		p.Reason = strings.TrimSuffix(i.Status.Phase+": "+i.Status.Reason+" "+i.Status.Message, ":  ")
		for _, s := range i.Status.ContainerStatuses {
			p.Running = s.State.Running != nil
			for _, why := range []struct{ Reason, Message string }{s.State.Waiting, s.State.Terminated} {
				if why.Reason != "" {
					p.Reason = strings.TrimSuffix(why.Reason+": "+why.Message, ": ")
				}
			}
		}
		p.Running = p.Running && p.Address != "" && i.Metadata.DeletionTimestamp == ""
		if p.Running || !out[p.Node].Running {
			p.Reason = remote.Clean(p.Reason)
			out[p.Node] = p
		}
	}
	return out, nil
}
