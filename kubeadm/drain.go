package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// DrainTimeout is how long a drain waits for pods to leave by default.
const DrainTimeout = 5 * time.Minute

// drainEvery is the pause between two tries to evict what could not be evicted.
const drainEvery = 200 * time.Millisecond

// pod is what a drain has to know of a pod.
type pod struct {
	Metadata struct {
		Namespace, Name, UID string
		Annotations          map[string]string
		DeletionTimestamp    *time.Time
		OwnerReferences      []struct {
			APIVersion, Kind, Name, UID string
			Controller                  *bool
		}
	}
	Status struct{ Phase string }
}

func (p *pod) name() string { return remote.Clean(p.Metadata.Namespace + "/" + p.Metadata.Name) }

// controller is the kind of the object that would make the pod anew, or "".
func (p *pod) controller() string {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return o.Kind
		}
	}
	return ""
}

// replicated is the path of the controller that says how many of its pods are ready,
// or "".
func (p *pod) replicated() string {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller != nil && *o.Controller && o.APIVersion == "apps/v1" && (o.Kind == "ReplicaSet" || o.Kind == "StatefulSet") {
			return "/apis/apps/v1/namespaces/" + url.PathEscape(p.Metadata.Namespace) + "/" + strings.ToLower(o.Kind) + "s/" + url.PathEscape(o.Name)
		}
	}
	return ""
}

// stays reports whether a drain leaves the pod on its node: it belongs to the node, or
// it has ended.
func (p *pod) stays() bool {
	_, mirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]
	return mirror || p.controller() == "DaemonSet" || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
}

// podsOn lists the pods of a node that a drain moves, and those that only it has and
// no controller would make anew.
func podsOn(ctx context.Context, api *API, node string) (move, alone []pod, err error) {
	var list struct{ Items []pod }
	if err := api.Get(ctx, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+node), &list); err != nil {
		return nil, nil, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	for _, p := range list.Items {
		switch {
		case p.stays():
		case p.controller() == "":
			alone = append(alone, p)
		default:
			move = append(move, p)
		}
	}
	return move, alone, nil
}

func (c *Control) podsOn(ctx context.Context, node string) (move, alone []pod, err error) {
	err = c.Ask(ctx, func(ctx context.Context, api *API) (err error) {
		move, alone, err = podsOn(ctx, api, node)
		return err
	})
	return move, alone, err
}

// Drain returns the step of a [plan.Roll] that evicts the pods of h's node, as far as
// their disruption budgets permit within the time given. Pods of DaemonSets and static
// pods stay, and so do pods without a controller: they start again with the node. due
// says whether the node has to be empty now.
func (c *Control) Drain(h *inventory.Host, within time.Duration, due func(plan.Env) (bool, error)) plan.Step {
	what := "drain the node"
	return plan.Step{
		ID: id(h, "drain"), Host: h.Name, Title: "drain", Then: plan.Then(plan.Do, what, what),
		Check: func(ctx context.Context, env plan.Env) (*plan.Change, error) {
			if is, err := due(env); err != nil || !is {
				return nil, err
			}
			move, _, err := c.podsOn(ctx, h.Name)
			if err != nil || len(move) == 0 {
				return nil, err
			}
			return &plan.Change{Op: plan.Do, Summary: fmt.Sprintf("%s (%d pods)", what, len(move)), Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			return c.drain(ctx, env, h.Name, within)
		},
	}
}

func (c *Control) drain(ctx context.Context, env plan.Env, node string, within time.Duration) error {
	end := time.Now().Add(within)
	said, told := "", map[string]bool{}
	last := map[string]time.Time{} // when a pod of a controller was evicted
	for {
		move, alone, err := c.podsOn(ctx, node)
		if err != nil {
			return err
		}
		for _, p := range alone {
			if !told[p.name()] {
				told[p.name()] = true
				env.Say("%s has no controller: it stays on the node", p.name())
			}
		}
		if len(move) == 0 {
			return nil
		}
		var waits []string
		for i := range move {
			p := &move[i]
			if !c.replaced(ctx, p, last[p.replicated()]) {
				waits = append(waits, "a replacement before "+p.name()+" goes")
				continue
			}
			last[p.replicated()] = time.Now()
			why, err := c.evict(ctx, p)
			if err != nil {
				return err
			}
			waits = append(waits, why)
		}
		slices.Sort(waits)
		text := strings.Join(waits, "; ")
		if !time.Now().Before(end) {
			return remote.Hint(fmt.Errorf("drain node %s (%s): %s", node, within, text),
				"give the named pods room (replicas, PodDisruptionBudget, another node), or more time with --drain-timeout; then run the command again")
		}
		if text != said {
			said = text
			env.Say("waiting up to %s for %s", time.Until(end).Round(time.Second), text)
		}
		if pause(ctx, drainEvery); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// replacementWithin is how long the next pod of a controller waits for the replacement of
// the one before. It is not a promise: a controller that cannot have all its pods does
// not hold the drain up. A disruption budget does.
const replacementWithin = 30 * time.Second

// replaced reports whether the pod may go: of a controller with several pods on the node
// one goes after the other, so that its clients keep those that are ready.
func (c *Control) replaced(ctx context.Context, p *pod, last time.Time) bool {
	path := p.replicated()
	if path == "" || last.IsZero() || p.Metadata.DeletionTimestamp != nil || time.Since(last) > wait.Bound(ctx, replacementWithin) {
		return true
	}
	var owner struct {
		Spec   struct{ Replicas int }
		Status struct{ ReadyReplicas int }
	}
	err := c.Ask(ctx, func(ctx context.Context, api *API) error { return api.Get(ctx, path, &owner) })
	return kubeapi.HasStatus(err, http.StatusNotFound) || err == nil && owner.Status.ReadyReplicas >= owner.Spec.Replicas
}

// evict asks for the eviction of a pod and says what is waited for. What the pod's
// disruption budget does not permit now is no error.
func (c *Control) evict(ctx context.Context, p *pod) (waits string, err error) {
	if p.Metadata.DeletionTimestamp != nil {
		return p.name() + " to end", nil
	}
	path := "/api/v1/namespaces/" + url.PathEscape(p.Metadata.Namespace) + "/pods/" + url.PathEscape(p.Metadata.Name) + "/eviction"
	eviction := map[string]any{"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]any{"namespace": p.Metadata.Namespace, "name": p.Metadata.Name},
		"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": p.Metadata.UID}}}
	var refused *kubeapi.StatusError
	err = c.Ask(ctx, func(ctx context.Context, api *API) error {
		err := api.Do(ctx, http.MethodPost, path, eviction, nil)
		if kubeapi.HasStatus(err, http.StatusTooManyRequests) {
			errors.As(err, &refused)
			return nil
		}
		return err
	})
	switch {
	case kubeapi.HasStatus(err, http.StatusNotFound), kubeapi.HasStatus(err, http.StatusConflict):
		return p.name() + " to end", nil // gone meanwhile; another pod may have its name
	case err != nil:
		return "", fmt.Errorf("evict %s: %w", p.name(), err)
	case refused != nil:
		return fmt.Sprintf("%s (%s)", p.name(), strings.TrimSpace(remote.Clean(refused.Message))), nil
	}
	return p.name() + " to end", nil
}
