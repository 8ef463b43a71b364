package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"hactl/internal/plan"
	"hactl/internal/wait"
	"hactl/inventory"
)

const (
	// nodeReadyTimeout bounds how long a node may take to be Ready after its kubelet
	// or its containerd was restarted.
	nodeReadyTimeout = 2 * time.Minute
	// kubeletHealth is where a kubelet says whether it works, on its own host.
	kubeletHealth = "127.0.0.1:10248"
)

// KeepNodeReady adds to a step that restarts a part of a node: the step is done
// only when the kubelet works and the node is Ready again. A node that was not
// Ready before the change is not waited for: the step may be what mends it.
func (c Cluster) KeepNodeReady(h *inventory.Host, control *Control, st plan.Step) plan.Step {
	was := false
	guard, after := st.Guard, st.Ready
	st.Guard = func(ctx context.Context, env plan.Env) error {
		within, cancel := wait.Within(ctx, "an answer about node "+h.Name, askTimeout)
		was, _ = control.nodeReady(within, h.Name)
		cancel()
		if guard == nil {
			return nil
		}
		return guard(ctx, env)
	}
	st.Ready = func(ctx context.Context, env plan.Env) error {
		if after != nil {
			if err := after(ctx, env); err != nil {
				return err
			}
		}
		if !was {
			return nil
		}
		return control.awaitNode(ctx, env, h.Name)
	}
	return st
}

// awaitNode waits until the kubelet of the step's host works and its node is Ready.
func (c *Control) awaitNode(ctx context.Context, env plan.Env, name string) error {
	env.Say("waiting up to %s for node %s to be Ready", wait.Bound(ctx, nodeReadyTimeout), name)
	within, cancel := wait.Within(ctx, "node "+name+" to be Ready", nodeReadyTimeout)
	defer cancel()
	for {
		reason := ""
		if err := kubeletWorks(within, env); err != nil {
			reason = err.Error()
		} else if is, why := c.nodeReady(within, name); is {
			return nil
		} else {
			reason = why
		}
		if pause(within, askEvery); within.Err() != nil {
			return wait.Over(within, errors.New(reason))
		}
	}
}

// nodeReady reports whether the node is Ready, or why it is not.
func (c *Control) nodeReady(ctx context.Context, name string) (is bool, reason string) {
	var nodes map[string]Node
	err := c.Ask(ctx, func(ctx context.Context, api *API) (err error) {
		nodes, err = api.Nodes(ctx)
		return err
	})
	if err != nil {
		return false, err.Error()
	}
	return nodes[name].Ready, nodes[name].Reason
}

// kubeletWorks asks the kubelet of the step's host.
func kubeletWorks(ctx context.Context, env plan.Env) error {
	ctx, cancel := wait.Within(ctx, "an answer of the kubelet", askTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return env.Host.Dial(ctx, network, addr)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+kubeletHealth+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the kubelet whether it works: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		return fmt.Errorf("the kubelet says %s: %q", res.Status, text)
	}
	return nil
}
