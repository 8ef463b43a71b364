package kubeadm

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

const (
	// nodesWait bounds how long nodes that have just joined may take to register.
	nodesWait = 2 * time.Minute
	// namedNodes is how many nodes a summary names, beside those that lose
	// something; a diff has them all.
	namedNodes = 5
)

// Labels returns the step that gives running nodes the labels and taints of the
// inventory: one request for all nodes looks, one for each that differs changes
// it. on is the host that the step is listed under.
//
// An apiserver that does not answer is neither in sync nor an error that stops
// up, which may be about to bring it back: the step is pending, and looks again
// at its turn. What it would remove then must have been in the plan.
func (c Cluster) Labels(on *inventory.Host, nodes []*inventory.Host, control *Control) plan.Step {
	w := labelling{Cluster: c, nodes: nodes, control: control}
	return plan.Step{
		ID: id(on, "labels"), Host: on.Name, Title: "labels and taints of nodes",
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			edits, err := w.look(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				cause, _, _ := strings.Cut(err.Error(), "\n")
				return &plan.Change{Op: plan.Update, Acts: labelActs(nil), Summary: "set labels and taints of nodes " + onceUp, Cause: remote.Clean(cause)}, nil
			}
			return changeOf(edits), nil
		},
		Apply: w.apply,
	}
}

// labelling is one walk over the nodes.
type labelling struct {
	Cluster
	nodes   []*inventory.Host
	control *Control
}

// look reads all nodes and returns what they need, in the order of the hosts.
func (w labelling) look(ctx context.Context) ([]*edit, error) {
	var list struct{ Items []*markedNode }
	err := w.control.Ask(ctx, func(ctx context.Context, api *API) error {
		list.Items = nil
		return api.Get(ctx, nodesPath, &list)
	})
	if err != nil {
		return nil, err
	}
	found := map[string]*markedNode{}
	for _, n := range list.Items {
		found[n.Metadata.Name] = n
	}
	var out []*edit
	for _, h := range w.nodes {
		if e := w.editOf(h, found[h.Name]); e != nil {
			out = append(out, e)
		}
	}
	return out, nil
}

func changeOf(edits []*edit) *plan.Change {
	if len(edits) == 0 {
		return nil
	}
	c := &plan.Change{Op: plan.Update, Acts: labelActs(edits)}
	var names []string
	more := 0
	for i, e := range edits {
		c.Before += e.before.lines(e.node)
		c.After += e.set.lines(e.node)
		if i >= namedNodes && len(e.remove) == 0 {
			more++
			continue
		}
		names = append(names, e.String())
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	c.Summary = strings.Join(names, "; ")
	return c
}

// labelActs are the acts of a change: to set what the inventory says, and each
// removal, one line of the diff.
func labelActs(edits []*edit) []string {
	acts := []string{"set labels and taints"}
	for _, e := range edits {
		for l := range strings.Lines(e.remove.lines(e.node)) {
			acts = append(acts, strings.TrimSuffix(l, "\n"))
		}
	}
	return acts
}

// apply waits for nodes that have just joined and changes what differs. A node
// that was written to since it was read is read again: nothing was
// changed then.
func (w labelling) apply(ctx context.Context, env plan.Env, c *plan.Change) error {
	ctx, cancel := wait.Within(ctx, "nodes to take their labels", nodesWait)
	defer cancel()
	for said := false; ; {
		edits, err := w.look(ctx)
		again := err
		for _, e := range edits {
			if m := e.unplanned(c.Acts); m != "" {
				return fmt.Errorf("%w: %s would be removed, which the plan did not name", plan.ErrChanged, m)
			}
			if e.seen == nil {
				again = fmt.Errorf("%s has not registered", e.node)
				continue
			}
			err := w.patch(ctx, e)
			if err != nil && kubeapi.Final(err) && !kubeapi.Young(err) && !kubeapi.HasStatus(err, http.StatusConflict) {
				return fmt.Errorf("node %s: %w", e.node, err)
			}
			if err != nil {
				again = fmt.Errorf("node %s: %w", e.node, err)
			}
		}
		if again == nil {
			return nil
		}
		if !said {
			env.Say("waiting up to %s for nodes to take their labels: %v", wait.Bound(ctx, nodesWait), again)
			said = true
		}
		select {
		case <-ctx.Done():
			return wait.Over(ctx, again)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w labelling) patch(ctx context.Context, e *edit) error {
	return w.control.Ask(ctx, func(ctx context.Context, api *API) error {
		return api.Patch(ctx, nodesPath+"/"+e.node, e.patch())
	})
}
