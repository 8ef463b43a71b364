package host

import (
	"context"
	"strings"

	"hactl/internal/others"
	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// OthersStep returns the step that comes before all others on a host: it refuses while
// something there belongs to others, and makes room for what was permitted. A host
// that hactl has set up has no such step: there, other content of hactl's own files is
// drift.
func (h Host) OthersStep() []plan.Step {
	if h.Facts.Record.Cluster != "" {
		return nil
	}
	question := AskOthers(h.Inv, h.Host).Question()
	look := func(env plan.Env) (allowed []others.Thing, err error) {
		found, err := plan.Answered(env, question)
		if err != nil {
			return nil, err
		}
		allowed, refused := found.Split(h.TakeOver)
		return allowed, others.Refusal(refused)
	}
	return []plan.Step{{
		ID: h.id("others"), Host: h.Host.Name, Title: "what belongs to others",
		Look: []plan.Look{plan.LookFor(question)},
		Check: func(_ context.Context, env plan.Env) (*plan.Change, error) {
			allowed, err := look(env)
			if words := clearable(allowed); err == nil && len(words) > 0 {
				return &plan.Change{Op: plan.Do, Summary: "make room, as permitted: " + strings.Join(words, ", "), Acts: words}, nil
			}
			return nil, err
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			allowed, err := look(env)
			if err != nil {
				return err
			}
			_, err = env.Host.Run(ctx, remote.Cmd{Title: "make room", Script: clearScript(allowed)})
			return err
		},
	}}
}

// AskOthers is what is looked for on a host.
func AskOthers(inv *inventory.Inventory, h *inventory.Host) others.Ask {
	a := others.Ask{Master: h.Role == inventory.ControlPlane, DataDir: inv.Etcd.DataDir}
	if inv.Network.Preset != "none" {
		a.CNI = "10-hactl.conflist"
	}
	return a
}

func clearable(things []others.Thing) (words []string) {
	for _, t := range things {
		if t.Clear != nil {
			words = append(words, t.Word())
		}
	}
	return words
}

func clearScript(things []others.Thing) string {
	lines := []string{"set -e"}
	for _, t := range things {
		if t.Clear != nil {
			lines = append(lines, t.Clear(t.Name))
		}
	}
	return strings.Join(lines, "\n")
}
