package kubeadm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/wait"
	"hactl/inventory"
)

// AwaitVersion makes a step that restarts a kubelet wait until its node says that it has
// the wanted version.
func (c *Control) AwaitVersion(h *inventory.Host, want string, st plan.Step) plan.Step {
	after := st.Ready
	st.Ready = func(ctx context.Context, env plan.Env) error {
		if after != nil {
			if err := after(ctx, env); err != nil {
				return err
			}
		}
		within, cancel := wait.Within(ctx, "node "+h.Name+" to have its new kubelet", nodeReadyTimeout)
		defer cancel()
		for {
			is, err := c.nodeVersion(within, h.Name)
			if err == nil && is == want {
				return nil
			}
			if pause(within, askEvery); within.Err() != nil {
				return errors.Join(wait.Over(within, fmt.Errorf("node %s says that its kubelet is %q, not %s", h.Name, is, want)), err)
			}
		}
	}
	return st
}

func (c *Control) nodeVersion(ctx context.Context, name string) (string, error) {
	nodes, err := c.AskNodes(ctx)
	return nodes[name].Version, err
}

// AskNodes lists the nodes, by whichever apiserver answers.
func (c *Control) AskNodes(ctx context.Context) (nodes map[string]Node, err error) {
	err = c.Ask(ctx, func(ctx context.Context, api *API) (err error) {
		nodes, err = api.Nodes(ctx)
		return err
	})
	return nodes, err
}

// addonsTimeout bounds the phases of kubeadm that Addons runs.
const addonsTimeout = 5 * time.Minute

// Addons returns the step of an upgrade that comes once every apiserver is new: the
// settings in the cluster by which kubeadm works (kubeadm-config, kubelet-config),
// CoreDNS and kube-proxy. kubeadm-config is the last, so that a run that was cut off goes on.
func (c Cluster) Addons(on *inventory.Host, control *Control) plan.Step {
	version := c.Inv.Versions.Kubernetes
	what := "CoreDNS, kube-proxy and kubeadm's settings of " + version
	return plan.Step{
		ID: id(on, "addons"), Host: on.Name, Title: "addons",
		Check: func(ctx context.Context, _ plan.Env) (*plan.Change, error) {
			is, err := control.settings(ctx)
			if err != nil || is.kubeadm == version && is.proxy == version && is.dns == c.Inv.Versions.Set().CoreDNS {
				return nil, err
			}
			return &plan.Change{Op: plan.Update, Summary: what, Acts: []string{what}}, nil
		},
		Apply: func(ctx context.Context, env plan.Env, _ *plan.Change) error {
			_, err := env.Host.Run(ctx, remote.Cmd{
				Title: "kubeadm addons", Timeout: addonsTimeout, Output: func(l string) { env.Say("%s", l) },
				Script: c.SearchPath + `set -e
kubeadm init phase upload-config kubelet --config ` + initFile + `
kubeadm init phase addon all --config ` + initFile + `
kubeadm init phase upload-config kubeadm --config ` + initFile + "\n",
			})
			return err
		},
	}
}

// settings are versions that the cluster itself holds.
type settings struct{ kubeadm, proxy, dns string }

const systemPath = "/api/v1/namespaces/kube-system/"

// settings asks whichever apiserver answers.
func (c *Control) settings(ctx context.Context) (s settings, err error) {
	err = c.Ask(ctx, func(ctx context.Context, api *API) error {
		var conf struct{ Data map[string]string }
		if err := api.Get(ctx, settingsPath, &conf); err != nil {
			return fmt.Errorf("read kubeadm's settings: %w", err)
		}
		for line := range strings.Lines(conf.Data["ClusterConfiguration"]) {
			if v, is := strings.CutPrefix(strings.TrimSpace(line), "kubernetesVersion: "); is {
				s.kubeadm = remote.Clean(v)
			}
		}
		if s.proxy, err = imageTag(ctx, api, "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"); err != nil {
			return err
		}
		s.dns, err = imageTag(ctx, api, "/apis/apps/v1/namespaces/kube-system/deployments/coredns")
		return err
	})
	return s, err
}

// imageTag is the tag of the first container of a workload.
func imageTag(ctx context.Context, api *API, path string) (string, error) {
	var w struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Image string } }
			}
		}
	}
	if err := api.Get(ctx, path, &w); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	for _, c := range w.Spec.Template.Spec.Containers {
		return remote.Clean(c.Image[strings.LastIndexByte(c.Image, ':')+1:]), nil
	}
	return "", nil
}

// Serving are the versions of the control plane's processes on the masters, by host and
// then by component: what each apiserver says of itself, and what the kubelets say of the
// containers of the others. A master whose apiserver is silent is missing one.
func (c Cluster) Serving(ctx context.Context, hosts plan.Hosts, control *Control) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, m := range c.Inv.Masters() {
		out[m.Name] = map[string]string{}
		if hosts[m.Name] == nil {
			continue
		}
		api, err := NewAPI(hosts[m.Name], c.Inv, c.PKI, m.PrivateAddress)
		if err != nil {
			return nil, err
		}
		var v struct{ GitVersion string }
		err = bounded(ctx, api, func(ctx context.Context, api *API) error { return api.Get(ctx, "/version", &v) })
		api.Close()
		if err == nil {
			out[m.Name]["kube-apiserver"] = remote.Clean(v.GitVersion)
		}
	}
	err := control.Ask(ctx, func(ctx context.Context, api *API) error {
		pods, err := controlPlanePods(ctx, api)
		for host, on := range pods {
			for name := range managers {
				if p, is := on[name]; is && p.runs && out[host] != nil {
					out[host][name] = p.version
				}
			}
		}
		return err
	})
	return out, err
}

// BlockedBudgets are the disruption budgets, NAMESPACE/NAME, that allow no pod of theirs to
// be evicted now.
func (c *Control) BlockedBudgets(ctx context.Context) (names []string, err error) {
	var list struct {
		Items []struct {
			Metadata struct{ Namespace, Name string }
			Status   struct{ DisruptionsAllowed, ExpectedPods int }
		}
	}
	err = c.Ask(ctx, func(ctx context.Context, api *API) error {
		return api.Get(ctx, "/apis/policy/v1/poddisruptionbudgets", &list)
	})
	for _, b := range list.Items {
		if b.Status.ExpectedPods > 0 && b.Status.DisruptionsAllowed == 0 {
			names = append(names, remote.Clean(b.Metadata.Namespace+"/"+b.Metadata.Name))
		}
	}
	return names, err
}

// deprecatedForm is a line of an apiserver's metrics about an API that was asked for and is
// deprecated.
var deprecatedForm = regexp.MustCompile(`^apiserver_requested_deprecated_apis\{(.*)\} 1$`)

// RemovedAPIs are the deprecated APIs that clients have asked the apiservers for and that
// are gone in Kubernetes 1.minor.
func (c Cluster) RemovedAPIs(ctx context.Context, hosts plan.Hosts, minor int) ([]string, error) {
	found := map[string]bool{}
	for _, m := range c.Inv.Masters() {
		if hosts[m.Name] == nil {
			continue
		}
		api, err := NewAPI(hosts[m.Name], c.Inv, c.PKI, m.PrivateAddress)
		if err != nil {
			return nil, err
		}
		var text string
		err = bounded(ctx, api, func(ctx context.Context, api *API) error { return api.Get(ctx, "/metrics", &text) })
		api.Close()
		if err != nil {
			return nil, fmt.Errorf("read the metrics of the apiserver of %s: %w", m.Name, err)
		}
		for line := range strings.Lines(text) {
			if name := removedAPI(strings.TrimSpace(line), minor); name != "" {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// removedAPI names the API of a line of metrics, if it is gone in 1.minor.
func removedAPI(line string, minor int) string {
	m := deprecatedForm.FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	labels := map[string]string{}
	for _, l := range strings.Split(m[1], ",") {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = strings.Trim(v, `"`)
	}
	gone, err := strconv.Atoi(strings.TrimPrefix(labels["removed_release"], "1."))
	if err != nil || gone > minor {
		return ""
	}
	return remote.Clean(strings.TrimPrefix(labels["group"]+"/"+labels["version"]+" "+labels["resource"], "/"))
}
