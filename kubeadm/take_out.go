package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/inventory"
)

// Annotations on a node that hactl has taken out of service.
const (
	// outAnnotation holds the operation that took the node out.
	outAnnotation = "hactl.io/taken-out"
	// cordonedAnnotation says that hactl cordoned the node, and not an operator: only
	// then hactl uncordons it.
	cordonedAnnotation = "hactl.io/cordoned"
)

// service is whether a node may get pods.
type service struct {
	exists, out, ours, unschedulable bool
}

func nodePath(name string) string { return nodesPath + "/" + name }

// serviceOf asks for the node of that name.
func serviceOf(ctx context.Context, api *API, name string) (service, error) {
	var n struct {
		Metadata struct{ Annotations map[string]string }
		Spec     struct{ Unschedulable bool }
	}
	err := api.Get(ctx, nodePath(name), &n)
	if kubeapi.HasStatus(err, http.StatusNotFound) {
		return service{}, nil
	}
	_, out := n.Metadata.Annotations[outAnnotation]
	_, ours := n.Metadata.Annotations[cordonedAnnotation]
	return service{exists: true, out: out, ours: ours, unschedulable: n.Spec.Unschedulable}, err
}

// serviceOf asks whichever apiserver answers.
func (c *Control) serviceOf(ctx context.Context, name string) (s service, err error) {
	err = c.Ask(ctx, func(ctx context.Context, api *API) (err error) {
		s, err = serviceOf(ctx, api, name)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("ask for node %s: %w", name, err)
	}
	return s, nil
}

func (c *Control) patchNode(ctx context.Context, name string, patch any) error {
	err := c.Ask(ctx, func(ctx context.Context, api *API) error { return api.Patch(ctx, nodePath(name), patch) })
	if err != nil {
		return fmt.Errorf("change node %s: %w", name, err)
	}
	return nil
}

// Cordon returns the step of a [plan.Roll] that keeps new pods off the node of h and
// marks it as taken out by the operation. A node that an operator cordoned stays his:
// [Control.Uncordon] leaves it as it was.
func (c *Control) Cordon(h *inventory.Host, operation string) plan.Step {
	what := "cordon the node"
	return plan.Step{
		ID: id(h, "cordon"), Host: h.Name, Title: "cordon", Then: plan.Then(plan.Update, what, what),
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			s, err := c.serviceOf(ctx, h.Name)
			if err != nil || !s.exists || s.out {
				return nil, err
			}
			return &plan.Change{Op: plan.Update, Summary: what, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			s, err := c.serviceOf(ctx, h.Name)
			if err != nil {
				return err
			}
			marks := map[string]any{outAnnotation: operation}
			spec := map[string]any{}
			if s.unschedulable {
				env.Say("node %s is cordoned already, and stays so", h.Name)
			} else {
				marks[cordonedAnnotation], spec["unschedulable"] = "true", true
			}
			return c.patchNode(ctx, h.Name, map[string]any{"metadata": map[string]any{"annotations": marks}, "spec": spec})
		},
	}
}

// Uncordon returns the step of a [plan.Roll] that gives the node of h back, once its
// kubelet works and the node is Ready. Only what hactl cordoned is uncordoned. The step
// is due as soon as the node is marked, so that the roll knows that the host is out.
func (c *Control) Uncordon(h *inventory.Host) plan.Step {
	what := "wait until the node is Ready, and uncordon it"
	return plan.Step{
		ID: id(h, "uncordon"), Host: h.Name, Title: "uncordon", Then: plan.Then(plan.Update, what, what),
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			s, err := c.serviceOf(ctx, h.Name)
			if err != nil || !s.out {
				return nil, err
			}
			return &plan.Change{Op: plan.Update, Summary: what, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			if err := c.awaitNode(ctx, env, h.Name); err != nil {
				return err
			}
			s, err := c.serviceOf(ctx, h.Name)
			if err != nil {
				return err
			}
			spec := map[string]any{}
			if s.ours {
				spec["unschedulable"] = nil
			}
			return c.patchNode(ctx, h.Name, map[string]any{"spec": spec,
				"metadata": map[string]any{"annotations": map[string]any{outAnnotation: nil, cordonedAnnotation: nil}}})
		},
	}
}

// DeleteNode returns a step, run on the host of via, that deletes the Node of that name, and
// the pods that it had.
func (c *Control) DeleteNode(via *inventory.Host, name string) plan.Step {
	what := "delete node " + name
	return plan.Step{
		ID: plan.ID("kubeadm/" + name + "/node"), Host: via.Name, Title: "node",
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			s, err := c.serviceOf(ctx, name)
			if err != nil || !s.exists {
				return nil, err
			}
			return &plan.Change{Op: plan.Delete, Summary: what}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			err := c.Ask(ctx, func(ctx context.Context, api *API) error {
				return api.Do(ctx, http.MethodDelete, nodePath(name), nil, nil)
			})
			if err != nil && !kubeapi.HasStatus(err, http.StatusNotFound) {
				return fmt.Errorf("%s: %w", what, err)
			}
			if err := c.forgetPods(ctx, name); err != nil {
				env.Say("the control plane deletes the pods of %s within a minute: %v", name, err)
			}
			return nil
		},
	}
}

// forgetPods deletes the pods of a node that is gone, those that a controller makes anew
// elsewhere. The control plane does so itself, but only after 40 to 60 s, and until then a
// service sends requests to them: half of the questions to the cluster's DNS were lost after
// a master with one of its two pods had died. Pods of a StatefulSet are left to the control
// plane: two with one name must never run.
func (c *Control) forgetPods(ctx context.Context, node string) error {
	var move []pod
	err := c.Ask(ctx, func(ctx context.Context, api *API) (err error) {
		move, _, err = podsOn(ctx, api, node)
		return err
	})
	for i := range move {
		if move[i].controller() == "StatefulSet" {
			continue
		}
		m := &move[i].Metadata
		path := "/api/v1/namespaces/" + url.PathEscape(m.Namespace) + "/pods/" + url.PathEscape(m.Name)
		gone := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": map[string]any{"uid": m.UID}}
		one := c.Ask(ctx, func(ctx context.Context, api *API) error { return api.Do(ctx, http.MethodDelete, path, gone, nil) })
		if !kubeapi.HasStatus(one, http.StatusNotFound) && !kubeapi.HasStatus(one, http.StatusConflict) { // gone, or another one has its name
			err = errors.Join(err, one)
		}
	}
	return err
}

// apiserverStops bounds how long an apiserver may take to end, in seconds: it serves on for 5 s
// and then ends its watches.
const apiserverStops = 60

// StopAPIServer returns the script that stops the kubelet, which would start it
// again, and ends the apiserver gracefully. Both start again when the host boots.
// look prints "ok" when no apiserver runs.
func StopAPIServer() (look, run string) {
	look = `none_runs kube-apiserver && echo ok || echo "it runs"`
	run = fmt.Sprintf(`set -e
systemctl stop kubelet
for p in $(pids_of kube-apiserver); do kill -TERM "$p" 2>/dev/null || :; done
wait_until %d "the apiserver did not end" none_runs kube-apiserver
`, apiserverStops)
	return look, run
}
