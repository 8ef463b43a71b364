//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hactl/internal/lab"
	"hactl/internal/ui"
)

// drifts are changes made by hand on a master of a running cluster, and the
// step that has to name each. All are undone by one hactl up.
var drifts = []struct{ what, script, step string }{
	{"a file edited", "echo '# by hand' >>/etc/sysctl.d/90-hactl.conf", "host/%s/sysctl-file"},
	{"a mode changed", "chmod 644 /etc/kubernetes/pki/ca.key", "kubeadm/%s/ca-key"},
	{"a file removed", "rm /etc/containerd/config.toml", "host/%s/containerd-config"},
	{"a unit disabled", "systemctl disable --quiet containerd.service", "host/%s/containerd"},
	{"a binary replaced", "f=$(readlink -f /usr/local/bin/etcdctl); cp $f /root/x && echo >>/root/x && mv /root/x $f", "host/%s/binary-etcdctl"},
	{"a program's name taken", "rm /usr/local/bin/etcdutl && echo by hand >/usr/local/bin/etcdutl", "host/%s/links"},
	{"a certificate swapped", "cat /etc/etcd/pki/server.crt >/etc/kubernetes/pki/apiserver-etcd-client.crt", "kubeadm/%s/etcd-client-cert"},
	{"a sysctl reset", "echo 0 >/proc/sys/net/ipv4/ip_forward", "host/%s/sysctls"},
	{"an image removed", "ctr -n k8s.io images rm $(ctr -n k8s.io images ls -q | grep coredns)", "host/%s/other-images"},
	// The files are as they should be, the process is older than they are.
	{"a process with an older configuration", slowFork + `u=/etc/systemd/system/kubelet.service; cp -p $u /root/u
sed -i 's/HACTL_CONFIG=.*/HACTL_CONFIG=older/' $u && systemctl daemon-reload && systemctl restart kubelet && cp -p /root/u $u`, "kubeadm/%s/kubelet"},
	{"a process with a configuration that was put back", `c=/etc/keepalived/keepalived.conf; cp -p $c /root/c
echo '# by hand' >>$c && systemctl restart keepalived && cp -p /root/c $c`, "keepalived/%s/service"},
	{"a unit edited and its service restarted", `sed -i 's/^\(  --quota-backend-bytes=\).* /\13000000000 /' /etc/systemd/system/etcd.service && systemctl daemon-reload && systemctl restart etcd`, "etcd/%s/unit"},
	{"and the process that came of it", "", "etcd/%s/service"},
	// After that one, which starts the prober along with keepalived.
	{"a unit stopped", "systemctl stop hactl-prober.service", "keepalived/%s/prober-service"},
}

// slowFork keeps each process of the kubelet's unit a second long in the moment
// between systemd's fork and the program, in which it has systemd's environment: its
// stdin is a FIFO that is opened then. The unit is active meanwhile.
const slowFork = `mkfifo /run/slow-fork; mkdir -p /etc/systemd/system/kubelet.service.d
printf '[Service]\nStandardInput=file:/run/slow-fork\n' >/etc/systemd/system/kubelet.service.d/slow-fork.conf
cat >/run/slow-fork.sh <<'X'
through=
while sleep 0.1; do
  for d in /proc/[0-9]*; do
    read -r name <$d/comm; case "$name $through " in "("*" $d "*) continue;; "("*) ;; *) continue;; esac
    grep -q kubelet.service $d/cgroup || continue
    through="$through $d"
    [ "$name" != "(kubelet)" ] || { sleep 1; echo held >>/run/slow-fork.log; }
    : >/run/slow-fork
  done 2>/dev/null
done
X
systemd-run --quiet --unit=slow-fork sh /run/slow-fork.sh
`

// TestDriftIsNamedAndUndone makes every kind of drift on one master, finds each of
// them in the plan and nothing else, and has all undone.
func TestDriftIsNamedAndUndone(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	const on = "master-2"
	want := map[string]string{}
	for _, d := range drifts {
		labOutput(t, r.Lab, on, d.script)
		want[fmt.Sprintf(d.step, on)] = d.what
	}
	for id, item := range r.pending(t) {
		what, ok := want[id]
		if !ok {
			t.Errorf("the plan names %s (%s), which was not touched", id, item.Summary)
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
	held := labOutput(t, r.Lab, on, `systemctl stop slow-fork; rm /run/slow-fork /etc/systemd/system/kubelet.service.d/slow-fork.conf; systemctl daemon-reload; cat /run/slow-fork.log`)
	if n := strings.Count(held, "held"); n < 2 { // once by hand, once by hactl
		t.Errorf("%d starts of the kubelet were held up: %q", n, held)
	}
	t.Logf("kinds of drift tried: %d", len(drifts))
}

// TestLabelsAndTaintsFollowTheInventory changes a worker's labels and taints in the
// inventory of a running cluster, and takes a label away by hand. A label that is not
// hactl's stays.
func TestLabelsAndTaintsFollowTheInventory(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	const on, step = "worker-1", "kubeadm/master-1/labels"
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
		if out := r.kubectlSays(t, "get", "node", on, "-o", `jsonpath={.metadata.labels.disk},{.metadata.labels.team} {.spec.taints[*].key}`); out != labels+" "+taints {
			t.Errorf("the node has %q", out)
		}
		r.inSync(t)
	}
	r.kubectlDoes(t, "label", "node", on, "team=theirs")
	r.inSync(t)
	edit("    labels: {disk: ssd}\n    taints: [{key: dedicated, value: x, effect: PreferNoSchedule}]\n")
	follows("label disk=ssd, taint dedicated=x:PreferNoSchedule", "ssd,theirs", "dedicated")
	r.kubectlDoes(t, "label", "node", on, "disk-")
	follows("label disk=ssd", "ssd,theirs", "dedicated")
	edit("    labels: {disk: hdd}\n")
	follows(`label disk=hdd in place of "ssd", remove taint dedicated=x:PreferNoSchedule`, "hdd,theirs", "")
	edit("")
	follows("remove label disk=hdd", ",theirs", "")
	r.kubectlDoes(t, "label", "node", on, "team-")
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

// TestRemovedPackageIsNamed takes a package from a host, which has no way to fetch it
// again: the plan has to name it. Then it is put back by hand.
func TestRemovedPackageIsNamed(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	const on, name = "master-3", "socat"
	labOutput(t, r.Lab, on, "tar -cf /root/package.tar /var/lib/dpkg/status $(dpkg -L "+name+" | while read -r f; do [ -d $f ] || echo $f; done) /var/lib/dpkg/info/"+name+".* 2>/dev/null && dpkg --remove --force-depends "+name)
	items := r.pending(t)
	if i := items["host/"+on+"/packages"]; len(items) != 1 || !strings.Contains(i.Summary, name) {
		t.Errorf("%+v", items)
	}
	labOutput(t, r.Lab, on, "tar -xf /root/package.tar -C /")
	r.inSync(t)
}

// TestWhatAClusterHasOnceIsMadeAgain takes away what kubeadm init makes once a cluster, as if the host that
// does had been lost before.
func TestWhatAClusterHasOnceIsMadeAgain(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, gone := range [][]string{{"kube-system", "configmap", "kubeadm-config"}, {"kube-public", "configmap", "cluster-info"}, {"kube-system", "daemonset", "kube-proxy"}} {
		r.kubectlDoes(t, "-n", gone[0], "delete", gone[1], gone[2])
	}
	if items := r.pending(t); len(items) != 1 || items["kubeadm/master-1/once"].Summary == "" {
		t.Errorf("%+v", items)
	}
	r.must(t, 0, "up", "--yes")
	r.kubectlSays(t, "-n", "kube-public", "get", "configmap", "cluster-info", "-o", "name")
	r.inSync(t)
}

// TestForeignCAIsNeverReplaced puts another CA in the place of the cluster's: up must not replace
// it, nor issue anything of its own over it.
func TestForeignCAIsNeverReplaced(t *testing.T) {
	inTurn(t)
	r := cluster(t)
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

// TestKubeadmsCertificates lets certificates that kubeadm made come to their end,
// and damages files of its as a power cut does.
func TestKubeadmsCertificates(t *testing.T) {
	inTurn(t)
	const on = "master-1"
	r := newRig(t, lab.Config{Name: nextName("certs"), Masters: 1})
	r.must(t, 0, "up", "--yes")
	r.inSync(t)
	then(t, "a certificate that is about to expire is bad, named and renewed, and the apiserver serves the new one", func(t *testing.T) {
		r.certificateOfADay(t, on)
		if res := r.must(t, 5, "status"); !strings.Contains(res.out, "days ("+tomorrow(t, r, on)+"), on "+on) {
			t.Errorf("%s", res)
		}
		r.renewed(t, on, "renew certificates: apiserver.crt expires "+tomorrow(t, r, on))
	})
	then(t, "a renewal that ended before the restart is completed", func(t *testing.T) {
		labOutput(t, r.Lab, on, "cd /etc/kubernetes && touch hactl-renewing && : >pki/front-proxy-client.key && : >scheduler.conf")
		r.must(t, 0, "up", "--yes")
		r.healthy(t)
		r.inSync(t)
	})
	then(t, "what a power cut left of kubeadm's files is made anew", func(t *testing.T) {
		labOutput(t, r.Lab, on, "cd /etc/kubernetes && rm hactl-initialised pki/apiserver-kubelet-client.key && : >pki/apiserver.key && : >admin.conf && truncate -s 8192 controller-manager.conf && truncate -s 1500 scheduler.conf")
		const want = "made anew: apiserver.key (empty), apiserver-kubelet-client.crt (without its key), admin.conf (empty), controller-manager.conf (cut short), scheduler.conf (cut short)"
		if i := r.pending(t)["kubeadm/"+on+"/init"]; !strings.Contains(i.Summary, want) {
			t.Errorf("%+v", i)
		}
		r.must(t, 0, "up", "--yes")
		r.healthy(t)
		r.inSync(t)
	})
}

// certificateOfADay puts one in the place of the apiserver's, which differs from
// it in nothing else.
func (r *rig) certificateOfADay(t *testing.T, on string) {
	t.Helper()
	labOutput(t, r.Lab, on, `cd /etc/kubernetes/pki && openssl x509 -in apiserver.crt -x509toreq -signkey apiserver.key -copy_extensions copyall -out /root/csr 2>/dev/null &&
openssl x509 -req -in /root/csr -copy_extensions copyall -CA ca.crt -CAkey ca.key -set_serial 7 -days 1 -out /root/crt 2>/dev/null && cat /root/crt >apiserver.crt`)
}

// tomorrow is when it ends.
func tomorrow(t *testing.T, r *rig, on string) string {
	t.Helper()
	return labOutput(t, r.Lab, on, `date -u -d "$(openssl x509 -noout -enddate -in /root/crt | cut -d= -f2)" +%F`)
}

// renewed asks for that alone in the plan, for up to do it, and for the apiserver to
// serve the new certificate. No process of the control plane restarts.
func (r *rig) renewed(t *testing.T, on, summary string) {
	t.Helper()
	items := r.pending(t)
	if i := items["kubeadm/"+on+"/certificates"]; len(items) != 1 || i.Summary != summary {
		t.Errorf("%+v, want %s", items, summary)
	}
	processes := func() map[string]string { // pids
		t.Helper()
		out := map[string]string{}
		eventually(t, "one process of each kind", func() error {
			clear(out)
			all := strings.Fields(labOutput(t, r.Lab, on, `for d in /proc/[0-9]*; do name=$(cat $d/comm 2>/dev/null); case $name in kube-apiserver | kube-controller | kube-scheduler) echo $name ${d#/proc/} ;; esac; done`))
			for p := range slices.Chunk(all, 2) {
				out[p[0]] = p[1]
			}
			if len(out) != 3 || len(all) != 6 {
				return fmt.Errorf("%q", all)
			}
			return nil
		})
		return out
	}
	before := processes()
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 1 {
		t.Errorf("%+v", u)
	}
	for name, pid := range processes() {
		if t.Logf("%s was process %s, is %s", name, before[name], pid); pid != before[name] {
			t.Errorf("%s was started anew", name)
		}
	}
	served := labOutput(t, r.Lab, on, `for c in "$(openssl s_client -connect 10.77.0.11:6443 </dev/null 2>/dev/null)" "$(cat /etc/kubernetes/pki/apiserver.crt)"; do
echo "$c" | openssl x509 -noout -fingerprint && echo "$c" | openssl x509 -noout -checkend 31000000 && echo "$c" | openssl x509 -noout -enddate; done | sort -u`)
	t.Logf("served: %s", served)
	if strings.Count(served, "\n") != 2 || !strings.Contains(served, "will not expire") {
		t.Error("the apiserver does not serve the new certificate")
	}
	if u := r.must(t, 0, "up", "--yes", "-o", "json").up(t); u.Changed != 0 {
		t.Errorf("a second up: %+v", u)
	}
}
