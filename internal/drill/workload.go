package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"hactl/internal/kubeapi"
	"hactl/internal/remote"
	"hactl/internal/wait"
)

// The demo workload: its image is in the bundle and is never pulled.
const (
	demoName     = "hactl-drill-demo"
	demoPort     = 8080
	demoReplicas = 10
	demoPath     = "/apis/apps/v1/namespaces/" + namespace + "/deployments"
	podsPath     = namespacePath + "/pods"
	demoReady    = 2 * time.Minute
)

// workload is the demo behind its service.
type workload struct {
	k     *kube
	image string
	at    string // host:port of the service
}

// deploy makes the demo and waits until all replicas are ready, at least one of
// them on the node that is about to be lost. Pods leave a lost node after 5 s
// instead of the default 300, and may run on masters.
func (w *workload) deploy(ctx context.Context, victim string) error {
	labels := object{"app": demoName}
	gone := func(key string) object {
		return object{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
	}
	pod := object{
		"containers": []object{{
			"name": "demo", "image": w.image, "imagePullPolicy": "Never",
			"ports":          []object{{"containerPort": demoPort}},
			"readinessProbe": object{"httpGet": object{"path": "/", "port": demoPort}, "periodSeconds": 1},
		}},
		"terminationGracePeriodSeconds": 1,
		"tolerations": []object{
			{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
			gone("node.kubernetes.io/unreachable"), gone("node.kubernetes.io/not-ready"),
		},
		"topologySpreadConstraints": []object{{
			"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
			"labelSelector": object{"matchLabels": labels},
		}},
	}
	err := w.create(ctx, demoPath, object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": demoName},
		"spec": object{
			"replicas": demoReplicas, "selector": object{"matchLabels": labels},
			"template": object{"metadata": object{"labels": labels}, "spec": pod},
		},
	})
	if err != nil {
		return fmt.Errorf("make the demo deployment: %w", err)
	}
	if err := w.expose(ctx, labels); err != nil {
		return err
	}
	ready, err := w.waitReady(ctx)
	if err == nil && ready[victim] == 0 {
		err = w.keptOff(ctx, victim)
	}
	return err
}

// keptOff is the error of a node that has none of the replicas: without one its
// loss tests nothing. What keeps them away is one of its taints, of which a
// cordon is one.
func (w *workload) keptOff(ctx context.Context, node string) error {
	var n struct {
		Spec struct {
			Taints []struct{ Key, Effect string }
		}
	}
	if err := w.k.do(ctx, http.MethodGet, "/api/v1/nodes/"+node, nil, &n); err != nil {
		return fmt.Errorf("none of the demo's replicas is on %s; look at the node: %w", node, err)
	}
	taints := []string{}
	for _, t := range n.Spec.Taints {
		taints = append(taints, t.Key+":"+t.Effect)
	}
	return remote.Hint(fmt.Errorf("none of the demo's %d replicas is on %s: its loss would test nothing", demoReplicas, node),
		"its taints are %q; take them away with kubectl uncordon %s or kubectl taint node %s KEY-", taints, node, node)
}

// create makes what is not there.
func (w *workload) create(ctx context.Context, path string, o object) error {
	err := insist(ctx, func(ctx context.Context) error { return w.k.do(ctx, http.MethodPost, path, o, nil) })
	if kubeapi.HasStatus(err, http.StatusConflict) { // made by a try whose answer was lost
		return nil
	}
	return err
}

func (w *workload) expose(ctx context.Context, labels object) error {
	path := namespacePath + "/services"
	err := w.create(ctx, path, object{
		"apiVersion": "v1", "kind": "Service", "metadata": object{"name": demoName},
		"spec": object{"selector": labels, "ports": []object{{"port": 80, "targetPort": demoPort}}},
	})
	if err != nil {
		return fmt.Errorf("make the demo service: %w", err)
	}
	var svc struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
		}
	}
	err = insist(ctx, func(ctx context.Context) error { return w.k.do(ctx, http.MethodGet, path+"/"+demoName, nil, &svc) })
	if err != nil {
		return fmt.Errorf("read the demo service: %w", err)
	}
	w.at = net.JoinHostPort(svc.Spec.ClusterIP, "80")
	return nil
}

// waitReady waits for all replicas and returns how many are ready on each node.
func (w *workload) waitReady(ctx context.Context) (map[string]int, error) {
	ctx, cancel := wait.Within(ctx, "the demo replicas", demoReady)
	defer cancel()
	for {
		ready, last := w.readyPods(ctx)
		if last == nil {
			n := elsewhere(ready, "")
			if n >= demoReplicas {
				return ready, nil
			}
			last = fmt.Errorf("%d of %d are ready", n, demoReplicas)
		}
		if !pause(ctx, time.Second) {
			return nil, remote.Hint(wait.Over(ctx, last),
				"look at kubectl -n %s get pods; the image %s must be on every node: artifacts.demo in the inventory", namespace, w.image)
		}
	}
}

// elsewhere counts the ready pods that are not on the named node.
func elsewhere(ready map[string]int, lost string) int {
	n := 0
	for node, pods := range ready {
		if node != lost {
			n += pods
		}
	}
	return n
}

// demoPod is the part of a pod that a drill reads.
type demoPod struct {
	Metadata struct {
		DeletionTimestamp string `json:"deletionTimestamp"`
	}
	Spec struct {
		NodeName string `json:"nodeName"`
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

func (w *workload) pods(ctx context.Context) ([]demoPod, error) {
	var list struct{ Items []demoPod }
	if err := w.k.do(ctx, http.MethodGet, podsPath+"?labelSelector=app="+demoName, nil, &list); err != nil {
		return nil, fmt.Errorf("list the demo's pods: %w", err)
	}
	return list.Items, nil
}

// readyPods counts the ready pods of each node.
func (w *workload) readyPods(ctx context.Context) (map[string]int, error) {
	pods, err := w.pods(ctx)
	if err != nil {
		return nil, err
	}
	ready := map[string]int{}
	for _, p := range pods {
		if p.Metadata.DeletionTimestamp != "" {
			continue
		}
		for _, c := range p.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				ready[p.Spec.NodeName]++
			}
		}
	}
	return ready, nil
}

// watchRescheduled waits until all replicas are ready on other nodes.
func (w *workload) watchRescheduled(ctx context.Context, lost string, zero time.Time) (time.Duration, bool) {
	for ctx.Err() == nil {
		askCtx, cancel := wait.Within(ctx, "an answer of an apiserver", 5*time.Second)
		ready, err := w.readyPods(askCtx)
		cancel()
		if err == nil && elsewhere(ready, lost) >= demoReplicas {
			return time.Since(zero), true
		}
		pause(ctx, 500*time.Millisecond)
	}
	return 0, false
}

// clear takes away what a drill left behind, and waits until no pod of it is there:
// pods of an earlier run, wherever they went, are no replicas of this one.
func (w *workload) clear(ctx context.Context) error {
	if err := w.remove(ctx); err != nil {
		return err
	}
	ctx, cancel := wait.Within(ctx, "the demo pods of an earlier drill to go", demoReady)
	defer cancel()
	for {
		pods, err := w.pods(ctx)
		if err == nil && len(pods) == 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%d are there", len(pods))
		}
		if !pause(ctx, time.Second) {
			return remote.Hint(wait.Over(ctx, err), "look at kubectl -n %s get pods", namespace)
		}
	}
}

// remove takes the demo away.
func (w *workload) remove(ctx context.Context) error {
	var errs []error
	for _, path := range []string{demoPath, namespacePath + "/services"} {
		err := insist(ctx, func(ctx context.Context) error {
			return w.k.do(ctx, http.MethodDelete, path+"/"+demoName, object{
				"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
			}, nil)
		})
		if err != nil && !kubeapi.HasStatus(err, http.StatusNotFound) {
			errs = append(errs, fmt.Errorf("remove the demo: %w", err))
		}
	}
	return errors.Join(errs...)
}
