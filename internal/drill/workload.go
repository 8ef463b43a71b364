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
)

// The demo workload: its image is in every bundle and is never pulled.
const (
	demoName     = "hactl-drill-demo"
	demoImage    = "registry.hactl.invalid/demo:v1"
	demoPort     = 8080
	demoReplicas = 10
	demoPath     = "/apis/apps/v1/namespaces/" + namespace + "/deployments"
	podsPath     = namespacePath + "/pods"
	demoReady    = 2 * time.Minute
)

// workload is the demo behind its service.
type workload struct {
	k  *kube
	at string // host:port of the service
}

// deploy makes the demo and waits until all replicas are ready. Pods leave a
// lost node after 5 s instead of the default 300, and may run on masters.
func (w *workload) deploy(ctx context.Context) error {
	labels := object{"app": demoName}
	gone := func(key string) object {
		return object{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
	}
	pod := object{
		"containers": []object{{
			"name": "demo", "image": demoImage, "imagePullPolicy": "Never",
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
	return w.waitReady(ctx)
}

// create asks again for a while: an apiserver whose etcd member has just come
// back answers the first writes with a server error.
func (w *workload) create(ctx context.Context, path string, o object) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := w.k.do(ctx, http.MethodPost, path, o, nil)
		if err == nil || kubeapi.HasStatus(err, http.StatusConflict) { // an interrupted drill left it
			return nil
		}
		var s *kubeapi.StatusError
		if errors.As(err, &s) && s.Code < 500 || !pause(ctx, 500*time.Millisecond) {
			return err
		}
	}
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
	if err := w.k.do(ctx, http.MethodGet, path+"/"+demoName, nil, &svc); err != nil {
		return fmt.Errorf("read the demo service: %w", err)
	}
	w.at = net.JoinHostPort(svc.Spec.ClusterIP, "80")
	return nil
}

func (w *workload) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoReady)
	defer cancel()
	for {
		n, last := w.readyPods(ctx, "")
		if last == nil {
			if n >= demoReplicas {
				return nil
			}
			last = fmt.Errorf("%d of %d are ready", n, demoReplicas)
		}
		if !pause(ctx, time.Second) {
			return remote.Hint(fmt.Errorf("wait %s for the demo replicas: %w", demoReady, last),
				"look at kubectl -n %s get pods; the image %s must be on every node", namespace, demoImage)
		}
	}
}

// readyPods counts the ready pods that are not on the named node.
func (w *workload) readyPods(ctx context.Context, lost string) (int, error) {
	var pods struct {
		Items []struct {
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
	}
	if err := w.k.do(ctx, http.MethodGet, podsPath+"?labelSelector=app="+demoName, nil, &pods); err != nil {
		return 0, fmt.Errorf("list the demo's pods: %w", err)
	}
	n := 0
	for _, p := range pods.Items {
		if p.Metadata.DeletionTimestamp != "" || p.Spec.NodeName == lost {
			continue
		}
		for _, c := range p.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				n++
			}
		}
	}
	return n, nil
}

// watchRescheduled waits until all replicas are ready on other nodes.
func (w *workload) watchRescheduled(ctx context.Context, lost string, zero time.Time) (time.Duration, bool) {
	for ctx.Err() == nil {
		askCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		n, err := w.readyPods(askCtx, lost)
		cancel()
		if err == nil && n >= demoReplicas {
			return time.Since(zero), true
		}
		pause(ctx, 500*time.Millisecond)
	}
	return 0, false
}

// remove takes the demo away.
func (w *workload) remove(ctx context.Context) error {
	var errs []error
	for _, path := range []string{demoPath, namespacePath + "/services"} {
		err := w.k.do(ctx, http.MethodDelete, path+"/"+demoName, object{
			"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
		}, nil)
		if err != nil && !kubeapi.HasStatus(err, http.StatusNotFound) {
			errs = append(errs, fmt.Errorf("remove the demo: %w", err))
		}
	}
	return errors.Join(errs...)
}
