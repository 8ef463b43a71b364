//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hactl/internal/ui"
)

// drifts are changes made by hand on a master of a running cluster, and the
// step that has to name each. All are undone by one hactl up.
var drifts = []struct{ what, script, step string }{
	{"a file edited", "echo '# by hand' >>/etc/sysctl.d/90-hactl.conf", "host/%s/sysctl-file"},
	{"a mode changed", "chmod 644 /etc/kubernetes/pki/ca.key", "kubeadm/%s/ca-key"},
	{"a file removed", "rm /etc/containerd/config.toml", "host/%s/containerd-config"},
	{"a unit disabled", "systemctl disable --quiet containerd.service", "host/%s/containerd"},
	{"a binary replaced", "cp /usr/local/bin/etcdctl /root/x && echo >>/root/x && mv /root/x /usr/local/bin/etcdctl", "host/%s/binary-etcdctl"},
	{"a certificate swapped", "cat /etc/etcd/pki/server.crt >/etc/kubernetes/pki/apiserver-etcd-client.crt", "kubeadm/%s/etcd-client-cert"},
	{"a sysctl reset", "echo 0 >/proc/sys/net/ipv4/ip_forward", "host/%s/sysctls"},
	{"an image removed", "ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q | grep demo:v1)", "host/%s/addon-images"},
	// The files are as they should be, the process is older than they are.
	{"a process with an older configuration", `d=/etc/systemd/system/keepalived.service.d/hactl.conf; cp -p $d /root/d
sed -i 's/HACTL_CONFIG=.*/HACTL_CONFIG=older/' $d && systemctl daemon-reload && systemctl restart keepalived && cp -p /root/d $d`, "keepalived/%s/service"},
	// After that one, which starts the prober along with keepalived.
	{"a unit stopped", "systemctl stop hactl-prober.service", "keepalived/%s/prober-service"},
}

// everyDrift puts all of it on one master, finds every part in the plan and
// nothing else, and has it undone.
func (r *rig) everyDrift(t *testing.T) {
	const on = "master-2"
	want := map[string]string{}
	for _, d := range drifts {
		labOutput(t, r.Lab, on, d.script)
		want[fmt.Sprintf(d.step, on)] = d.what
	}
	for id, item := range r.pending(t) {
		what, ok := want[id]
		if !ok {
			t.Errorf("the plan names %s (%s), which nobody touched", id, item.Summary)
			continue
		}
		t.Logf("%s: %s", what, item.Summary)
		delete(want, id)
	}
	for id, what := range want {
		t.Errorf("%s: %s is not in the plan", what, id)
	}
	r.must(t, 0, "up", "--yes")
	r.inSync(t)
	t.Logf("kinds of drift tried: %d", len(drifts))
}

// labelsEdited changes a worker's labels and taints in the inventory of a
// running cluster, and takes a label away by hand.
func (r *rig) labelsEdited(t *testing.T) {
	const on, step = "worker-1", "kubeadm/master-1/labels"
	was := r.inv
	defer func() { r.inv = was }()
	edit := func(lines string) {
		r.inventory(t, "inventory.yaml", func(s string) string {
			head, list, _ := strings.Cut(s, "  - name: "+on+"\n")
			return head + "  - name: " + on + "\n" + lines + list
		})
	}
	// follows asks for the plan to name exactly that, for up to do it and for
	// kubectl to show it.
	follows := func(summary, labels, taints string) {
		t.Helper()
		items := r.pending(t)
		if i := items[step]; len(items) != 1 || i.Summary != on+": "+summary {
			t.Errorf("%+v, want %s", items, summary)
		}
		r.must(t, 0, "up", "--yes")
		out, err := r.kubectl(t, "", "get", "node", on, "-o", `jsonpath={.metadata.labels.disk},{.metadata.labels.team} {.spec.taints[*].key}`)
		if err != nil || out != labels+" "+taints {
			t.Errorf("the node has %q, %v", out, err)
		}
		r.inSync(t)
	}
	if _, err := r.kubectl(t, "", "label", "node", on, "team=theirs"); err != nil {
		t.Fatal(err)
	}
	r.inSync(t)
	edit("    labels: {disk: ssd}\n    taints: [{key: dedicated, value: x, effect: PreferNoSchedule}]\n")
	follows("label disk=ssd, taint dedicated=x:PreferNoSchedule", "ssd,theirs", "dedicated")
	if _, err := r.kubectl(t, "", "label", "node", on, "disk-"); err != nil {
		t.Fatal(err)
	}
	follows("label disk=ssd", "ssd,theirs", "dedicated")
	edit("    labels: {disk: hdd}\n")
	follows(`label disk=hdd in place of "ssd", remove taint dedicated=x:PreferNoSchedule`, "hdd,theirs", "")
	edit("")
	follows("remove label disk=hdd", ",theirs", "")
	if _, err := r.kubectl(t, "", "label", "node", on, "team-"); err != nil {
		t.Fatal(err)
	}
}

// pending is a plan that is not empty, by step.
func (r *rig) pending(t *testing.T) map[string]ui.PlanItem {
	t.Helper()
	res := r.must(t, 2, "plan", "-o", "json")
	var doc struct{ Items []ui.PlanItem }
	if err := json.Unmarshal([]byte(res.out), &doc); err != nil {
		t.Fatalf("%v: %s", err, res)
	}
	out := map[string]ui.PlanItem{}
	for _, i := range doc.Items {
		out[string(i.ID)] = i
	}
	return out
}

// packageRemoved takes a package from a host, which has no way to fetch it
// again: the plan has to name it. Then it is put back by hand.
func (r *rig) packageRemoved(t *testing.T) {
	const on, name = "master-3", "socat"
	labOutput(t, r.Lab, on, "tar -cf /root/package.tar /var/lib/dpkg/status $(dpkg -L "+name+" | while read -r f; do [ -d $f ] || echo $f; done) /var/lib/dpkg/info/"+name+".* 2>/dev/null && dpkg --remove --force-depends "+name)
	items := r.pending(t)
	if i := items["host/"+on+"/packages"]; len(items) != 1 || !strings.Contains(i.Summary, name) {
		t.Errorf("%+v", items)
	}
	labOutput(t, r.Lab, on, "tar -xf /root/package.tar -C /")
	r.inSync(t)
}

// foreignCA puts another CA in the place of the cluster's: up must not replace
// it, nor issue anything of its own over it.
func (r *rig) foreignCA(t *testing.T) {
	const on = "master-3"
	labOutput(t, r.Lab, on, "cp -p /etc/kubernetes/pki/ca.crt /root/ca && cat /etc/etcd/pki/ca.crt >/etc/kubernetes/pki/ca.crt")
	before := r.touched(t, on)
	res := r.hactl(t, "up", "--yes")
	if res.code == 0 || !strings.Contains(res.err, "kubeadm/"+on+"/ca-cert") || !strings.Contains(res.err, "hint:") {
		t.Errorf("%s", res)
	}
	if r.touched(t, on) != before {
		t.Error("the host was changed")
	}
	labOutput(t, r.Lab, on, "cp -p /root/ca /etc/kubernetes/pki/ca.crt")
	r.inSync(t)
}
