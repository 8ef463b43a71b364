package kubeadm

import (
	"context"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// controlPlane are the processes of the static pods, by the name that the kernel keeps.
const controlPlane = "kube-apiserver kube-controller kube-scheduler"

// StopControlPlane returns the step that stops a master's kubelet, its control plane
// and keepalived, while etcd's data is exchanged below them.
func (c Cluster) StopControlPlane(h *inventory.Host) plan.Step {
	return plan.Script{
		ID: id(h, "stop"), Host: h.Name, Title: "control plane", Op: plan.Do, Timeout: 3 * time.Minute,
		Look: `r=; for n in ` + controlPlane + `; do none_runs $n || r="$r $n"; done
for u in kubelet keepalived; do is_running $u.service && r="$r $u"; done
[ -z "$r" ] && echo ok || echo "running:$r"`,
		Summary: "stop the kubelet, the control plane and keepalived",
		Run: `for u in kubelet keepalived; do systemctl stop $u.service 2>/dev/null; done
for n in ` + controlPlane + `; do for p in $(pids_of $n); do kill -TERM "$p" 2>/dev/null; done; done
wait_until 10 "" none_runs ` + controlPlane + ` 2>/dev/null && exit
for n in ` + controlPlane + `; do for p in $(pids_of $n); do kill -9 "$p" 2>/dev/null; done; done
wait_until 50 "the killed control plane did not end" none_runs ` + controlPlane,
		Acts: func(string) []string { return []string{"stop"} },
	}.Step()
}

// StartControlPlane returns the step that starts again what StopControlPlane stopped, on
// a master that kubeadm has made, and waits for its apiserver.
func (c Cluster) StartControlPlane(h *inventory.Host) plan.Step {
	st := plan.Script{
		ID: id(h, "start"), Host: h.Name, Title: "control plane", Op: plan.Start, Timeout: time.Minute,
		Look: `[ -e ` + markerFile + ` ] || { echo ok; exit 0; }
r=; for u in kubelet keepalived; do is_running $u.service || r="$r $u"; done
[ -z "$r" ] && echo ok || echo "stopped:$r"`,
		Summary: "start keepalived, the kubelet and the control plane",
		Run:     "systemctl start keepalived.service && systemctl start kubelet.service",
		Acts:    func(string) []string { return []string{"start"} },
	}.Step()
	st.Ready = func(ctx context.Context, env plan.Env) error {
		return c.awaitAPI(ctx, env, h, apiserverTimeout, isReady)
	}
	return st
}

// restoredFile on a worker names the generation that its kubelet was started for.
const restoredFile = "/var/lib/hactl/restored"

// RestartKubelet returns the step that starts a worker's kubelet again after a restore:
// what it knows of its pods may be newer than what the cluster knows.
func (c Cluster) RestartKubelet(h *inventory.Host) plan.Step {
	token := remote.Quote(c.PKI.Identity.Token())
	return plan.Script{
		ID: id(h, "restart"), Host: h.Name, Title: "kubelet", Op: plan.Restart, Timeout: 2 * time.Minute,
		Look: `[ -s ` + kubeDir + `/kubelet.conf ] || { echo ok; exit 0; }
[ "$(cat ` + restoredFile + ` 2>/dev/null)" = ` + token + ` ] && echo ok || echo "started before the restore"`,
		Summary: "restart the kubelet",
		Run:     "systemctl restart kubelet.service && mkdir -p /var/lib/hactl && printf '%s\\n' " + token + " >" + restoredFile,
	}.Step()
}
