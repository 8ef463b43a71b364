//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"hactl/internal/lab"
)

const demoManifest = `apiVersion: apps/v1
kind: Deployment
metadata: { name: NAME }
spec:
  replicas: 2
  selector: { matchLabels: { app: NAME } }
  template:
    metadata: { labels: { app: NAME } }
    spec:
      containers:
        - name: web
          image: registry.hactl.invalid/demo:v1
          imagePullPolicy: Never
          ports: [{ containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /healthz, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: NAME }
spec:
  selector: { app: NAME }
  ports: [{ port: 80, targetPort: 8080 }]
`

// deploy rolls out two replicas of the demo and asks each pod, and the service,
// from a host of the lab.
func (r *rig) deploy(t *testing.T, name, from string) {
	t.Helper()
	eventually(t, name+" applied", func() error {
		_, err := r.kubectl(t, strings.ReplaceAll(demoManifest, "NAME", name), "apply", "-f", "-")
		return err
	})
	eventually(t, name+" has two ready replicas", func() error {
		out, err := r.kubectl(t, "", "get", "deployment", name, "-o", "jsonpath={.status.readyReplicas}")
		if err == nil && out != "2" {
			err = fmt.Errorf("%q ready", out)
		}
		return err
	})
	r.answers(t, name, from)
}

// undeploy removes what deploy made.
func (r *rig) undeploy(t *testing.T, name string) {
	t.Helper()
	r.kubectlDoes(t, "delete", "deployment,service", name, "--ignore-not-found")
}

// answers asks every pod of the demo, and its service, from a host. Pods of
// hosts that came back have new addresses, which the API shows a while later.
func (r *rig) answers(t *testing.T, name, from string) {
	t.Helper()
	eventually(t, "both pods and the service of "+name+" answer", func() error {
		ips, err := r.kubectl(t, "", "get", "pods", "-l", "app="+name, "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].status.podIP}")
		if err != nil {
			return err
		}
		service, err := r.kubectl(t, "", "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
		if err != nil {
			return err
		}
		if n := len(strings.Fields(ips)); n != 2 {
			return fmt.Errorf("%d pods run: %q", n, ips)
		}
		urls := []string{bracketed(service) + ":80"}
		for _, ip := range strings.Fields(ips) {
			urls = append(urls, bracketed(ip)+":8080")
		}
		for _, u := range urls {
			out, err := r.Output(t.Context(), from, "curl --silent --show-error --fail --globoff --max-time 3 http://"+u+"/")
			if err != nil || !strings.HasPrefix(out, "demo v1") {
				return fmt.Errorf("%s says %q: %w", u, out, err)
			}
		}
		return nil
	})
}

func bracketed(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}

// nodesReady asks through the VIP.
func (r *rig) nodesReady(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d nodes Ready through the VIP", want), func() error {
		out, err := r.kubectl(t, "", "get", "nodes", "--no-headers")
		if err != nil {
			return err
		}
		ready := 0
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[1] == "Ready" {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d are:\n%s", ready, out)
		}
		return nil
	})
}

// names of the lab's hosts that have the role.
func (r *rig) names(role string) []string {
	var out []string
	for _, h := range r.Hosts() {
		if h.Role == role {
			out = append(out, h.Name)
		}
	}
	return out
}

// everyHost is all but the bastion.
func (r *rig) everyHost() []string { return append(r.names(lab.Master), r.names(lab.Worker)...) }
